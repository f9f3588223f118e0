// The scrub of a Device: whether everything that is stored can still be read.

#include <array>

#include "blockdev/device.h"

namespace uzram {

ScrubReport Device::scrub() {
  const std::shared_lock lock(life_);
  ScrubReport report;
  if (record_ == FrameNumber::none) return report;
  table_.for_each(PageIndex{0}, PageIndex{table_.pages()},
                  [&](PageIndex page, Slot& slot) { scrub_slot(page, slot, report); });
  counters().scrub_failures.fetch_add(static_cast<std::int64_t>(report.damaged), std::memory_order_relaxed);
  return report;
}

// Whether a page that is in memory is whole; nothing where it is written back. Under the slot's lock, or the object
// might move.
std::optional<bool> Device::scrub_in_memory(PageIndex page, SlotValue value, ScrubReport& report) const {
  if (value.is_written_back()) return std::nullopt;
  if (!value.intact()) return false;
  if (value.kind() != SlotKind::object) return value.kind() == SlotKind::same;
  ++report.objects;
  return scrub_object(page, value);
}

void Device::scrub_slot(PageIndex page, Slot& slot, ScrubReport& report) const {
  if (SlotValue(slot.load(std::memory_order_relaxed)).is_empty()) return;
  std::optional<bool> whole;
  while (!whole) {
    SlotValue value;
    {
      const SlotGuard guard(slot);
      value = guard.value();
      if (value.is_empty()) return;
      whole = scrub_in_memory(page, value, report);
    }
    if (whole) break;
    alignas(kPageSize) std::array<std::byte, kPageSize> scratch;
    const Fetched fetched = fetch(page, slot, value, scratch);
    if (fetched != Fetched::changed) whole = fetched == Fetched::whole;
  }
  ++report.pages;
  if (*whole) return;
  ++report.damaged;
  if (report.named.size() < ScrubReport::kNamed) report.named.push_back(page);
}

bool Device::scrub_object(PageIndex page, SlotValue value) const {
  const auto found = pool_.probe(value.location(), value.length(), arena_.end());
  if (!found) return false;
  std::array<std::byte, kFrameSize> scratch;
  return is_whole(page, value, found->header, pool_.read(value.location(), value.length(), scratch));
}

}  // namespace uzram
