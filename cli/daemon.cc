#include "cli/daemon.h"

#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <memory>
#include <optional>

#include "allocator/page_arena.h"
#include "blockdev/recovery.h"
#include "blockdev/size.h"
#include "cli/control.h"
#include "cli/log.h"
#include "cli/places.h"
#include "cli/state_file.h"
#include "cli/swap_safe.h"

namespace uzram {
namespace {

constexpr int kNotRunnable = 127;  // as the shell's
constexpr int kSignalled = 128;    // and the signal's number is added, as the shell does

// Where the two sockets are, and the directory that is removed at the end if it was made for this run.
class Places {
 public:
  [[nodiscard]] static Result<std::unique_ptr<Places>> choose(const Config& config) {
    auto places = std::unique_ptr<Places>(new Places());
    places->nbd = config.nbd.unix_path;
    places->control = config.control_path;
    if (!places->nbd.empty() && !places->control.empty()) return places;
    const bool own = !config.run.empty();  // as nbdkit's: beside other daemons, and other runs
    const auto directory = own ? make_private_directory() : make_runtime_directory();
    if (!directory) return tl::unexpected(directory.error());
    if (own) places->temporary_ = *directory;
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

class Command {
 public:
  // Starts `sh -c text` with the signals as a program expects them.
  [[nodiscard]] static Result<Command> start(const std::string& text) {
    posix_spawnattr_t attributes;
    ::posix_spawnattr_init(&attributes);
    sigset_t none;
    sigset_t standard;
    ::sigemptyset(&none);
    ::sigemptyset(&standard);
    ::sigaddset(&standard, SIGPIPE);
    ::posix_spawnattr_setsigmask(&attributes, &none);
    ::posix_spawnattr_setsigdefault(&attributes, &standard);
    ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    const char* const argv[] = {"sh", "-c", text.c_str(), nullptr};
    Command command;
    const int error =
        ::posix_spawn(&command.pid_, "/bin/sh", nullptr, &attributes, const_cast<char* const*>(argv), environ);
    ::posix_spawnattr_destroy(&attributes);
    if (error != 0) return fail(error, std::string("/bin/sh: ") + std::strerror(error));
    return command;
  }

  // The exit status as a shell tells it, or nothing while it runs.
  [[nodiscard]] std::optional<int> status() const {
    int status = 0;
    if (::waitpid(pid_, &status, WNOHANG) != pid_) return std::nullopt;
    if (WIFEXITED(status)) return WEXITSTATUS(status);
    return WIFSIGNALED(status) ? kSignalled + WTERMSIG(status) : kNotRunnable;
  }
  void terminate() const { ::kill(pid_, SIGTERM); }

 private:
  pid_t pid_ = -1;
};

int failed(const std::string& why) {
  std::fprintf(stderr, "uzramd: %s\n", why.c_str());
  return 1;
}

std::string describe(const DeviceOptions& d) {
  return d.name + ": " + human_size(d.size) + ", " + d.codec.to_string() +
         (d.mem_limit != 0 ? ", at most " + human_size(d.mem_limit) + " of memory" : "");
}

// Waits for a signal to stop. With --run, for the end of the command; a signal ends that first.
int wait_for_end(const Signals& signals, const Config& config) {
  std::optional<Command> command;
  if (!config.run.empty()) {
    const auto started = Command::start(config.run);
    if (!started) return failed("--run: " + started.error().message);
    command = *started;
  }
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

void announce(const Config& config, const DeviceTable& devices, const Places& places, const nbd::Server& server) {
  const std::string uri = server.uris(config.devices.front().name).front();
  for (const std::string& name : devices.names()) {
    if (const auto device = devices.find(name)) log_info(describe((*device)->options()));
  }
  log_info("control endpoint " + places.control);
  if (config.run.empty()) {
    std::printf("%s\n", uri.c_str());
    std::fflush(stdout);
  } else {
    // Its standard output is the command's.
    export_variables(config, places, uri);
  }
  ::sd_notifyf(0, "READY=1\nSTATUS=Serving %s", uri.c_str());
}

PageArena::Options memory_options(const Config& config, const std::optional<StateFile>& state) {
  PageArena::Options options;
  if (state) options.fd = state->fd();
  options.reserve = config.reserve;
  options.grow = !config.swap_safe;
  options.lock = config.swap_safe;
  return options;
}

// Takes over the devices that the state holds, if it does.
Result<void> take_over(PageArena& arena, DeviceTable& devices) {
  if (!arena.holds_state()) return {};
  auto recovered = recover(arena);
  if (!recovered) return tl::unexpected(std::move(recovered.error()));
  const RecoveryReport& report = recovered->report;
  log_info("took over " + std::to_string(recovered->devices.size()) + " devices with " + std::to_string(report.pages) +
           " pages");
  if (report.damaged_pages != 0)
    log_warning(std::to_string(report.damaged_pages) + " pages are damaged and unreadable");
  devices.adopt(std::move(recovered->devices));
  return {};
}

// What was asked for, and the state has otherwise: that stays.
void warn_of_differences(const Device& device, const DeviceOptions& asked) {
  const DeviceOptions& kept = device.options();
  if (kept.codec == asked.codec && kept.geometry == asked.geometry && kept.check == asked.check &&
      kept.mem_limit == asked.mem_limit) {
    return;
  }
  log_warning(asked.name + ": keeps the options that it was made with: " + describe(kept));
}

// Makes the devices that are not there yet. One that the state holds must be of the size that was asked for.
Result<void> make_devices(const Config& config, DeviceTable& devices) {
  const std::vector<std::string> kept = devices.names();
  for (const DeviceOptions& options : config.devices) {
    const auto found = devices.find(options.name);
    if (!found || std::find(kept.begin(), kept.end(), options.name) == kept.end()) {
      if (auto created = devices.create(options); !created) return created;
      continue;
    }
    warn_of_differences(**found, options);
    const std::uint64_t size = (*found)->size();
    if (options.size > size || size - options.size >= kPageSize) {
      return fail(EINVAL, options.name + ": the state holds it with " + std::to_string(size) + " bytes, not " +
                              std::to_string(options.size));
    }
  }
  return {};
}

}  // namespace

int run_daemon(const Config& config) {
  const Signals signals;
  SwapSafe safe;
  if (config.swap_safe) safe.before_threads();
  init_log();
  const auto places = Places::choose(config);
  if (!places) return failed(places.error().message);
  std::optional<StateFile> state;
  if (!config.state.empty()) {
    auto opened = StateFile::open(config.state);
    if (!opened) return failed(opened.error().message);
    state.emplace(std::move(*opened));
  }
  if (config.swap_safe) safe.before_arena();
  PageArena arena(memory_options(config, state));
  if (config.swap_safe) {
    safe.after_arena();
    if (const auto warning = safe.warning()) log_warning(*warning);
  }
  DeviceTable devices(arena);
  if (const auto taken = take_over(arena, devices); !taken) return failed(taken.error().message);
  if (const auto made = make_devices(config, devices); !made) return failed(made.error().message);
  if (state) {
    if (const auto kept = state->keep(); !kept) return failed(kept.error().message);
  }
  nbd::ServerOptions options = config.nbd;
  options.unix_path = (*places)->nbd;
  options.log = [](std::string_view line) { log_info(std::string(line)); };
  const auto server = nbd::Server::listen(devices, options);
  if (!server) return failed(server.error().message);
  const auto control = ControlEndpoint::listen(devices, **server, (*places)->control, config.swap_safe);
  if (!control) return failed(control.error().message);
  (*server)->start();
  (*control)->start();
  announce(config, devices, **places, **server);
  const int code = wait_for_end(signals, config);
  ::sd_notify(0, "STOPPING=1");
  (*control)->stop();
  (*server)->stop();
  return code;
}

}  // namespace uzram
