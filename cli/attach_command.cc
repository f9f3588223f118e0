#include "cli/attach_command.h"

#include <sys/signalfd.h>
#include <systemd/sd-daemon.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <optional>
#include <thread>

#include "blockdev/nbd/connection.h"
#include "cli/device_json.h"
#include "cli/mounts.h"
#include "cli/swap_safe.h"
#include "cli/watch.h"

namespace uzram {
namespace {

constexpr std::chrono::seconds kDaemonStart{10};

void say(const std::string& line) {
  std::fprintf(stderr, "uzramctl: %s\n", line.c_str());
  sd_notifyf(0, "STATUS=%s", line.c_str());
}

Result<AttachTarget> find_target(const ControlClient& daemon, const std::string& device) {
  const auto body = daemon.get(device_target(device));
  if (!body) return tl::unexpected(body.error());
  const auto info = device_info_from_json(*body);
  if (!info) return tl::unexpected(info.error());
  if (info->uris.empty()) return fail(ENOTSUP, device + " is not served");
  return AttachTarget{info->name, info->uris.front(), info->uuid, info->swap_safe};
}

// As find_target, for a daemon that was told to start a moment ago: it answers when it has taken its memory.
Result<AttachTarget> find_starting_target(const ControlClient& daemon, const std::string& device) {
  const auto end = std::chrono::steady_clock::now() + kDaemonStart;
  for (;;) {
    auto target = find_target(daemon, device);
    if (target || target.error().code != ECONNREFUSED || std::chrono::steady_clock::now() > end) return target;
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
}

std::optional<NbdUse> use_of(const std::string& uuid) {
  const auto uses = nbd_uses();
  const auto found = std::find_if(uses.begin(), uses.end(), [&](const NbdUse& use) { return use.backend == uuid; });
  return found == uses.end() ? std::nullopt : std::optional(*found);
}

// The signals that end the watch, readable instead of deadly.
nbd::Fd stop_signals() {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) sigaddset(&set, signal);
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  return nbd::Fd(signalfd(-1, &set, SFD_CLOEXEC));
}

// The watcher is what swapped-out memory waits for: none of its own may be swapped out.
void protect_watcher(bool swap) {
  if (!swap) return;
  SwapSafe safe;
  safe.before_threads();
  safe.before_arena();
  safe.after_arena();
  if (const auto warning = safe.warning()) say("warning: " + *warning);
}

}  // namespace

Result<void> attach_command(const ControlClient& daemon, const std::string& device, const AttachOptions& options,
                            bool watch_it) {
  const auto target = find_starting_target(daemon, device);
  if (!target) return tl::unexpected(target.error());
  if (!watch_it) return attach(*target, options, say);
  const auto stop = stop_signals();
  if (!stop.valid()) return fail_errno("signalfd");
  auto deaths = NbdDeaths::open();
  if (!deaths) return tl::unexpected(deaths.error());
  const auto use = nbd_use(options.number);
  const bool resumed = use && use->backend == target->uuid;
  if (!resumed) {
    if (auto done = attach(*target, options, say); !done) return done;
  }
  protect_watcher(options.swap);
  sd_notify(0, "READY=1");
  const WatchHooks hooks{
      .find = [&] { return find_target(daemon, device); },
      .fence = [&] { return daemon.post(device_target(device, "fence"), "").map([](const std::string&) {}); },
      .say = say};
  return watch(*target, options, std::move(*deaths), resumed, stop.get(), hooks);
}

Result<void> detach_command(const Result<ControlClient>& daemon, const std::string& device, bool now) {
  if (const auto number = nbd_number(device)) return detach(*number, now);
  if (!daemon) return tl::unexpected(daemon.error());
  const auto target = find_target(*daemon, device);
  if (!target) return tl::unexpected(target.error());
  const auto use = use_of(target->uuid);
  if (!use) return fail(ENODEV, device + " is not attached");
  return detach(use->number, now);
}

void add_uses(std::vector<DeviceInfo>& infos) {
  for (DeviceInfo& info : infos) {
    if (const auto use = use_of(info.uuid)) info.attached = use->describe();
  }
}

}  // namespace uzram
