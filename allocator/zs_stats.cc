// Statistics of a ZsPool, and the check that they and its lists are right.

#include "allocator/ensure.h"
#include "allocator/zs_pool.h"

namespace uzram {

PoolStats ZsPool::stats() const {
  return {pages_.load(std::memory_order_relaxed), max_pages_.load(std::memory_order_relaxed),
          limit_.load(std::memory_order_relaxed), pages_compacted_.load(std::memory_order_relaxed)};
}

ClassStats ZsPool::class_stats(unsigned index) const {
  const ClassState& c = states_[index];
  ClassStats s{.index = index, .geometry = classes_[index]};
  const std::scoped_lock lock(c.lock);
  std::uint64_t zspages = 0;
  for (unsigned r = 0; r < kRatios; ++r) {
    s.by_ratio[r] = c.zspages[r];
    zspages += c.zspages[r];
  }
  s.full = c.zspages[kFullRatio];
  s.almost_empty = c.almost_empty;
  s.almost_full = zspages - s.full - s.almost_empty - c.zspages[0];
  s.obj_allocated = zspages * s.geometry.objects;
  s.obj_used = c.objects_used;
  s.pages_used = zspages * s.geometry.frames;
  return s;
}

void ZsPool::check_invariants(const std::function<void(Location, ObjectHeader)>& live) const {
  std::uint64_t pages = 0;
  for (unsigned index = 0; index < kClasses; ++index) {
    const ClassState& c = states_[index];
    const SizeClass& geometry = classes_[index];
    std::uint64_t used = 0;
    std::uint32_t almost_empty = 0;
    ensure(c.isolated == FrameNumber::none && c.zspages[0] == 0, "nothing is isolated or empty at rest");
    for (unsigned r = 1; r < kRatios; ++r) {
      std::uint32_t zspages = 0;
      FrameNumber previous = FrameNumber::none;
      for (FrameNumber head = c.lists[r]; head != FrameNumber::none; head = arena_.state(head).next) {
        const ZspageState& z = arena_.state(head);
        ensure(z.previous == previous, "a list links both ways");
        ensure(ratio(index, z.in_use) == r, "a zspage is in the list of its fullness");
        std::uint32_t in_use = 0;
        for (std::uint32_t object = 0; object < geometry.objects; ++object) {
          const Location at = locate(head, index, object);
          ensure(position(at).head == head && position(at).object == object, "a location names its object");
          const auto header = ObjectHeader::unpack(header_word(at, index).load(std::memory_order_relaxed));
          if (header.owner == kNoOwner) continue;
          ++in_use;
          if (live) live(at, header);
        }
        ensure(in_use == z.in_use, "a zspage counts its objects");
        used += in_use;
        almost_empty += is_almost_empty(index, in_use) ? 1 : 0;
        ++zspages;
        previous = head;
      }
      ensure(zspages == c.zspages[r], "a class counts its zspages");
      ensure(r == kFullRatio || ((c.partly_filled >> r & 1) != 0) == (zspages != 0), "a bit for each list");
      pages += std::uint64_t{zspages} * geometry.frames;
    }
    ensure(used == c.objects_used && almost_empty == c.almost_empty, "a class counts its objects");
  }
  ensure(pages == pages_.load(std::memory_order_relaxed), "the pool counts its pages");
}

}  // namespace uzram
