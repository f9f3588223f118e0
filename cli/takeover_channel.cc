#include "cli/takeover_channel.h"

#include <sys/socket.h>
#include <sys/time.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>

namespace uzram {
namespace {

constexpr std::size_t kControlBytes = CMSG_SPACE(kMaxStepFds * sizeof(int));

template <class Call>
ssize_t again(const Call& call) {
  ssize_t n = 0;
  do {
    n = call();
  } while (n < 0 && errno == EINTR);
  return n;
}

}  // namespace

bool send_step(int channel, const StepMessage& message, std::span<const int> fds) {
  if (fds.size() > kMaxStepFds) return false;
  alignas(cmsghdr) std::array<std::byte, kControlBytes> control{};
  StepMessage copy = message;
  iovec part{&copy, sizeof copy};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  if (!fds.empty()) {
    header.msg_control = control.data();
    header.msg_controllen = CMSG_SPACE(fds.size_bytes());
    cmsghdr* const c = CMSG_FIRSTHDR(&header);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(fds.size_bytes());
    std::memcpy(CMSG_DATA(c), fds.data(), fds.size_bytes());
  }
  return again([&] { return ::sendmsg(channel, &header, MSG_NOSIGNAL); }) == static_cast<ssize_t>(sizeof copy);
}

std::optional<ReceivedStep> receive_step(int channel) {
  alignas(cmsghdr) std::array<std::byte, kControlBytes> control;
  ReceivedStep received;
  iovec part{&received.message, sizeof received.message};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control.data();
  header.msg_controllen = control.size();
  const ssize_t n = again([&] { return ::recvmsg(channel, &header, MSG_WAITALL | MSG_CMSG_CLOEXEC); });
  for (cmsghdr* c = n < 0 ? nullptr : CMSG_FIRSTHDR(&header); c != nullptr; c = CMSG_NXTHDR(&header, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    for (std::size_t i = 0; CMSG_LEN((i + 1) * sizeof(int)) <= c->cmsg_len; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
      received.fds.emplace_back(fd);
    }
  }
  received.message.text.back() = 0;
  if (n != static_cast<ssize_t>(sizeof received.message) || received.message.magic != kTakeoverMagic) {
    return std::nullopt;
  }
  return received;
}

void set_patience(int channel, std::chrono::seconds patience) {
  const timeval time{patience.count(), 0};
  (void)::setsockopt(channel, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time);
  (void)::setsockopt(channel, SOL_SOCKET, SO_SNDTIMEO, &time, sizeof time);
}

StepMessage refused(std::string_view why) {
  StepMessage message;
  message.step = Step::refused;
  std::copy_n(why.data(), std::min(why.size(), message.text.size() - 1), message.text.data());
  return message;
}

}  // namespace uzram
