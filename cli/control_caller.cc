#include "cli/control_caller.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

namespace uzram {
namespace {

// The groups of the process at the other end besides its first.
std::vector<gid_t> supplementary_groups(int socket) {
  std::vector<gid_t> groups;
  socklen_t size = 0;
  (void)getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, nullptr, &size);
  groups.resize(size / sizeof(gid_t));
  if (groups.empty() || getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, groups.data(), &size) != 0) return {};
  return groups;
}

}  // namespace

bool ControlCaller::is_trusted(std::optional<gid_t> group) const {
  ucred peer{};
  socklen_t size = sizeof peer;
  if (getsockopt(socket_, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return false;
  if (peer.uid == 0 || peer.uid == ::geteuid()) return true;
  if (!group) return false;
  const auto groups = supplementary_groups(socket_);
  return peer.gid == *group || std::find(groups.begin(), groups.end(), *group) != groups.end();
}

ControlCaller::ControlCaller(int socket, std::chrono::milliseconds request_time, std::chrono::milliseconds patience)
    : socket_(socket), deadline_(Clock::now() + request_time), patience_(patience) {}

bool ControlCaller::wait(short events, Clock::time_point deadline) const {
  for (;;) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
    pollfd wait{socket_, events, 0};
    const int ready = left > 0 ? ::poll(&wait, 1, static_cast<int>(left)) : 0;
    if (ready >= 0 || errno != EINTR) return ready > 0;
  }
}

bool ControlCaller::is_readable() const {
  return begin_ < end_ || wait(POLLIN, std::min<Clock::time_point>(deadline_, Clock::now() + patience_));
}

bool ControlCaller::is_writable() const { return wait(POLLOUT, Clock::now() + patience_); }

ssize_t ControlCaller::read(char* to, std::size_t size) {
  if (begin_ == end_) {
    ssize_t n = 0;
    do {
      if (!is_readable()) return -1;
      n = ::recv(socket_, buffer_.data(), buffer_.size(), MSG_DONTWAIT);
    } while (n < 0 && (errno == EINTR || errno == EAGAIN));
    if (n <= 0) return n;
    begin_ = 0;
    end_ = static_cast<std::size_t>(n);
  }
  const std::size_t n = std::min(size, end_ - begin_);
  std::memcpy(to, buffer_.data() + begin_, n);
  begin_ += n;
  return static_cast<ssize_t>(n);
}

// All of it: httplib takes what is left of a header for sent.
ssize_t ControlCaller::write(const char* from, std::size_t size) {
  for (std::size_t done = 0; done < size;) {
    if (!is_writable()) return -1;
    const ssize_t n = ::send(socket_, from + done, size - done, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && errno != EINTR && errno != EAGAIN) return -1;
    if (n > 0) done += static_cast<std::size_t>(n);
  }
  return static_cast<ssize_t>(size);
}

}  // namespace uzram
