#pragma once
// Recovery: the devices of a shared arena, as an earlier process left them, at whatever instruction it ended.
//
// The truth is the devices' records, the leaves' slots, the zspages' frame entries and the objects' headers. Everything
// else (trees, free lists, counts) is made anew. A slot whose object is not what it should be becomes damaged: its
// reads fail with EIO. A state that cannot be told apart is refused, and nothing in it is changed. Payloads are not
// looked at: reads check them, and scrub does.
//
// Threads: one, before anything else uses the arena.

#include <cstdint>
#include <memory>
#include <vector>

#include "allocator/page_arena.h"
#include "blockdev/device.h"
#include "blockdev/types.h"

namespace uzram {

struct RecoveryReport {
  std::uint64_t pages = 0;          // stored, of all devices
  std::uint64_t objects = 0;        // live
  std::uint64_t damaged_pages = 0;  // made unreadable
  std::uint64_t zspages = 0;        // taken over
};

struct RecoveredDevices {
  std::vector<std::unique_ptr<Device>> devices;  // in the order of their creation
  RecoveryReport report;
};

// `arena` holds a state. EINVAL with one line that says why where it is refused, ENOSPC where memory is missing.
[[nodiscard]] Result<RecoveredDevices> recover(PageArena& arena);

// Whether recover would refuse the state, and why; changes nothing, as another process still uses it.
[[nodiscard]] Result<void> check_recoverable(PageArena& arena);

}  // namespace uzram
