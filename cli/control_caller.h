#pragma once
// One caller's connection to the control endpoint: who it is, and reads and writes that end in time.
//
// Threads: that of its request.

#include <sys/types.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <optional>

namespace uzram {

class ControlCaller {
 public:
  // May be silent, or not read, for `patience`; and its request must come whole in `request_time`.
  ControlCaller(int socket, std::chrono::milliseconds request_time, std::chrono::milliseconds patience);

  // Whether the process at the other end runs as root, as this user, or as a member of `group`, by the kernel's word.
  [[nodiscard]] bool is_trusted(std::optional<gid_t> group) const;

  [[nodiscard]] int socket() const { return socket_; }
  [[nodiscard]] bool is_readable() const;
  [[nodiscard]] bool is_writable() const;
  // As recv and send; -1 where the time is over.
  [[nodiscard]] ssize_t read(char* to, std::size_t size);
  [[nodiscard]] ssize_t write(const char* from, std::size_t size);

 private:
  using Clock = std::chrono::steady_clock;
  [[nodiscard]] bool wait(short events, Clock::time_point deadline) const;

  const int socket_;
  const Clock::time_point deadline_;
  const std::chrono::milliseconds patience_;
  std::array<char, 4096> buffer_;
  std::size_t begin_ = 0;  // what has come and was not taken: from here
  std::size_t end_ = 0;    // to here
};

}  // namespace uzram
