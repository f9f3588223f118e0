#include "cli/daemon.h"

#include <signal.h>
#include <systemd/sd-daemon.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <optional>

#include "allocator/image.h"
#include "allocator/page_arena.h"
#include "blockdev/backing_file.h"
#include "blockdev/recovery.h"
#include "cli/control.h"
#include "cli/device_start.h"
#include "cli/fd_store.h"
#include "cli/grower.h"
#include "cli/inherit.h"
#include "cli/log.h"
#include "cli/places.h"
#include "cli/run_command.h"
#include "cli/sandbox.h"
#include "cli/state_file.h"
#include "cli/supervise.h"
#include "cli/swap_safe.h"
#include "cli/takeover.h"

namespace uzram {
namespace {

// The signals that the main thread waits for; every other thread inherits them blocked.
class Signals {
 public:
  Signals() {
    ::sigemptyset(&set_);
    for (const int s : {SIGTERM, SIGINT, SIGCHLD}) ::sigaddset(&set_, s);
    struct sigaction hangup {};
    ::sigaction(SIGHUP, nullptr, &hangup);
    // Under nohup it stays ignored: a blocked signal would be delivered to sigwait all the same.
    if (hangup.sa_handler != SIG_IGN) ::sigaddset(&set_, SIGHUP);
    ::pthread_sigmask(SIG_BLOCK, &set_, nullptr);
    std::signal(SIGPIPE, SIG_IGN);
    std::signal(SIGXFSZ, SIG_IGN);
  }
  [[nodiscard]] int wait() const {
    int signal = 0;
    ::sigwait(&set_, &signal);
    return signal;
  }

 private:
  sigset_t set_{};
};

int failed(const std::string& why) {
  std::fprintf(stderr, "uzramd: %s\n", why.c_str());
  return 1;
}

// Waits for a signal to stop. With --run, for the end of the command; a signal ends that first.
int wait_for_end(const Signals& signals, const std::optional<Command>& command) {
  for (;;) {
    const int signal = signals.wait();
    if (signal == SIGCHLD) {
      if (!command) continue;
      if (const auto status = command->status()) return *status;
      continue;
    }
    log_info(std::string("stopping: ") + ::strsignal(signal));
    if (command) command->terminate();
    return 0;
  }
}

void export_variables(const Config& config, const Places& places, const std::string& uri) {
  ::setenv("uri", uri.c_str(), 1);
  ::setenv("unixsocket", places.nbd.c_str(), 1);
  ::setenv("control", places.control.c_str(), 1);
  ::setenv("exportname", config.devices.front().name.c_str(), 1);
}

void announce(const Config& config, const DeviceTable& devices, const nbd::Server& server, const Places& places) {
  const std::string uri = server.uris(config.devices.front().name).front();
  for (const std::string& name : devices.names()) {
    if (const auto device = devices.find(name)) log_info(describe((*device)->options()));
  }
  log_info("control endpoint " + places.control);
  if (config.run.empty()) {
    // Otherwise standard output is the command's.
    std::printf("%s\n", uri.c_str());
    std::fflush(stdout);
  }
  ::sd_notifyf(0, "READY=1\nSTATUS=Serving %s", uri.c_str());
}

// One run of the daemon, from its start to its end.
class Daemon {
 public:
  explicit Daemon(const Config& config) : config_(config), store_(FdStore::from_environment()) {}

  int run() {
    const Signals signals;
    if (config_.swap_safe) safe_.before_threads();
    init_log();
    if (const auto done = find_state(); !done) return failed(done.error().message);
    make_arena();
    if (predecessor_) {
      // Nothing is taken down where it fails: all of it is still the other's.
      if (const auto done = try_to_take_over(); !done) std::_Exit(failed(done.error().message));
    } else if (const auto done = begin(); !done) {
      if (command_) command_->terminate();
      return failed(done.error().message);
    }
    if (config_.grow) grower_.emplace(*arena_);
    server_->start();
    control_->start();
    wait_for_successor();
    announce(config_, *devices_, *server_, *places_);
    const int code = wait_for_end(signals, command_);
    takeover_.reset();  // one that is under way ends first
    ::sd_notify(0, "STOPPING=1");
    devices_->end_passes();  // a pass may take hours
    control_->stop();
    server_->stop();
    return code;
  }

 private:
  Result<void> find_state() {
    auto places = Places::choose(config_);
    if (!places) return tl::unexpected(places.error());
    places_ = std::move(*places);
    options_ = config_.nbd;
    options_.unix_path = places_->nbd;
    options_.log = [](std::string_view line) { log_info(line); };
    // A daemon that is started again by its parent has everything already.
    if (config_.takeover && !store_.holds(kStateName)) {
      auto predecessor = Predecessor::ask(takeover_path(places_->control));
      if (!predecessor) return tl::unexpected(predecessor.error());
      predecessor_.emplace(std::move(*predecessor));
      handed_over_ = predecessor_->take_state();
      return check_state(config_, handed_over_.get());
    }
    auto state = open_state(config_, store_);
    if (!state) return tl::unexpected(state.error());
    if (*state) state_.emplace(std::move(**state));
    return open_backing();
  }

