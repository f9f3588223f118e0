// Statistics of a ZsPool, and the check that they and its lists are right.

#include <numeric>

#include "allocator/ensure.h"
#include "allocator/zs_pool.h"

namespace uzram {

PoolStats ZsPool::stats() const {
  return {pages_.load(std::memory_order_relaxed), max_pages_.load(std::memory_order_relaxed),
          limit_.load(std::memory_order_relaxed), pages_compacted_.load(std::memory_order_relaxed)};
}

ClassStats ZsPool::class_stats(unsigned index) const {
  ClassStats s{.index = index, .geometry = classes_[index]};
  for (const Lane& lane : lanes_[index]) {
    const std::scoped_lock lock(lane.lock);
    for (unsigned r = 0; r < kRatios; ++r) s.by_ratio[r] += lane.zspages[r];
    s.almost_empty += lane.almost_empty;
    s.obj_used += lane.objects_used;
  }
  const std::uint64_t zspages = std::accumulate(s.by_ratio.begin(), s.by_ratio.end(), std::uint64_t{0});
  s.full = s.by_ratio[kFullRatio];
  s.almost_full = zspages - s.full - s.almost_empty - s.by_ratio[0];
  s.obj_allocated = zspages * s.geometry.objects;
  s.pages_used = zspages * s.geometry.frames;
  return s;
}

// Checks every list and count of a lane, and returns how many zspages are in it.
std::uint64_t ZsPool::check_lane(const Lane& lane, unsigned index, const Visit& live) const {
  const SizeClass& geometry = classes_[index];
  std::uint64_t used = 0;
  std::uint32_t almost_empty = 0;
  std::uint64_t all = 0;
  ensure(lane.isolated == FrameNumber::none && lane.zspages[0] == 0, "nothing is isolated or empty at rest");
  for (unsigned r = 1; r < kRatios; ++r) {
    std::uint32_t zspages = 0;
    FrameNumber previous = FrameNumber::none;
    for (FrameNumber head = lane.lists[r]; head != FrameNumber::none; head = arena_.state(head).next) {
      const ZspageState& z = arena_.state(head);
      ensure(&lane == &lanes_[index][z.lane()], "a zspage is in its lane");
      ensure(z.previous == previous, "a list links both ways");
      ensure(ratio(index, z.in_use()) == r, "a zspage is in the list of its fullness");
      std::uint32_t in_use = 0;
      for (std::uint32_t object = 0; object < geometry.objects; ++object) {
        const Location at = locate(head, index, object);
        ensure(position(at).head == head && position(at).object == object, "a location names its object");
        const auto header = ObjectHeader::unpack(header_word(at, index).load(std::memory_order_relaxed));
        if (header.owner == kNoOwner) continue;
        ++in_use;
        if (live) live(at, header);
      }
      ensure(in_use == z.in_use(), "a zspage counts its objects");
      used += in_use;
      almost_empty += is_almost_empty(index, in_use) ? 1 : 0;
      ++zspages;
      previous = head;
    }
    ensure(zspages == lane.zspages[r], "a lane counts its zspages");
    const bool marked = (lane.partly_filled.load(std::memory_order_relaxed) >> r & 1) != 0;
    ensure(r == kFullRatio || marked == (zspages != 0), "a bit for each list");
    all += zspages;
  }
  ensure(used == lane.objects_used && almost_empty == lane.almost_empty, "a lane counts its objects");
  return all;
}

void ZsPool::check_invariants(const Visit& live) const {
  std::uint64_t pages = 0;
  for (unsigned index = 0; index < kClasses; ++index) {
    for (const Lane& lane : lanes_[index]) pages += check_lane(lane, index, live) * classes_[index].frames;
  }
  ensure(pages == pages_.load(std::memory_order_relaxed), "the pool counts its pages");
}

}  // namespace uzram
