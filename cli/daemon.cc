#include "cli/daemon.h"

#include <signal.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <memory>
#include <optional>

#include "allocator/page_arena.h"
#include "cli/control.h"
#include "cli/device_start.h"
#include "cli/fd_store.h"
#include "cli/grower.h"
#include "cli/inherited_sockets.h"
#include "cli/log.h"
#include "cli/places.h"
#include "cli/run_command.h"
#include "cli/sandbox.h"
#include "cli/state_file.h"
#include "cli/supervise.h"
#include "cli/swap_safe.h"

namespace uzram {
namespace {

// Where the two sockets are, and the directory that is removed at the end if it was made for this run.
class Places {
 public:
  [[nodiscard]] static Result<std::unique_ptr<Places>> choose(const Config& config) {
    auto places = std::unique_ptr<Places>(new Places());
    places->nbd = config.nbd.unix_path;
    places->control = config.control_path;
    if (!places->nbd.empty() && !places->control.empty()) return places;
    const bool own = !config.run.empty();  // as nbdkit's: beside other daemons, and other runs
    const auto directory = own ? make_private_directory() : make_runtime_directory(config.nbd.group);
    if (!directory) return tl::unexpected(directory.error());
    if (own) places->temporary_ = *directory;
    places->directory = *directory;
    if (places->nbd.empty()) places->nbd = *directory + "/nbd.sock";
    if (places->control.empty()) places->control = *directory + "/control.sock";
    return places;
  }
  ~Places() {
    if (!temporary_.empty()) ::rmdir(temporary_.c_str());
  }
  Places(const Places&) = delete;
  Places& operator=(const Places&) = delete;

  std::string nbd;
  std::string control;
  std::string directory;  // that both are in by default; empty where neither is

