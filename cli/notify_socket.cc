#include "cli/notify_socket.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <system_error>

namespace uzram {
namespace {

constexpr std::size_t kMaxText = 4096;
constexpr std::size_t kMaxFds = 16;

[[noreturn]] void no_socket() {
  throw std::system_error(errno, std::generic_category(), "cannot make a socket for the daemon to report to");
}

}  // namespace

std::optional<std::string> Notification::value(const std::string& variable) const {
  const std::string lines = "\n" + text + "\n";
  const auto at = lines.find("\n" + variable + "=");
  if (at == std::string::npos) return std::nullopt;
  const auto from = at + variable.size() + 2;
  return lines.substr(from, lines.find('\n', from) - from);
}

NotifySocket::NotifySocket() : fd_(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) {
  const int on = 1;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  // An address of the family alone makes the kernel choose an abstract name: nothing is left behind in a folder.
  if (!fd_.valid() || ::setsockopt(fd_.get(), SOL_SOCKET, SO_PASSCRED, &on, sizeof on) != 0 ||
      ::bind(fd_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(sa_family_t)) != 0) {
    no_socket();
  }
  socklen_t length = sizeof address;
  if (::getsockname(fd_.get(), reinterpret_cast<sockaddr*>(&address), &length) != 0) no_socket();
  name_ = "@" + std::string(address.sun_path + 1, length - offsetof(sockaddr_un, sun_path) - 1);
}

std::optional<Notification> NotifySocket::receive(pid_t from) {
  while (auto received = receive_any()) {
    if (received->from == from) return std::move(received->message);
  }
  return std::nullopt;
}

std::optional<NotifySocket::Received> NotifySocket::receive_any() {
  std::array<char, kMaxText> text;
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof(ucred)) + CMSG_SPACE(kMaxFds * sizeof(int))> control;
  iovec part{text.data(), text.size()};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control.data();
  header.msg_controllen = control.size();
  ssize_t n = 0;
  do {
    n = ::recvmsg(fd_.get(), &header, MSG_CMSG_CLOEXEC);
  } while (n < 0 && errno == EINTR);
  if (n < 0) return std::nullopt;
  Received received;
  received.message.text.assign(text.data(), static_cast<std::size_t>(n));
  for (cmsghdr* c = CMSG_FIRSTHDR(&header); c != nullptr; c = CMSG_NXTHDR(&header, c)) {
    if (c->cmsg_level != SOL_SOCKET) continue;
    if (c->cmsg_type == SCM_CREDENTIALS) {
      ucred sender{};
      std::memcpy(&sender, CMSG_DATA(c), sizeof sender);
      received.from = sender.pid;
    } else if (c->cmsg_type == SCM_RIGHTS) {
      for (std::size_t i = 0; CMSG_LEN((i + 1) * sizeof(int)) <= c->cmsg_len; ++i) {
        int fd = -1;
        std::memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
        received.message.fds.emplace_back(fd);
      }
    }
  }
  return received;
}

}  // namespace uzram
