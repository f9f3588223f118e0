// Compaction of a ZsPool: objects move out of the emptiest zspages into the fullest.

#include <utility>

#include "allocator/zs_pool.h"

namespace uzram {

bool ZsPool::can_compact(const ClassState& c, unsigned index) const {
  std::uint64_t zspages = 0;
  for (const std::uint32_t n : c.zspages) zspages += n;
  const std::uint64_t objects = classes_[index].objects;
  return (zspages * objects - c.objects_used) / objects >= 1;
}

// Takes the emptiest zspage out of its list, if emptying it can free it.
FrameNumber ZsPool::isolate_emptiest(unsigned index) {
  ClassState& c = states_[index];
  const std::scoped_lock lock(c.lock);
  if (c.partly_filled == 0 || !can_compact(c, index)) return FrameNumber::none;
  const unsigned emptiest = static_cast<unsigned>(__builtin_ctz(c.partly_filled));
  const FrameNumber head = c.lists[emptiest];
  unlink(c, emptiest, head);
  c.isolated = head;
  return head;
}

// Ends the isolation; true if the zspage was empty and its frames were freed.
bool ZsPool::put_back(unsigned index) {
  ClassState& c = states_[index];
  FrameNumber head;
  {
    const std::scoped_lock lock(c.lock);
    head = std::exchange(c.isolated, FrameNumber::none);
    const std::uint16_t in_use = arena_.state(head).in_use;
    if (in_use != 0) {
      link(c, ratio(index, in_use), head);
      return false;
    }
    --c.zspages[0];
  }
  free_zspage(head);
  return true;
}

// A copy of the object in the fullest zspage that has room; never makes a new one, or nothing would be
// gained.
std::optional<Location> ZsPool::copy_elsewhere(Location from, unsigned index) {
  ClassState& c = states_[index];
  const auto header = ObjectHeader::unpack(header_word(from, index).load(std::memory_order_relaxed));
  Location to;
  {
    const std::scoped_lock lock(c.lock);
    const FrameNumber head = fullest(c);
    if (head == FrameNumber::none) return std::nullopt;
    to = take(c, index, head, header);
  }
  std::array<std::byte, kFrameSize> scratch;
  write(to, read(from, classes_[index].size - kHeaderSize, scratch));
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
    if (!put_back(index)) return freed;
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