  Result<void> open_backing() {
    if (config_.backing.empty()) return {};
    if (state_)
      return fail(EINVAL, "--backing: what is written back ends with the daemon, and systemd is to keep its state");
    auto backing = BackingFile::open(config_.backing, config_.backing_size);
    if (!backing) return fail(backing.error().code, "--backing: " + backing.error().message);
    backing_ = std::move(*backing);
    return {};
  }

  void make_arena() {
    if (config_.swap_safe) safe_.before_arena();
    PageArena::Options options;
    if (state_) options.fd = state_->fd();
    if (predecessor_) options.fd = handed_over_.get();
    options.reserve = config_.reserve;
    options.grow = !config_.swap_safe;
    options.lock = config_.swap_safe;
    options.ahead = config_.grow ? Grower::kAhead : 0;
    arena_.emplace(options);
    devices_.emplace(*arena_, backing_.get());
    if (!config_.swap_safe) return;
    safe_.after_arena();
    if (const auto warning = safe_.warning()) log_warning(*warning);
    if (systemd_keeps_state() && group_may_be_swapped()) {
      log_warning("the state could be swapped out while the daemon is started again: set MemorySwapMax=0 in the unit");
    }
  }

  // A parent of our own keeps it otherwise, and locks it.
  [[nodiscard]] bool systemd_keeps_state() const {
    return store_.keeps() && !config_.supervise && config_.state.empty();
  }

  Result<void> begin() {
    if (auto done = recover_devices(*arena_, *devices_); !done) return done;
    if (auto done = make_devices(config_.devices, *devices_); !done) return done;
    if (state_) {
      if (auto done = state_->keep(); !done) return done;
    }
    auto sockets = inherit_sockets(config_, *places_, store_);
    if (!sockets) return tl::unexpected(sockets.error());
    options_.unix_path = places_->nbd;
    if (auto done = listen(std::move(*sockets)); !done) return done;
    if (may_hand_over()) {
      if (auto listener = nbd::UnixListener::listen(takeover_path(places_->control))) {
        successors_.emplace(std::move(*listener));
      } else {
        log_warning("no takeover: " + listener.error().message);
      }
    }
    if (!config_.run.empty()) {
      // Its first connections wait until there is a thread to take them.
      export_variables(config_, *places_, server_->uris(config_.devices.front().name).front());
      auto started = Command::start(config_.run);
      if (!started) return fail(started.error().code, "--run: " + started.error().message);
      command_ = *started;
    }
    return shut_the_doors();
  }

  // Gives up what serving does not need, for every thread that comes. The command was started before, with all of it.
  Result<void> shut_the_doors() {
    if (!config_.user.empty()) {
      std::vector<std::string> paths = {places_->nbd, places_->control};
      if (successors_) paths.push_back(takeover_path(places_->control));
      if (!places_->directory.empty()) paths.push_back(places_->directory);
      if (auto given = give_to_user(config_.user, paths); !given) return given;
    }
    if (auto dropped = drop_privileges(config_.user); !dropped) return dropped;
    if (const auto why = restrict_system_calls(command_ ? command_->pid() : 0)) {
      log_warning("every system call stays allowed: " + *why);
    }
    return {};
  }

  Result<void> listen(Sockets&& sockets) {
    auto server = nbd::Server::listen(*devices_, options_, std::move(sockets.nbd));
    if (!server) return tl::unexpected(server.error());
    server_ = std::move(*server);
    auto control =
        ControlEndpoint::listen(*devices_, *server_, places_->control, config_.swap_safe, std::move(sockets.control));
    if (!control) return tl::unexpected(control.error());
    control_ = std::move(*control);
    if (!state_ || !config_.state.empty()) return {};
    return keep_all(store_, state_->fd(), *server_, *control_, options_, sockets);
  }

  Result<void> try_to_take_over() {
    try {
      return take_over();
    } catch (const std::exception& e) {
      return fail(ENOMEM, std::string("--takeover: ") + e.what());
    }
  }

