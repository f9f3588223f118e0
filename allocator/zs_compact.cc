// Compaction of a ZsPool: objects move out of the emptiest zspages into the fullest.

#include <algorithm>
#include <bit>

#include "allocator/zs_pool.h"

namespace uzram {

// Whether the class has room for all objects of one of its zspages in the others.
bool ZsPool::can_compact(unsigned index) const { return class_stats(index).freeable() > 0; }

// Takes the emptiest zspage of all lanes out of its list, if emptying it can free it. What other threads do meanwhile
// may make it another one, or in vain.
FrameNumber ZsPool::isolate_emptiest(unsigned index) {
  if (!can_compact(index)) return FrameNumber::none;
  const auto emptiest = [](const Lane& lane) {
    return std::countr_zero(unsigned{lane.partly_filled.load(std::memory_order_relaxed)});  // 32 where there is none
  };
  auto& lanes = lanes_[index];
  Lane& lane = *std::ranges::min_element(lanes, {}, emptiest);
  const std::scoped_lock lock(lane.lock);
  if (lane.partly_filled.load(std::memory_order_relaxed) == 0) return FrameNumber::none;
  const auto list = static_cast<unsigned>(emptiest(lane));
  const FrameNumber head = lane.lists[list];
  unlink(lane, list, head);
  lane.isolated = head;
  return head;
}

// Ends the isolation; true if the zspage was empty and its frames were freed.
bool ZsPool::put_back(unsigned index, FrameNumber head) {
  const ZspageState& z = arena_.state(head);
  Lane& lane = lanes_[index][z.lane()];  // and there it stays: nobody can fill it
  {
    const std::scoped_lock lock(lane.lock);
    lane.isolated = FrameNumber::none;
    const std::uint16_t in_use = z.in_use();
    if (in_use != 0) {
      link(lane, ratio(index, in_use), head);
      return false;
    }
    --lane.zspages[0];
  }
  free_zspage(head);
  return true;
}

// A copy of the object in the fullest zspage that has room, of the lane that has it; never makes a new one, or nothing
// would be gained.
std::optional<Location> ZsPool::copy_elsewhere(Location from, unsigned index) {
  const auto header = ObjectHeader::unpack(header_word(from, index).load(std::memory_order_relaxed));
  const auto& lanes = lanes_[index];
  const auto fullest_list = [](const Lane& lane) { return lane.partly_filled.load(std::memory_order_relaxed); };
  const auto first = std::ranges::max_element(lanes, {}, fullest_list) - lanes.begin();
  const auto to = take_anywhere(index, header, static_cast<unsigned>(first));
  if (!to) return std::nullopt;
  std::array<std::byte, kFrameSize> scratch;
  write(*to, read(from, classes_[index].size - kHeaderSize, scratch));
  return to;
}

std::uint64_t ZsPool::compact_class(unsigned index, OwnerTable& owners) {
  std::uint64_t freed = 0;
  Location from = Location::none;
  struct {
    ZsPool& pool;
    const unsigned index;
    const Location& from;
  } moving{*this, index, from};
  // One pointer's capture: a std::function of it allocates nothing, in the path that is to free memory.
  const std::function<std::optional<Location>()> move = [&moving] {
    return moving.pool.copy_elsewhere(moving.from, moving.index);
  };
  for (;;) {
    const FrameNumber head = isolate_emptiest(index);
    if (head == FrameNumber::none) return freed;
    for (std::uint32_t object = 0; object < classes_[index].objects; ++object) {
      from = locate(head, index, object);
      const auto header = ObjectHeader::unpack(header_word(from, index).load(std::memory_order_relaxed));
      if (header.owner == kNoOwner) continue;
      // An owner that does not point back is a write in flight, or a free: either way not ours to move.
      if (owners.relocate(header.owner, from, move)) free(from);
    }
    if (!put_back(index, head)) return freed;
    freed += classes_[index].frames;
  }
}

std::uint64_t ZsPool::compact(OwnerTable& owners) {
  const std::scoped_lock lock(compaction_);
  std::uint64_t freed = 0;
  for (unsigned index = 0; index < kHugeClass; ++index) {
    if (classes_.exists(index)) freed += compact_class(index, owners);
  }
  pages_compacted_.fetch_add(freed, std::memory_order_relaxed);
  return freed;
}

}  // namespace uzram
