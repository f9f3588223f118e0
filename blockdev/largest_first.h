#pragma once
// Which pages passes over a device take, and in which order: the largest objects first, in steps of 64 bytes, as zram's
// post-processing does; for the device's own files.

#include <bitset>
#include <cstddef>

#include "blockdev/slot.h"
#include "blockdev/slot_table.h"

namespace uzram {

inline constexpr std::size_t kBucketBytes = 64;
inline constexpr std::size_t kBuckets = kPageSize / kBucketBytes;
using Buckets = std::bitset<kBuckets>;

// Of an object's slot.
inline std::size_t bucket_of(SlotValue value) { return (value.length() - 1) / kBucketBytes; }

// Whether the page is kept in an object of its own, and huge or idle where that is asked for.
template <class Request>
bool is_asked_for(SlotValue value, const Request& request) {
  return value.kind() == SlotKind::object && !value.is_same_filled() && (!request.huge || value.is_huge()) &&
         (!request.idle || value.is_idle());
}

// The buckets that have pages of [first, end) whose slots are wanted, as they are now.
template <class Wanted>
Buckets buckets_of(const SlotTable& table, PageIndex first, PageIndex end, const Wanted& wanted) {
  Buckets there;
  table.for_each(first, end, [&](PageIndex, const Slot& slot) {
    const SlotValue value(slot.load(std::memory_order_relaxed));
    if (wanted(value)) there.set(bucket_of(value));
  });
  return there;
}

// Calls run(bucket) for each bucket, the largest first; ends at the first failure.
template <class Run>
Result<void> for_each_largest_first(const Buckets& there, const Run& run) {
  for (std::size_t bucket = kBuckets; bucket-- > 0;) {
    if (!there[bucket]) continue;
    if (auto done = run(bucket); !done) return done;
  }
  return {};
}

}  // namespace uzram
