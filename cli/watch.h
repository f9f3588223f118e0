#pragma once
// Keeps an attached device alive: when its connections die, it connects it again to the same contents, and to
// nothing else. The kernel holds I/O back meanwhile, for kPatience; then it fails it.
//
// Threads: belongs to one thread.

#include <chrono>
#include <functional>
#include <string>

#include "cli/attach.h"
#include "cli/nbd_netlink.h"

namespace uzram {

// How long I/O waits for the daemon to come back.
inline constexpr std::chrono::seconds kPatience{30};

struct WatchHooks {
  // The device as the daemon describes it now; an error while there is no daemon.
  std::function<Result<AttachTarget>()> find;
  // Makes the daemon close every connection to the device, after the requests it has begun are done: no old request
  // may be executed after one that was sent again.
  std::function<Result<void>()> fence;
  Say say;
};

// Watches /dev/nbdN, which was attached to `target`, until it is detached (then it returns) or `stop_fd` is readable
// (then the device stays attached). `deaths` was opened before the device was attached; where it was not, because
// another watcher came before this one, `resumed` is true and the connections are renewed at once.
[[nodiscard]] Result<void> watch(const AttachTarget& target, const AttachOptions& options, NbdDeaths deaths,
                                 bool resumed, int stop_fd, const WatchHooks& hooks);

}  // namespace uzram
