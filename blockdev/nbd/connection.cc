#include "blockdev/nbd/connection.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace uzram::nbd {
namespace {

using Clock = std::chrono::steady_clock;

int milliseconds_until(Deadline deadline) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
  return static_cast<int>(std::clamp<long long>(left, 0, 1 << 30));
}

void set_option(int fd, int level, int name, int value) { (void)setsockopt(fd, level, name, &value, sizeof value); }

}  // namespace

Fd::~Fd() {
  if (fd_ >= 0) close(fd_);
}

Connection::Connection(Fd socket, int stop_fd) : socket_(std::move(socket)), stop_fd_(stop_fd) {
  // On a unix socket the TCP options fail and mean nothing.
  set_option(socket_.get(), IPPROTO_TCP, TCP_NODELAY, 1);
  set_option(socket_.get(), SOL_SOCKET, SO_KEEPALIVE, 1);
  const timeval stall{kStallSeconds, 0};
  (void)setsockopt(socket_.get(), SOL_SOCKET, SO_RCVTIMEO, &stall, sizeof stall);
  (void)setsockopt(socket_.get(), SOL_SOCKET, SO_SNDTIMEO, &stall, sizeof stall);
}

Connection::Received Connection::receive_all(std::span<std::byte> out, Deadline deadline, bool begun) {
  std::size_t done = 0;
  bool stopping = false;
  while (done < out.size()) {
    const ssize_t n = recv(socket_.get(), out.data() + done, out.size() - done, MSG_DONTWAIT);
    if (n > 0) {
      done += static_cast<std::size_t>(n);
      continue;
    }
    if (n == 0 || (errno != EAGAIN && errno != EINTR)) return Received::closed;
    pollfd waits[] = {{socket_.get(), POLLIN, 0}, {stopping ? -1 : stop_fd_, POLLIN, 0}};
    const int ready = poll(waits, 2, milliseconds_until(deadline));
    if (ready == 0) return Received::late;
    if (ready > 0 && waits[1].revents != 0 && waits[0].revents == 0) {
      if (done == 0 && !begun) return Received::stopping;
      stopping = true;
      deadline = std::min(deadline, Clock::now() + std::chrono::seconds(1));
    }
  }
  return Received::all;
}

bool Connection::stopping() const {
  pollfd wait{stop_fd_, POLLIN, 0};
  return poll(&wait, 1, 0) > 0;
}

std::size_t Connection::receive_some(std::span<std::byte> out, bool stall_limit) {
  for (;;) {
    const ssize_t n = recv(socket_.get(), out.data(), out.size(), 0);
    if (n >= 0) return static_cast<std::size_t>(n);
    if (errno == EINTR || (errno == EAGAIN && !stall_limit)) continue;
    return 0;
  }
}

bool Connection::send_all(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t n = send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n >= 0) {
      bytes = bytes.subspan(static_cast<std::size_t>(n));
    } else if (errno != EINTR) {
      return false;
    }
  }
  return true;
}

void Connection::interrupt(Interrupt what) {
  (void)shutdown(socket_.get(), what == Interrupt::reading ? SHUT_RD : SHUT_RDWR);
}

}  // namespace uzram::nbd