 private:
  Places() = default;
  std::string temporary_;
};

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

// Gives up what serving does not need, for every thread that comes. The command was started before, with all of it.
Result<void> shut_the_doors(const Config& config, const Places& places, const std::optional<Command>& command) {
  if (!config.user.empty()) {
    std::vector<std::string> paths = {places.nbd, places.control};
    if (!places.directory.empty()) paths.push_back(places.directory);
    if (auto given = give_to_user(config.user, paths); !given) return given;
  }
  if (auto dropped = drop_privileges(config.user); !dropped) return dropped;
  if (const auto why = restrict_system_calls(command ? command->pid() : 0)) {
    log_warning("every system call stays allowed: " + *why);
  }
  return {};
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

PageArena::Options memory_options(const Config& config, const std::optional<StateFile>& state) {
  PageArena::Options options;
  if (state) options.fd = state->fd();
  options.reserve = config.reserve;
  options.grow = !config.swap_safe;
  options.lock = config.swap_safe;
  options.ahead = config.grow ? Grower::kAhead : 0;
  return options;
}

// The state that is to outlive the process, if one is.
Result<std::optional<StateFile>> open_state(const Config& config, FdStore& store) {
  const auto some = [](StateFile file) { return std::optional<StateFile>(std::move(file)); };
  std::vector<nbd::Fd> kept = store.take(kStateName);
  if (kept.size() > 1) return fail(EINVAL, "the descriptor store holds more than one state");
  if (config.state.empty()) {
    if (!kept.empty()) return StateFile::adopt(std::move(kept.front())).map(some);
    return store.keeps() ? StateFile::make().map(some) : std::nullopt;
  }
  if (!kept.empty()) return fail(EINVAL, "--state: the descriptor store holds a state already");
  return StateFile::open(config.state).map(some);
}

// The sockets that an earlier process listened on. One that is not what this one is to listen on ends here, so that
// nobody waits at it.
struct Sockets {
  nbd::Listeners nbd;
  std::optional<nbd::UnixListener> control;
  bool units_nbd = false;  // systemd's, which are not for the descriptor store
  bool units_control = false;
};

// What TCP listens on, in letters that a descriptor's name may have.
std::string tcp_name(const nbd::ServerOptions& options) {
  std::string name = std::string(kTcpPrefix) + std::to_string(options.port.value_or(0)) + "-" + options.host;
  std::replace(name.begin(), name.end(), ':', '_');
  return name;
}

std::optional<nbd::UnixListener> inherit_unix(FdStore& store, std::string_view name, const std::string& path) {
  for (nbd::Fd& fd : store.take(name)) {
    if (auto adopted = nbd::UnixListener::adopt(std::move(fd), path)) return adopted;
    store.drop(name);
  }
  return std::nullopt;
}

Sockets inherit_sockets(const Config& config, const Places& places, FdStore& store) {
  Sockets sockets{.nbd = {.unix_socket = inherit_unix(store, kUnixName, places.nbd)},
                  .control = inherit_unix(store, kControlName, places.control)};
  if (config.nbd.port) sockets.nbd.tcp = nbd::TcpListeners::adopt(store.take(tcp_name(config.nbd)));
  store.drop_rest();
  return sockets;
}

// Those that systemd listens on come before all others, and say where they are.
void prefer(InheritedSockets units, Sockets& sockets, Places& places) {
  sockets.units_nbd = units.nbd.has_value();
  sockets.units_control = units.control.has_value();
  if (units.nbd) {
    sockets.nbd.unix_socket.emplace(std::move(units.nbd->listener));
    places.nbd = units.nbd->path;
  }
  if (units.control) {
    sockets.control.emplace(std::move(units.control->listener));
    places.control = units.control->path;
  }
}

// Whatever happens to this process from here on, the next one has what was stored, and nobody who connects meanwhile is
// turned away.
Result<void> keep_all(FdStore& store, int state, const nbd::Server& server, const ControlEndpoint& control,
                      const Config& config, bool keep_unix, bool keep_control) {
  const int unix_fd = server.unix_fd();
  const int control_fd = control.fd();
  return store.keep(kStateName, {&state, 1})
      .and_then([&]() -> Result<void> {
        return keep_unix ? store.keep(kUnixName, {&unix_fd, 1}) : Result<void>{};
      })
      .and_then([&]() -> Result<void> {
        return keep_control ? store.keep(kControlName, {&control_fd, 1}) : Result<void>{};
      })
      .and_then([&] { return store.keep(tcp_name(config.nbd), server.tcp_fds()); });
}

int serve(const Config& config) {
  const Signals signals;
  SwapSafe safe;
  if (config.swap_safe) safe.before_threads();
  init_log();
  auto store = FdStore::from_environment();
  const auto places = Places::choose(config);
  if (!places) return failed(places.error().message);
  auto state = open_state(config, store);
  if (!state) return failed(state.error().message);
  if (config.swap_safe) safe.before_arena();
  PageArena arena(memory_options(config, *state));
  if (config.swap_safe) {
    safe.after_arena();
    if (const auto warning = safe.warning()) log_warning(*warning);
    // A parent of our own locks it.
    if (store.keeps() && !config.supervise && group_may_be_swapped()) {
      log_warning("the state could be swapped out while the daemon is started again: set MemorySwapMax=0 in the unit");
    }
  }
  DeviceTable devices(arena);
  if (const auto taken = recover_devices(arena, devices); !taken) return failed(taken.error().message);
  if (const auto made = make_devices(config.devices, devices); !made) return failed(made.error().message);
  if (*state) {
    if (const auto kept = (*state)->keep(); !kept) return failed(kept.error().message);
  }
  Sockets sockets = inherit_sockets(config, **places, store);
  auto units = inherit_from_units(store, config.nbd.unix_path, config.control_path);
  if (!units) return failed(units.error().message);
  prefer(std::move(*units), sockets, **places);
  const bool keep_unix = !sockets.units_nbd;
  const bool keep_control = !sockets.units_control;
  nbd::ServerOptions options = config.nbd;
  options.unix_path = (*places)->nbd;
  options.log = [](std::string_view line) { log_info(line); };
  const auto server = nbd::Server::listen(devices, options, std::move(sockets.nbd));
  if (!server) return failed(server.error().message);
  const auto control =
      ControlEndpoint::listen(devices, **server, (*places)->control, config.swap_safe, std::move(sockets.control));
  if (!control) return failed(control.error().message);
  if (*state && config.state.empty()) {
    const auto kept = keep_all(store, (*state)->fd(), **server, **control, config, keep_unix, keep_control);
    if (!kept) {
      return failed(kept.error().message);
    }
  }
  std::optional<Command> command;
  if (!config.run.empty()) {
    // Its first connections wait until there is a thread to take them.
    export_variables(config, **places, (*server)->uris(config.devices.front().name).front());
    auto started = Command::start(config.run);
    if (!started) return failed("--run: " + started.error().message);
    command = *started;
  }
  if (const auto shut = shut_the_doors(config, **places, command); !shut) {
    if (command) command->terminate();
    return failed(shut.error().message);
  }
  std::optional<Grower> grower;
  if (config.grow) grower.emplace(arena);
  (*server)->start();
  (*control)->start();
  announce(config, devices, **server, **places);
  const int code = wait_for_end(signals, command);
  ::sd_notify(0, "STOPPING=1");
  (*control)->stop();
  (*server)->stop();
  return code;
}

}  // namespace

int run_daemon(const Config& config) {
  if (config.supervise) return supervise(config.swap_safe, [&] { return serve(config); });
  return serve(config);
}

}  // namespace uzram
