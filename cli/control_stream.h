#pragma once
// One caller's connection to the control endpoint, as httplib wants to read and write it; and who the caller is.
// A caller that is slow is cut off: it may be silent for `patience`, and a request must come whole in `request_time`.
//
// Threads: that of its request.

#include <httplib.h>

#include <array>
#include <chrono>
#include <optional>

namespace uzram {

// Whether the process at the other end of a unix socket runs as root, as this user, or as a member of `group`.
[[nodiscard]] bool may_control(int socket, std::optional<gid_t> group);

class ControlStream : public httplib::Stream {
 public:
  // The address of a caller who may control the daemon; that of any other is empty.
  static constexpr const char* kTrusted = "trusted";

  ControlStream(int socket, bool trusted, std::chrono::milliseconds request_time, std::chrono::milliseconds patience);

  [[nodiscard]] bool is_readable() const override;
  [[nodiscard]] bool is_writable() const override;
  ssize_t read(char* to, std::size_t size) override;
  ssize_t write(const char* from, std::size_t size) override;
  void get_remote_ip_and_port(std::string& ip, int& /*port*/) const override { ip = trusted_ ? kTrusted : ""; }
  void get_local_ip_and_port(std::string& /*ip*/, int& /*port*/) const override {}
  [[nodiscard]] socket_t socket() const override { return socket_; }

 private:
  using Clock = std::chrono::steady_clock;
  [[nodiscard]] bool wait(short events, Clock::time_point deadline) const;

  const int socket_;
  const bool trusted_;
  const Clock::time_point deadline_;
  const std::chrono::milliseconds patience_;
  std::array<char, 4096> buffer_;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
};

}  // namespace uzram
