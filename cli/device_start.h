#pragma once
// The devices that a daemon serves from its start: those that the state holds, and those that are asked for.
//
// Threads: one, before anybody is served.

#include <vector>

#include "blockdev/device_table.h"
#include "blockdev/types.h"

namespace uzram {

// Recovers the devices that the arena's state holds, if it holds one (blockdev/recovery.h), and logs what it found.
[[nodiscard]] Result<void> recover_devices(PageArena& arena, DeviceTable& devices);

// EINVAL where one that is there already is not of the size that is asked for.
[[nodiscard]] Result<void> check_sizes(const std::vector<DeviceOptions>& asked, const DeviceTable& devices);

// Makes those that are not there yet. One that is there must have the size that is asked for; it keeps its other
// options, and that is logged where they differ.
[[nodiscard]] Result<void> make_devices(const std::vector<DeviceOptions>& asked, DeviceTable& devices);

// A line that describes a device to its user.
[[nodiscard]] std::string describe(const DeviceOptions& device);

}  // namespace uzram
