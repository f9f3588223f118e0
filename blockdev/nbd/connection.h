#pragma once
// One client's socket: what handshake and session receive from and send to.
//
// Threads: one thread receives and sends; `interrupt` may come from any other while the object lives.

#include <chrono>
#include <cstddef>
#include <span>
#include <utility>

namespace uzram::nbd {

// Owns a file descriptor.
class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Fd();

  [[nodiscard]] int get() const { return fd_; }
  [[nodiscard]] bool valid() const { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

using Deadline = std::chrono::steady_clock::time_point;

class Connection {
 public:
  // How far a receive with a deadline came.
  enum class Received { all, closed, stopping, late };

  // `stop_fd` is readable once the server stops; it outlives the connection.
  Connection(Fd socket, int stop_fd);

  // Fills `out`. A message that has begun (in `out`, or before it: `begun`) when the server stops is given a second
  // to end; before that, a stop gives `stopping`.
  [[nodiscard]] Received receive_all(std::span<std::byte> out, Deadline deadline, bool begun);

  // Waits for bytes and returns how many were put into `out`; 0 where no more will come. With `stall_limit` it also
  // gives up, with 0, when nothing has come for kStallSeconds.
  [[nodiscard]] std::size_t receive_some(std::span<std::byte> out, bool stall_limit);

  // False where the client is gone, or has not read for kStallSeconds.
  [[nodiscard]] bool send_all(std::span<const std::byte> bytes);

  [[nodiscard]] bool stopping() const;

  // How `interrupt` ends things: a read side that is shut still gives what has arrived.
  enum class Interrupt { reading, everything };
  void interrupt(Interrupt what);

  static constexpr int kStallSeconds = 60;

 private:
  Fd socket_;
  int stop_fd_;
};

}  // namespace uzram::nbd
