#pragma once
// Whether all memory of an arena belongs to somebody, after a recovery.

#include <memory>
#include <string>
#include <vector>

#include "blockdev/device.h"

namespace uzram::testing {

// Counts slots, objects and frames anew. Empty where every frame in use belongs to a device, else what is wrong; aborts
// where slots, objects and counts disagree.
inline std::string check_whole(const PageArena& arena, const std::vector<std::unique_ptr<Device>>& devices) {
  const std::uint64_t chunks = raw(arena.end()) / PageArena::kChunkFrames;
  std::uint64_t owned = chunks + 1;  // the entries' frames, and the header
  for (const auto& device : devices) {
    device->check_invariants();
    const DeviceStats s = device->stats();
    owned += 1 + (s.table_memory + s.mem_used_total) / kFrameSize;
  }
  const auto memory = arena.stats();
  const std::uint64_t used = memory.committed_frames - memory.free_frames;
  if (used == owned) return {};
  return std::to_string(used) + " frames are in use, " + std::to_string(owned) + " belong to somebody";
}

}  // namespace uzram::testing
