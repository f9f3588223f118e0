#pragma once
// The verbs attach and detach of uzramctl: what the daemon says about a device, attach.h, and with --watch the watcher.
//
// Threads: the main thread of a program of one thread.

#include <string>
#include <string_view>
#include <vector>

#include "blockdev/types.h"
#include "cli/attach.h"
#include "cli/control_client.h"
#include "cli/device_info.h"

namespace uzram {

// Attaches the daemon's device. With `watch` it stays, tells systemd when it is ready, connects the device again after
// the daemon has died, and ends when the device is detached or with SIGTERM, which leaves the device attached; where
// the device is attached already, it takes up the watch.
[[nodiscard]] Result<void> attach_command(const ControlClient& daemon, const std::string& device,
                                          const AttachOptions& options, bool watch);

// Detaches /dev/nbdN, or the device of that name, for which the daemon is asked. `now` as in attach.h.
[[nodiscard]] Result<void> detach_command(const Result<ControlClient>& daemon, const std::string& device, bool now);

// Fills in where this machine uses each device.
void add_uses(std::vector<DeviceInfo>& infos);

}  // namespace uzram
