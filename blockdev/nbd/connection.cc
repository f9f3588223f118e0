#include "blockdev/nbd/connection.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <thread>

#include "blockdev/nbd/tls_session.h"

namespace uzram::nbd {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kMemoryPause{1};
// How long a wait for bytes stays awake: about what a virtual machine takes to wake a processor, twice.
constexpr std::chrono::microseconds kAwake{50};

int milliseconds_until(Deadline deadline) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
  return static_cast<int>(std::clamp<long long>(left, 0, 1 << 30));
}

// Whether a client may be at work while this thread is.
bool has_other_processors() {
  static const bool has = [] {
    cpu_set_t mine;
    return sched_getaffinity(0, sizeof mine, &mine) == 0 && CPU_COUNT(&mine) > 1;
  }();
  return has;
}

void set_option(int fd, int level, int name, int value) { (void)setsockopt(fd, level, name, &value, sizeof value); }

}  // namespace

Connection::Connection(Fd socket, int stop_fd) : socket_(std::move(socket)), stop_fd_(stop_fd) {
  // On a unix socket the TCP options fail and mean nothing.
  set_option(socket_.get(), IPPROTO_TCP, TCP_NODELAY, 1);
  set_option(socket_.get(), SOL_SOCKET, SO_KEEPALIVE, 1);
  const timeval stall{kStallSeconds, 0};
  (void)setsockopt(socket_.get(), SOL_SOCKET, SO_RCVTIMEO, &stall, sizeof stall);
  limit_sends(std::chrono::seconds(kStallSeconds));
}

Connection::Connection(Connection&&) noexcept = default;

Connection::~Connection() = default;

bool Connection::is_local() const {
  int domain = 0;
  socklen_t size = sizeof domain;
  return getsockopt(socket_.get(), SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0 && domain == AF_UNIX;
}

Peer Connection::peer() const {
  Peer peer;
  ucred credentials{};
  socklen_t size = sizeof credentials;
  if (is_local() && getsockopt(socket_.get(), SOL_SOCKET, SO_PEERCRED, &credentials, &size) == 0) {
    peer.uid = credentials.uid;
  }
  if (tls_) tls_->identify(peer);
  return peer;
}

std::string Connection::start_tls(const TlsCredentials& credentials, Deadline deadline) {
  auto tls = std::make_unique<TlsSession>(socket_.get(), credentials);
  for (;;) {
    const TlsSession::Step step = tls->handshake();
    if (step == TlsSession::Step::failed) return "TLS: " + tls->error();
    if (step == TlsSession::Step::done) break;
    const short events = step == TlsSession::Step::reading ? POLLIN : POLLOUT;
    pollfd waits[] = {{socket_.get(), events, 0}, {stop_fd_, POLLIN, 0}};
    const int ready = poll(waits, 2, milliseconds_until(deadline));
    if (ready == 0) return "the TLS handshake took too long";
    if (ready > 0 && waits[1].revents != 0 && waits[0].revents == 0) return "the server is shutting down";
  }
  tls_ = std::move(tls);
  return {};
}

// As recv.
ssize_t Connection::take(std::span<std::byte> out, int flags) {
  if (tls_) return tls_->receive(out, flags);
  return recv(socket_.get(), out.data(), out.size(), flags);
}

// As take(out, 0). While waits are short it does not sleep at once, but lets others run and looks again: a client on
// another processor then finds somebody awake, and is spared what waking one costs.
ssize_t Connection::wait_and_take(std::span<std::byte> out) {
  const auto begin = Clock::now();
  while (awake_ && Clock::now() - begin < kAwake) {
    const ssize_t n = take(out, MSG_DONTWAIT);
    if (n >= 0 || errno != EAGAIN) return n;
    sched_yield();
  }
  const ssize_t n = take(out, 0);
  awake_ = has_other_processors() && Clock::now() - begin < 2 * kAwake;
  return n;
}

Connection::Received Connection::receive_all(std::span<std::byte> out, Deadline deadline, bool begun) {
  std::size_t done = 0;
  bool stopping = false;
  while (done < out.size()) {
    const ssize_t n = take(out.subspan(done), MSG_DONTWAIT);
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
  while (!pause_wanted()) {
    const ssize_t n = wait_and_take(out);
    if (n >= 0) return static_cast<std::size_t>(n);
    if (errno != EINTR && (errno != EAGAIN || stall_limit)) return 0;
  }
  return 0;
}

std::size_t Connection::receive_ready(std::span<std::byte> out) {
  const ssize_t n = take(out, MSG_DONTWAIT);
  return n > 0 ? static_cast<std::size_t>(n) : 0;
}

bool Connection::send_all(std::span<const std::byte> bytes) {
  can_send_ = can_send_ && (tls_ ? tls_->send(bytes) : send_clear(bytes));
  return can_send_;
}

std::size_t Connection::send_ready(std::span<const std::byte> bytes) {
  if (!can_send_) return 0;
  const ssize_t n = send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  return n > 0 ? static_cast<std::size_t>(n) : 0;  // whoever waits for it sees why
}

bool Connection::send_clear(std::span<const std::byte> bytes) {
  std::optional<Deadline> end;  // asked for only where it is needed
  while (!bytes.empty()) {
    const ssize_t n = send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n >= 0) {
      bytes = bytes.subspan(static_cast<std::size_t>(n));
    } else if (errno == ENOBUFS || errno == ENOMEM) {
      // The machine is short of memory for a moment, and may be waiting for these very bytes.
      if (!end) end = Clock::now() + std::chrono::seconds(kStallSeconds);
      if (Clock::now() > *end) return false;
      std::this_thread::sleep_for(kMemoryPause);
    } else if (errno != EINTR) {
      return false;
    }
  }
  return true;
}

void Connection::interrupt(Interrupt what) {
  (void)shutdown(socket_.get(), what == Interrupt::reading ? SHUT_RD : SHUT_RDWR);
}

void Connection::limit_sends(std::chrono::milliseconds patience) {
  // A time of 0 would be no limit at all.
  const auto milliseconds = std::max<long long>(patience.count(), 1);
  const timeval limit{milliseconds / 1000, milliseconds % 1000 * 1000};
  (void)setsockopt(socket_.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
}

void Connection::say_goodbye() {
  if (tls_) tls_->close();
}

}  // namespace uzram::nbd
