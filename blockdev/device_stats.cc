// The statistics of a Device, and the check that they, the slots and the pool agree.

#include <algorithm>

#include "allocator/ensure.h"
#include "blockdev/device.h"

namespace uzram {

void Device::reset_mem_used_max() { pool_.reset_max_pages(); }

bool Device::can_run_full() const {  // A tmpfs has a limit of its own.
  return pool_.stats().limit_pages != 0 || !arena_.options().grow || arena_.options().fd >= 0;
}

// The counters of a caller without a stream.
Device::Counters& Device::counters() const { return counters_[kNoStream]; }

std::int64_t Device::sum(Counter counter) const {
  std::int64_t total = 0;
  for (const Counters& c : counters_) total += (c.*counter).load(std::memory_order_relaxed);
  return std::max<std::int64_t>(total, 0);  // a reader may see one half of a change
}

DeviceStats Device::stats() const {
  const auto value = [this](Counter counter) { return static_cast<std::uint64_t>(sum(counter)); };
  const PoolStats pool = pool_.stats();
  return {.orig_data_size = value(&Counters::pages) * kPageSize,
          .compr_data_size = value(&Counters::compr_data_size),
          .mem_used_total = pool.pages * kPageSize,
          .mem_limit = pool.limit_pages * kPageSize,
          .mem_used_max = pool.max_pages * kPageSize,
          .same_pages = value(&Counters::same_pages),
          .pages_compacted = pool.pages_compacted,
          .huge_pages = value(&Counters::huge_pages),
          .huge_pages_since = value(&Counters::huge_pages_since),
          .failed_reads = value(&Counters::failed_reads),
          .failed_writes = value(&Counters::failed_writes),
          .notify_free = value(&Counters::notify_free),
          .check_failures = value(&Counters::check_failures),
          .scrub_failures = value(&Counters::scrub_failures),
          .bd_count = value(&Counters::bd_count),
          .bd_reads = value(&Counters::bd_reads),
          .bd_writes = value(&Counters::bd_writes),
          .table_memory = table_.frames() * kFrameSize};
}

void Device::check_invariants() const {
  DeviceStats found;
  std::uint64_t objects = 0;
  table_.for_each(PageIndex{0}, PageIndex{table_.pages()}, [&](PageIndex, const Slot& slot) {
    const std::uint64_t word = slot.load();
    ensure((word & SlotValue::kLock) == 0, "no slot is locked at rest");
    const SlotValue value(word);
    if (value.is_empty()) return;
    found.orig_data_size += kPageSize;
    ensure(value.intact(), "a slot's parity is even");
    if (value.is_same_filled()) ++found.same_pages;
    if (value.is_written_back()) ++found.bd_count;
    if (value.kind() != SlotKind::object) return;
    ++objects;
    found.compr_data_size += value.length();
    if (value.is_huge()) ++found.huge_pages;
  });
  pool_.check_invariants([&](Location location, ObjectHeader header) {
    const PageIndex page{raw(header.owner) & 0xffffffff};
    ensure(owner(page) == header.owner, "an object's owner is of this device");
    const Slot* const slot = raw(page) < table_.pages() ? table_.find(page) : nullptr;
    ensure(slot != nullptr, "an object's owner exists");
    const SlotValue value(slot->load());
    ensure(value.kind() == SlotKind::object && value.location() == location, "an object's owner points at it");
    --objects;
  });
  ensure(objects == 0, "every slot's object is in the pool");
  const DeviceStats counted = stats();
  ensure(found.orig_data_size == counted.orig_data_size && found.compr_data_size == counted.compr_data_size &&
             found.same_pages == counted.same_pages && found.huge_pages == counted.huge_pages &&
             found.bd_count == counted.bd_count,
         "the counters agree with the table");
}

}  // namespace uzram