  // Everything that can fail comes before `up`: the running daemon then serves on as if nothing had been.
  Result<void> take_over() {
    if (!arena_->lock_ahead()) log_warning("the state cannot be locked in memory");
    auto from = predecessor_->go();
    if (!from) return tl::unexpected(from.error());
    auto state = StateFile::adopt(std::move(handed_over_));
    if (!state) return tl::unexpected(state.error());
    state_.emplace(std::move(*state));
    auto sockets = inherit_sockets(options_, places_->control, *from);
    if (!sockets) return tl::unexpected(sockets.error());
    // Not this function's: where it fails, the files are the other daemon's.
    inherited_ = std::make_unique<Sockets>(std::move(*sockets));
    if (auto done = listen(std::move(*inherited_)); !done) return done;
    if (auto listener = nbd::UnixListener::adopt(std::move(from->takeover), takeover_path(places_->control))) {
      successors_.emplace(std::move(*listener));
    }
    if (auto done = shut_the_doors(); !done) return done;
    const bool ready = predecessor_->same_image();
    if (auto done = ready ? load(*from) : check_recoverable(*arena_); !done) return done;
    if (auto done = predecessor_->up(); !done) return done;
    if (!ready) {
      if (auto done = recover_devices(*arena_, *devices_); !done) return done;
      if (auto done = load_clients(*from); !done) return done;
    }
    // From here on there is no other daemon: better without a new device than not at all.
    if (auto made = make_devices(config_.devices, *devices_); !made) log_error(made.error().message);
    if (!arena_->fill_reserve()) log_error("no memory for all of the reserve");
    log_info("took over from the daemon that ran, with " + std::to_string(server_->connections()) + " clients");
    return {};
  }

  Result<void> load(Inheritance& from) {
    ImageReader image(from.devices);
    if (!arena_->load(image) || !devices_->load(image)) return fail(EINVAL, "--takeover: the image is damaged");
    if (auto right = check_sizes(config_.devices, *devices_); !right) return right;
    return load_clients(from);
  }

  Result<void> load_clients(Inheritance& from) {
    ImageReader image(from.clients);
    return server_->load(image, std::move(from.sockets));
  }

  // Where systemd keeps the state, it would start the daemon again that has handed over.
  [[nodiscard]] bool may_hand_over() const { return state_ && config_.run.empty() && !systemd_keeps_state(); }

  void wait_for_successor() {
    if (!successors_) return;
    try {
      takeover_ = std::make_unique<TakeoverPoint>(
          std::move(*successors_), state_->fd(),
          TakeoverPoint::Hooks{.stop = [this] { return stand_still(); }, .go_on = [this] { go_on(); }});
    } catch (const std::exception& e) {
      log_warning(std::string("no takeover: ") + e.what());
    }
  }

  Result<TakeoverPoint::Offer> stand_still() {
    control_->pause();
    if (!server_->pause(kStandstill)) {
      control_->resume();
      return fail(EBUSY, "a client is in the middle of something: try again");
    }
    arena_->hold_growth();
    try {
      TakeoverPoint::Offer offer = describe_all();
      state_->unlock();
      return offer;
    } catch (const std::exception& e) {
      go_on();
      return fail(ENOMEM, e.what());
    }
  }

  [[nodiscard]] TakeoverPoint::Offer describe_all() const {
    TakeoverPoint::Offer offer;
    ImageWriter devices;
    arena_->save(devices);
    devices_->save(devices);
    offer.devices.assign(devices.bytes().begin(), devices.bytes().end());
    ImageWriter clients;
    server_->save(clients, offer.sockets);
    offer.clients.assign(clients.bytes().begin(), clients.bytes().end());
    offer.control = control_->fd();
    offer.unix_socket = server_->unix_fd();
    offer.tcp = server_->tcp_fds();
    return offer;
  }

  void go_on() {
    if (const auto locked = state_->relock(); !locked) log_warning(locked.error().message);
    arena_->let_grow();
    server_->resume();
    control_->resume();
  }

  // What a client may take to receive what it has asked for, before nothing is handed over.
  static constexpr std::chrono::milliseconds kStandstill{50};

  const Config& config_;
  FdStore store_;
  SwapSafe safe_;
  std::unique_ptr<Places> places_;
  nbd::ServerOptions options_;
  std::optional<Predecessor> predecessor_;
  nbd::Fd handed_over_;
  std::optional<nbd::UnixListener> successors_;  // where they ask
  std::optional<Command> command_;
  std::optional<StateFile> state_;
  std::optional<PageArena> arena_;
  std::unique_ptr<BackingFile> backing_;
  std::optional<DeviceTable> devices_;
  std::unique_ptr<Sockets> inherited_;
  std::unique_ptr<nbd::Server> server_;
  std::unique_ptr<ControlEndpoint> control_;
  std::unique_ptr<TakeoverPoint> takeover_;
  std::optional<Grower> grower_;
};

}  // namespace

int run_daemon(const Config& config) {
  const auto serve = [&] { return Daemon(config).run(); };
  return config.supervise ? supervise(config.swap_safe, serve) : serve();
}

}  // namespace uzram
