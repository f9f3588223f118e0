#include "blockdev/nbd/listener.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace uzram::nbd {
namespace {

constexpr int kSocketType = SOCK_STREAM | SOCK_CLOEXEC;

std::string quoted(const std::string& text) { return "'" + text + "'"; }

sockaddr_un unix_address(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

// Makes room for a socket at `path`: nothing there, or a socket without a server, which is removed.
Result<void> clear_path(const std::string& path) {
  struct stat info {};
  if (lstat(path.c_str(), &info) != 0) {
    if (errno == ENOENT) return {};
    return fail_errno("cannot use the socket path " + quoted(path));
  }
  if (!S_ISSOCK(info.st_mode)) return fail(EEXIST, quoted(path) + " exists and is not a socket");
  const Fd probe(socket(AF_UNIX, kSocketType | SOCK_NONBLOCK, 0));
  const sockaddr_un address = unix_address(path);
  if (connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 || errno == EAGAIN) {
    return fail(EADDRINUSE, "a running server listens on " + quoted(path));
  }
  if (errno != ECONNREFUSED) return fail_errno("cannot tell whether a server listens on " + quoted(path));
  if (unlink(path.c_str()) != 0) return fail_errno("cannot remove the stale socket " + quoted(path));
  return {};
}

// The port that a bound socket has.
std::uint16_t port_of(int fd) {
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) != 0) return 0;
  return ntohs(address.ss_family == AF_INET6 ? reinterpret_cast<sockaddr_in6&>(address).sin6_port
                                             : reinterpret_cast<sockaddr_in&>(address).sin_port);
}

void set_port(sockaddr& address, std::uint16_t port) {
  if (address.sa_family == AF_INET6) reinterpret_cast<sockaddr_in6&>(address).sin6_port = htons(port);
  if (address.sa_family == AF_INET) reinterpret_cast<sockaddr_in&>(address).sin_port = htons(port);
}

// Invalid, with errno set, where it fails.
Fd listen_on(const addrinfo& address) {
  Fd fd(socket(address.ai_family, kSocketType | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return fd;
  const int on = 1;
  (void)setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (address.ai_family == AF_INET6) (void)setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
  if (bind(fd.get(), address.ai_addr, address.ai_addrlen) != 0) return Fd();
  if (::listen(fd.get(), SOMAXCONN) != 0) return Fd();
  return fd;
}

}  // namespace

UnixListener::UnixListener(Fd fd, std::string path) : fd_(std::move(fd)), path_(std::move(path)) {
  struct stat info {};
  if (lstat(path_.c_str(), &info) == 0) {
    device_ = info.st_dev;
    inode_ = info.st_ino;
  }
}

UnixListener::~UnixListener() {
  struct stat info {};
  const bool moved_from = !fd_.valid();
  if (moved_from || lstat(path_.c_str(), &info) != 0) return;
  if (info.st_dev == device_ && info.st_ino == inode_) (void)unlink(path_.c_str());
}

Result<UnixListener> UnixListener::listen(const std::string& path, std::optional<gid_t> group) {
  constexpr std::size_t kMaxPath = sizeof(sockaddr_un::sun_path) - 1;
  if (path.size() > kMaxPath) {
    return fail(ENAMETOOLONG,
                "the socket path " + quoted(path) + " is longer than " + std::to_string(kMaxPath) + " bytes");
  }
  if (auto cleared = clear_path(path); !cleared) return tl::unexpected(cleared.error());
  Fd fd(socket(AF_UNIX, kSocketType | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return fail_errno("cannot make a unix socket");
  // bind gives the file the mode of the socket, so that it is never open to others.
  (void)fchmod(fd.get(), S_IRUSR | S_IWUSR);
  const sockaddr_un address = unix_address(path);
  std::string own = path;  // here, where there is no file yet that somebody has to remove
  if (bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return fail_errno("cannot make the socket " + quoted(path));
  }
  UnixListener listener(std::move(fd), std::move(own));
  if (group && (lchown(path.c_str(), static_cast<uid_t>(-1), *group) != 0 || chmod(path.c_str(), 0660) != 0)) {
    return fail_errno("cannot give " + quoted(path) + " to the group");
  }
  if (::listen(listener.fd(), SOMAXCONN) != 0) return fail_errno("cannot listen on " + quoted(path));
  return listener;
}

bool UnixListener::is_at(const Fd& fd, const std::string& path) {
  sockaddr_un address{};
  socklen_t length = sizeof address - 1;
  struct stat info {};
  return getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &length) == 0 && address.sun_family == AF_UNIX &&
         path == address.sun_path && lstat(path.c_str(), &info) == 0 && S_ISSOCK(info.st_mode);
}

std::optional<UnixListener> UnixListener::adopt(Fd fd, const std::string& path) {
  if (!is_at(fd, path)) return std::nullopt;
  return UnixListener(std::move(fd), path);
}

std::pair<UnixListener, std::string> UnixListener::borrow(Fd fd) {
  sockaddr_un address{};
  socklen_t length = sizeof address - 1;
  (void)getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &length);
  // As our own: the accept loop looks before it accepts, and must not wait where a client has gone meanwhile.
  (void)fcntl(fd.get(), F_SETFL, O_NONBLOCK);
  return {UnixListener(std::move(fd), ""), address.sun_path};
}

TcpListeners TcpListeners::adopt(std::vector<Fd> fds) {
  const std::uint16_t port = fds.empty() ? 0 : port_of(fds.front().get());
  return {.fds = std::move(fds), .port = port};
}

Result<TcpListeners> TcpListeners::listen(const std::string& host, std::uint16_t port) {
  const std::string where = host + " port " + std::to_string(port);
  addrinfo hints{};
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int error = getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found);
  if (error != 0) return fail(EADDRNOTAVAIL, "cannot listen on " + where + ": " + gai_strerror(error));
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> addresses(found, freeaddrinfo);

  TcpListeners listeners{.fds = {}, .port = port};
  for (addrinfo* address = found; address != nullptr; address = address->ai_next) {
    set_port(*address->ai_addr, listeners.port);
    Fd fd = listen_on(*address);
    if (fd.valid()) {
      listeners.port = port_of(fd.get());
      listeners.fds.push_back(std::move(fd));
    } else if (errno != EAFNOSUPPORT && errno != EADDRNOTAVAIL) {
      return fail_errno("cannot listen on " + where);
    }
  }
  if (listeners.fds.empty()) return fail_errno("cannot listen on " + where);
  return listeners;
}

}  // namespace uzram::nbd
