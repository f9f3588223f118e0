#include "cli/takeover.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <optional>
#include <system_error>
#include <thread>

#include "allocator/image.h"
#include "blockdev/nbd/event.h"
#include "cli/log.h"
#include "cli/takeover_channel.h"

namespace uzram {
namespace {

constexpr std::chrono::seconds kPeerPatience{10};

// A file of memory with these bytes.
Result<nbd::Fd> file_of(std::span<const std::byte> devices, std::span<const std::byte> clients) {
  nbd::Fd file(::memfd_create("uzram-image", MFD_CLOEXEC));
  for (auto part : {devices, clients}) {
    while (file.valid() && !part.empty()) {
      const ssize_t n = ::write(file.get(), part.data(), part.size());
      if (n < 0) return fail_errno("no memory for the image");
      part = part.subspan(static_cast<std::size_t>(n));
    }
  }
  return file;
}

std::optional<std::vector<std::byte>> read_part(int file, std::size_t bytes, std::size_t at) {
  std::vector<std::byte> part(bytes);
  for (std::size_t done = 0; done < bytes;) {
    const ssize_t n = ::pread(file, part.data() + done, bytes - done, static_cast<off_t>(at + done));
    if (n <= 0) return std::nullopt;
    done += static_cast<std::size_t>(n);
  }
  return part;
}

tl::unexpected<Error> no_answer(const std::string& step) {
  return fail(EPROTO, "--takeover: the running daemon does not answer as this version expects (" + step +
                          "): stop it, and start this one with the same state");
}

}  // namespace

std::string takeover_path(const std::string& control) { return control + ".takeover"; }

Result<Predecessor> Predecessor::ask(const std::string& path) {
  nbd::Fd channel(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return fail(ENAMETOOLONG, path + ": too long for a socket");
  std::memcpy(address.sun_path, path.data(), path.size());
  if (::connect(channel.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    const int code = errno;
    const bool nobody = code == ENOENT || code == ECONNREFUSED;
    return fail(code, "--takeover: " + path + ": " +
                          (nobody ? "no daemon that can hand over waits there (one with --state or --supervise does)"
                                  : std::strerror(code)));
  }
  set_patience(channel.get(), kPeerPatience);
  StepMessage hello;
  hello.step = Step::hello;
  hello.image_version = kImageVersion;
  auto answer = send_step(channel.get(), hello) ? receive_step(channel.get()) : std::nullopt;
  if (answer && answer->message.step == Step::refused) {
    return fail(EPERM, std::string("--takeover: ") + answer->message.text.data());
  }
  if (!answer || answer->message.step != Step::state || answer->fds.size() != 1) return no_answer("state");
  return Predecessor(std::move(channel), std::move(answer->fds.front()),
                     answer->message.image_version == kImageVersion);
}

Result<Inheritance> Predecessor::go() {
  StepMessage message;
  message.step = Step::go;
  auto answer = send_step(channel_.get(), message) ? receive_step(channel_.get()) : std::nullopt;
  if (!answer) return no_answer("everything");
  const StepMessage& all = answer->message;
  if (all.step == Step::refused) return fail(EBUSY, std::string("--takeover: ") + all.text.data());
  const std::size_t listeners = 3 + std::size_t{all.has_unix} + all.tcp;
  if (all.step != Step::everything || all.has_unix > 1 || answer->fds.size() < listeners) return no_answer("sockets");
  auto fd = answer->fds.begin();
  const nbd::Fd file = std::move(*fd++);
  auto devices = read_part(file.get(), all.devices_bytes, 0);
  auto clients = read_part(file.get(), all.clients_bytes, all.devices_bytes);
  if (!devices || !clients) return no_answer("image");
  Inheritance everything{.devices = std::move(*devices), .clients = std::move(*clients)};
  everything.takeover = std::move(*fd++);
  everything.control = std::move(*fd++);
  if (all.has_unix != 0) everything.unix_socket = std::move(*fd++);
  for (std::uint32_t i = 0; i < all.tcp; ++i) everything.tcp.push_back(std::move(*fd++));
  everything.sockets.assign(std::make_move_iterator(fd), std::make_move_iterator(answer->fds.end()));
  return everything;
}

Result<void> Predecessor::up() {
  StepMessage message;
  message.step = Step::up;
  if (send_step(channel_.get(), message)) return {};
  return fail(ETIMEDOUT, "--takeover: the running daemon has waited for too long, and serves on");
}

struct TakeoverPoint::State {
  nbd::UnixListener listener;
  int state;
  Hooks hooks;
  nbd::Fd stop_event{::eventfd(0, EFD_CLOEXEC)};
  std::thread thread{};

  void run();
  void answer(const nbd::Fd& channel);
  [[nodiscard]] bool hand_over(const nbd::Fd& channel, const Offer& offer) const;
};

void TakeoverPoint::State::run() {
  for (;;) {
    pollfd waits[] = {{listener.fd(), POLLIN, 0}, {stop_event.get(), POLLIN, 0}};
    (void)::poll(waits, 2, -1);
    if (waits[1].revents != 0) return;
    const nbd::Fd channel(::accept4(listener.fd(), nullptr, nullptr, SOCK_CLOEXEC));
    if (channel.valid()) answer(channel);
  }
}

void TakeoverPoint::State::answer(const nbd::Fd& channel) {
  ucred peer{};
  socklen_t size = sizeof peer;
  const bool known = ::getsockopt(channel.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0;
  if (!known || (peer.uid != 0 && peer.uid != ::geteuid())) return;
  set_patience(channel.get(), kPeerPatience);
  const auto hello = receive_step(channel.get());
  if (!hello || hello->message.step != Step::hello) return;
  StepMessage message;
  message.step = Step::state;
  message.image_version = kImageVersion;
  if (!send_step(channel.get(), message, {&state, 1})) return;
  const auto go = receive_step(channel.get());
  if (!go || go->message.step != Step::go) return;
  const auto offer = hooks.stop();
  if (!offer) {
    log_warning("not handed over: " + offer.error().message);
    (void)send_step(channel.get(), refused(offer.error().message));
    return;
  }
  if (hand_over(channel, *offer)) {
    log_info("handed over to process " + std::to_string(peer.pid));
    // Nothing is taken down: all of it is the other's.
    std::_Exit(0);
  }
  hooks.go_on();
  log_warning("process " + std::to_string(peer.pid) + " has not taken over: serving on");
}

bool TakeoverPoint::State::hand_over(const nbd::Fd& channel, const Offer& offer) const {
  const auto image = file_of(offer.devices, offer.clients);
  if (!image || !image->valid()) return false;
  StepMessage message;
  message.step = Step::everything;
  message.devices_bytes = static_cast<std::uint32_t>(offer.devices.size());
  message.clients_bytes = static_cast<std::uint32_t>(offer.clients.size());
  message.has_unix = offer.unix_socket >= 0 ? 1 : 0;
  message.tcp = static_cast<std::uint32_t>(offer.tcp.size());
  std::vector<int> fds = {image->get(), listener.fd(), offer.control};
  if (offer.unix_socket >= 0) fds.push_back(offer.unix_socket);
  fds.insert(fds.end(), offer.tcp.begin(), offer.tcp.end());
  fds.insert(fds.end(), offer.sockets.begin(), offer.sockets.end());
  if (!send_step(channel.get(), message, fds)) return false;
  const auto is_up = [&] {
    const auto step = receive_step(channel.get());
    return step && step->message.step == Step::up;
  };
  if (is_up()) return true;
  // It may be about to say so. From here on it cannot any more; what it has said is there to be read.
  (void)::shutdown(channel.get(), SHUT_RDWR);
  return is_up();
}

TakeoverPoint::TakeoverPoint(nbd::UnixListener listener, int state, Hooks hooks)
    : state_(new State{std::move(listener), state, std::move(hooks)}) {
  if (!state_->stop_event.valid()) throw std::system_error(errno, std::generic_category(), "no eventfd");
  state_->thread = std::thread([s = state_.get()] { s->run(); });
}

TakeoverPoint::~TakeoverPoint() {
  nbd::raise_event(state_->stop_event.get());
  if (state_->thread.joinable()) state_->thread.join();
}

}  // namespace uzram
