#pragma once
// One client's socket: what handshake and session receive from and send to, in the clear or, behind start_tls,
// encrypted.
//
// Threads: one thread receives, one at a time sends; `interrupt` may come from any other while the object lives.

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include "blockdev/fd.h"
#include "blockdev/nbd/access.h"

namespace uzram::nbd {

class TlsCredentials;
class TlsSession;

using uzram::Fd;

using Deadline = std::chrono::steady_clock::time_point;

class Connection {
 public:
  // How far a receive with a deadline came.
  enum class Received { all, closed, stopping, late };

  // `stop_fd` is readable once the server stops; it outlives the connection.
  Connection(Fd socket, int stop_fd);
  Connection(Connection&&) noexcept;
  Connection& operator=(Connection&&) = delete;
  ~Connection();

  // Whether the client is on this machine, on a unix socket.
  [[nodiscard]] bool is_local() const;

  // Who the client has proved to be so far.
  [[nodiscard]] Peer peer() const;

  // Lets the client begin TLS; what it has sent already is taken for that. Empty when it is done, else why it failed:
  // then the connection is of no more use. `credentials` outlive the connection.
  [[nodiscard]] std::string start_tls(const TlsCredentials& credentials, Deadline deadline);
  [[nodiscard]] bool is_encrypted() const { return tls_ != nullptr; }

  // Fills `out`. A message that has begun (in `out`, or before it: `begun`) when the server stops is given a second
  // to end; before that, a stop gives `stopping`.
  [[nodiscard]] Received receive_all(std::span<std::byte> out, Deadline deadline, bool begun);

  // Waits for bytes and returns how many were put into `out`; 0 where no more will come. With `stall_limit` it also
  // gives up, with 0, when nothing has come for kStallSeconds. Where a pause is wanted it returns 0 at once, and when
  // kInterruptSignal comes.
  [[nodiscard]] std::size_t receive_some(std::span<std::byte> out, bool stall_limit);

  // As receive_some, but does not wait: 0 also where nothing has come yet.
  [[nodiscard]] std::size_t receive_ready(std::span<std::byte> out);

  // False where the client is gone, or has not read for kStallSeconds, or as long as limit_sends says; and then for
  // ever, because a part may have been sent.
  [[nodiscard]] bool send_all(std::span<const std::byte> bytes);
  // As send_all, but does not wait: how many bytes were taken. The connection is not encrypted.
  [[nodiscard]] std::size_t send_ready(std::span<const std::byte> bytes);
  [[nodiscard]] bool can_send() const { return can_send_; }
  void limit_sends(std::chrono::milliseconds patience);

  [[nodiscard]] bool stopping() const;

  // From now on a pause is wanted whenever `pause` is set; it outlives the connection.
  void obey(const std::atomic<bool>& pause) { pause_ = &pause; }
  [[nodiscard]] bool pause_wanted() const { return pause_ != nullptr && pause_->load(std::memory_order_relaxed); }
  [[nodiscard]] int fd() const { return socket_.get(); }

  // Handled, and sent to a thread that receives, it makes it look whether a pause is wanted.
  static constexpr int kInterruptSignal = SIGURG;

  // How `interrupt` ends things: a read side that is shut still gives what has arrived.
  enum class Interrupt { reading, everything };
  void interrupt(Interrupt what);

  // Tells a client that expects to be told that nothing follows. By the thread that sends, and not waiting.
  void say_goodbye();

  static constexpr int kStallSeconds = 60;

 private:
  [[nodiscard]] ssize_t take(std::span<std::byte> out, int flags);
  [[nodiscard]] ssize_t wait_and_take(std::span<std::byte> out);
  [[nodiscard]] bool send_clear(std::span<const std::byte> bytes);

  Fd socket_;
  bool can_send_ = true;
  bool awake_ = false;  // whether the next wait may be short
  int stop_fd_;
  const std::atomic<bool>* pause_ = nullptr;
  std::unique_ptr<TlsSession> tls_;
};

}  // namespace uzram::nbd
