#include "blockdev/nbd/server.h"

#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <mutex>
#include <new>
#include <string>
#include <system_error>
#include <thread>
#include <utility>

#include "blockdev/nbd/client_set.h"
#include "blockdev/nbd/event.h"
#include "blockdev/nbd/listener.h"
#include "blockdev/nbd/small_thread.h"

namespace uzram::nbd {
namespace {

// How long accepting pauses when the process or the machine has no descriptor left.
constexpr int kPauseMilliseconds = 100;

// Signals are for the thread that asked to be told of them: threads that are started meanwhile get none.
class SignalsBlocked {
 public:
  SignalsBlocked() {
    sigset_t all;
    sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~SignalsBlocked() { (void)pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;

 private:
  sigset_t before_{};
};

std::string percent_encoded(std::string_view text) {
  constexpr std::string_view kHex = "0123456789ABCDEF";
  constexpr std::string_view kPlain = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/";
  std::string out;
  for (const char c : text) {
    if (kPlain.find(c) != std::string_view::npos) {
      out += c;
    } else {
      const auto byte = static_cast<unsigned char>(c);
      out += {'%', kHex[byte >> 4], kHex[byte & 15]};
    }
  }
  return out;
}

}  // namespace

struct Server::State {
  State(DeviceTable& device_table, const ServerOptions& server_options, std::unique_ptr<TlsCredentials> credentials)
      : options(server_options),
        tls(std::move(credentials)),
        devices(device_table),
        stop_event(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
        ended_event(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
        clients(devices, options, crew, tls.get(), stop_event.get(), ended_event.get()) {}

  void prepare_waits();
  void start_crew();
  void accept_loop();
  bool accept_from(int listener);

  const ServerOptions options;
  const std::unique_ptr<TlsCredentials> tls;
  DeviceTable& devices;
  const Fd stop_event;
  const Fd ended_event;
  std::optional<UnixListener> unix_listener;
  TcpListeners tcp;
  Crew crew;
  ClientSet clients;
  std::vector<pollfd> waits;  // the events, then the listeners; the acceptor's once it runs
  SmallThread acceptor;
  std::mutex accepting;   // held while a connection is accepted
  bool standing = false;  // guarded by accepting; nobody is accepted
};

Result<std::unique_ptr<Server>> Server::listen(DeviceTable& devices, const ServerOptions& options,
                                               Listeners&& inherited) {
  std::unique_ptr<TlsCredentials> tls;
  if (options.tls.offered()) {
    auto loaded = TlsCredentials::load(options.tls);
    if (!loaded) return tl::unexpected(std::move(loaded.error()));
    tls = std::move(*loaded);
  }
  auto state = std::make_unique<State>(devices, options, std::move(tls));
  if (!state->stop_event.valid() || !state->ended_event.valid()) {
    return fail_errno("cannot make an eventfd");
  }
  if (inherited.unix_socket) {
    state->unix_listener.emplace(std::move(*inherited.unix_socket));
  } else if (!options.unix_path.empty()) {
    auto listener = UnixListener::listen(options.unix_path, options.group);
    if (!listener) return tl::unexpected(listener.error());
    state->unix_listener.emplace(std::move(*listener));
  }
  if (!inherited.tcp.fds.empty()) {
    state->tcp = std::move(inherited.tcp);
  } else if (options.port) {
    auto listeners = TcpListeners::listen(options.host, *options.port);
    if (!listeners) return tl::unexpected(listeners.error());
    state->tcp = std::move(*listeners);
  }
  return std::unique_ptr<Server>(new Server(std::move(state)));
}

Server::Server(std::unique_ptr<State> state) : state_(std::move(state)) {}

Server::~Server() { stop(); }

void Server::start() {
  state_->prepare_waits();
  const SignalsBlocked blocked;
  const auto body = [](void* state) -> void* {
    static_cast<State*>(state)->accept_loop();
    return nullptr;
  };
  state_->start_crew();
  if (!state_->acceptor.start(body, state_.get())) {
    throw std::system_error(EAGAIN, std::generic_category(), "cannot start accepting connections");
  }
  state_->clients.resume();
}

void Server::State::start_crew() {
  // The acceptor's time is small; one core is the session's own.
  if (crew.workers() == 1) crew.start(std::max(std::thread::hardware_concurrency(), 1U) - 1);
}

bool Server::pause(std::chrono::milliseconds patience) {
  {
    const std::scoped_lock lock(state_->accepting);
    state_->standing = true;
  }
  if (state_->clients.pause(patience)) return true;
  resume();
  return false;
}

void Server::resume() {
  state_->clients.resume();
  const std::scoped_lock lock(state_->accepting);
  state_->standing = false;
}

void Server::save(ImageWriter& image, std::vector<int>& sockets) const { state_->clients.save(image, sockets); }

Result<void> Server::load(ImageReader& image, std::vector<Fd> sockets) {
  const SignalsBlocked blocked;
  state_->start_crew();
  if (state_->clients.load(image, std::move(sockets))) return {};
  return fail(EINVAL, "the clients cannot be taken over");
}

void Server::State::prepare_waits() {
  waits = {{stop_event.get(), POLLIN, 0}, {ended_event.get(), POLLIN, 0}};
  if (unix_listener) waits.push_back({unix_listener->fd(), POLLIN, 0});
  for (const Fd& fd : tcp.fds) waits.push_back({fd.get(), POLLIN, 0});
}

// Nothing here may throw: it is a thread's all.
void Server::State::accept_loop() {
  constexpr std::size_t kEvents = 2;
  for (bool paused = false;;) {
    for (pollfd& wait : waits) wait.revents = 0;
    (void)poll(waits.data(), paused ? kEvents : waits.size(), paused ? kPauseMilliseconds : -1);
    if (waits[0].revents != 0) return;
    if (waits[1].revents != 0) {
      std::uint64_t count = 0;
      (void)!read(ended_event.get(), &count, sizeof count);
      clients.reap();
    }
    paused = false;
    for (std::size_t i = kEvents; i < waits.size(); ++i) {
      if (waits[i].revents != 0) paused |= !accept_from(waits[i].fd);
    }
  }
}

// False where there is no point in trying again at once.
bool Server::State::accept_from(int listener) {
  const std::scoped_lock lock(accepting);
  if (standing) return false;
  Fd socket(accept4(listener, nullptr, nullptr, SOCK_CLOEXEC));
  if (!socket.valid()) return errno != EMFILE && errno != ENFILE && errno != ENOBUFS && errno != ENOMEM;
  try {
    clients.admit(std::move(socket));
  } catch (const std::bad_alloc&) {
    return false;
  }
  return true;
}

void Server::stop() {
  raise_event(state_->stop_event.get());
  state_->acceptor.join();
  state_->unix_listener.reset();
  state_->tcp.fds.clear();
  state_->clients.drain(std::chrono::seconds(kStopSeconds));
}

std::optional<gid_t> Server::group() const { return state_->options.group; }

int Server::unix_fd() const { return state_->unix_listener ? state_->unix_listener->fd() : -1; }

std::vector<int> Server::tcp_fds() const {
  std::vector<int> fds;
  for (const Fd& fd : state_->tcp.fds) fds.push_back(fd.get());
  return fds;
}

std::vector<std::string> Server::uris(std::string_view export_name) const {
  const ServerOptions& options = state_->options;
  const std::string name = percent_encoded(export_name);
  std::vector<std::string> uris;
  if (!options.unix_path.empty()) {
    const std::string path = std::filesystem::absolute(options.unix_path).string();
    uris.push_back("nbd+unix:///" + name + "?socket=" + percent_encoded(path));
  }
  if (options.port) {
    const bool v6 = options.host.find(':') != std::string::npos;
    const std::string host = v6 ? "[" + options.host + "]" : options.host;
    uris.push_back((options.tls.require ? "nbds://" : "nbd://") + host + ":" + std::to_string(state_->tcp.port) + "/" +
                   name);
  }
  return uris;
}

Result<void> Server::fence(std::string_view name) {
  const auto device = state_->devices.find(name);
  if (!device) return tl::unexpected(device.error());
  state_->clients.fence(**device, std::chrono::seconds(kStopSeconds));
  return {};
}

unsigned Server::connections() const { return static_cast<unsigned>(state_->clients.size()); }

}  // namespace uzram::nbd
