// The life of a Device, its discards, extents and compaction. The data path is in device_io.cc.

#include "blockdev/device.h"

#include <sys/random.h>

#include <algorithm>
#include <new>
#include <utility>

#include "allocator/ensure.h"
#include "blockdev/device_record.h"
#include "blockdev/stream.h"

namespace uzram {

void StreamDeleter::operator()(Stream* stream) const { delete stream; }

namespace {

// A random UUID: version 4, variant 1; nothing where the system has no random bytes.
std::optional<std::array<std::byte, 16>> draw_uuid() {
  std::array<std::byte, 16> uuid{};
  if (getrandom(uuid.data(), uuid.size(), 0) != static_cast<ssize_t>(uuid.size())) return std::nullopt;
  uuid[6] = (uuid[6] & std::byte{0x0f}) | std::byte{0x40};
  uuid[8] = (uuid[8] & std::byte{0x3f}) | std::byte{0x80};
  return uuid;
}

// The pages that lie in the range whole: [first, end).
struct WholePages {
  PageIndex first;
  PageIndex end;
};
WholePages whole_pages(ByteOffset offset, std::uint64_t length) {
  const std::uint64_t first = (raw(offset) + kPageSize - 1) / kPageSize;
  return {PageIndex{first}, PageIndex{std::max(first, (raw(offset) + length) / kPageSize)}};
}

ExtentKind kind_of(const Slot* slot) {
  if (slot == nullptr) return ExtentKind::hole;
  const SlotValue value(slot->load(std::memory_order_relaxed));
  if (value.is_empty()) return ExtentKind::hole;
  // A damaged one is data, which has to be read to be told of it.
  const bool zero = value.kind() == SlotKind::same && value.intact() && value.same_word() == 0;
  return zero ? ExtentKind::zero : ExtentKind::data;
}

}  // namespace

Device::Device(PageArena& arena, const DeviceOptions& options, const DeviceIdentity& identity, FrameNumber record)
    : options_(options),
      identity_(identity),
      record_(record),
      arena_(arena),
      pool_(arena, options.geometry),
      table_(arena, options.size / kPageSize, identity.number) {
  pool_.set_page_limit(limit_in_pages(options.mem_limit));
  codecs_.set(0, options.codec);
  for (unsigned priority = 1; priority < CodecTable::kPriorities; ++priority) {
    if (const auto codec = recorded_recompression(arena.bytes(record), priority)) codecs_.set(priority, *codec);
  }
}

Result<std::unique_ptr<Device>> Device::create(PageArena& arena, const DeviceOptions& options,
                                               const DeviceIdentity& identity) {
  DeviceOptions rounded = options;
  if (options.size == 0) return fail(EINVAL, "the size of a device is at least one page, not 0");
  if (options.size > kMaxDeviceBytes) return fail(EINVAL, "the size of a device is at most 16 TiB");
  rounded.size = to_pages(options.size) * kPageSize;
  if (rounded.uuid == std::array<std::byte, 16>{}) {
    const auto uuid = draw_uuid();
    if (!uuid) return fail(EIO, "no random bytes for a device's UUID");
    rounded.uuid = *uuid;
  }
  const Geometry& g = options.geometry;
  if (g.chain < 4 || g.chain > kMaxChain) return fail(EINVAL, "the chain of a zspage is 4 to 16 pages");
  if (g.threshold_denominator == 0 || g.threshold_numerator > g.threshold_denominator) {
    return fail(EINVAL, "the fullness threshold is a fraction of at most 1");
  }
  FrameNumber record = FrameNumber::none;
  if (!arena.allocate({&record, 1})) return fail(ENOSPC, "no memory for a device");
  write_record(arena.bytes(record), rounded, identity);
  return std::unique_ptr<Device>(new Device(arena, rounded, identity, record));
}

Device::~Device() {
  if (arena_.options().fd < 0) erase();
}

void Device::publish() { arena_.entry(record_).publish({.kind = FrameKind::device}); }

void Device::unpublish() { arena_.entry(record_).publish({}); }

void Device::erase() {
  end_passes();
  const std::unique_lock lock(life_);
  if (record_ == FrameNumber::none) return;
  unpublish();  // dead first: from here on nothing that is left belongs to anyone
  free_pages(PageIndex{0}, PageIndex{table_.pages()});
  table_.clear();
  arena_.free({&record_, 1});
  record_ = FrameNumber::none;
}

StreamPtr Device::make_stream() const {
  return StreamPtr(new Stream(options_.codec, next_worker_.fetch_add(1, std::memory_order_relaxed) % kWorkers));
}

void Device::free_pages(PageIndex first, PageIndex end) {
  table_.for_each(first, end, [&](PageIndex, Slot& slot) {
    if (SlotValue(slot.load(std::memory_order_relaxed)).is_empty()) return;
    SlotGuard guard(slot);
    replace(guard, SlotValue(), kNoStream);
  });
}

void Device::discard(ByteOffset offset, std::uint64_t length) {
  ensure(raw(offset) <= size() && length <= size() - raw(offset), "a discard lies inside the device");
  const auto [first, end] = whole_pages(offset, length);
  free_pages(first, end);
  counters().notify_free.fetch_add(static_cast<std::int64_t>(raw(end) - raw(first)), std::memory_order_relaxed);
}

IoResult Device::write_zeroes(Stream& stream, ByteOffset offset, std::uint64_t length) {
  const std::uint64_t end = raw(offset) + length;
  const std::uint64_t first_whole = std::min(to_pages(raw(offset)) * kPageSize, end);
  const std::uint64_t last_whole = std::max(end / kPageSize * kPageSize, first_whole);
  discard(offset, length);
  IoResult result;
  if (first_whole > raw(offset)) result = zero_part(stream, offset, first_whole - raw(offset));
  if (result && end > last_whole) result = zero_part(stream, ByteOffset{last_whole}, end - last_whole);
  return result;
}

IoResult Device::zero_part(Stream& stream, ByteOffset offset, std::uint64_t length) {
  static constexpr std::array<std::byte, kPageSize> kZeroes{};
  // A page that is empty reads as zeroes already, and stays empty.
  if (kind_of(table_.find(page_of(offset))) != ExtentKind::data) return {};
  return write(stream, offset, std::span(kZeroes).first(length));
}

namespace {

PageState state_of(const Slot* slot) {
  if (slot == nullptr) return PageState::hole;
  const SlotValue value(slot->load(std::memory_order_relaxed));
  if (value.is_empty()) return PageState::hole;
  if (value.kind() == SlotKind::damaged || !value.intact()) return PageState::damaged;
  if (value.is_same_filled()) return PageState::same_filled;
  if (value.is_written_back()) return PageState::written_back;
  return value.is_huge() ? PageState::huge : PageState::compressed;
}

// The length of the run from `offset` whose pages are what kind_of says of the first; at most `length`.
template <class KindOf>
auto run_at(const SlotTable& table, ByteOffset offset, std::uint64_t length, const KindOf& kind_of_slot) {
  const PageIndex end{to_pages(raw(offset) + length)};
  PageIndex page = page_of(offset);
  const auto kind = kind_of_slot(table.find(page));
  const auto hole = kind_of_slot(nullptr);
  do {
    page = PageIndex{raw(page) + 1};
    if (kind == hole) page = table.next_present(page, end);
  } while (raw(page) < raw(end) && kind_of_slot(table.find(page)) == kind);
  return std::pair{std::min(raw(page) * kPageSize - raw(offset), length), kind};
}

}  // namespace

Extent Device::extent_at(ByteOffset offset, std::uint64_t length) const {
  ensure(length > 0 && raw(offset) < size() && length <= size() - raw(offset), "an extent lies inside the device");
  const auto [run, kind] = run_at(table_, offset, length, kind_of);
  return {run, kind};
}

PageExtent Device::page_extent_at(ByteOffset offset, std::uint64_t length) const {
  ensure(length > 0 && raw(offset) < size() && length <= size() - raw(offset), "an extent lies inside the device");
  const auto [run, kind] = run_at(table_, offset, length, state_of);
  return {run, kind};
}

namespace {

// Lets compaction change the slots of a table: an object's owner is its page.
class TableOwners final : public OwnerTable {
 public:
  TableOwners(const SlotTable& table, std::uint8_t device) : table_(table), device_(device) {}

  bool relocate(Owner owner, Location from, const std::function<std::optional<Location>()>& move) override {
    const PageIndex page{raw(owner) & 0xffffffff};
    if (raw(owner) >> 32 != device_ || raw(page) >= table_.pages()) return false;
    Slot* const slot = table_.find(page);
    if (slot == nullptr) return false;
    SlotGuard guard(*slot);
    const SlotValue value = guard.value();
    if (value.kind() != SlotKind::object || value.location() != from) return false;
    const auto to = move();
    if (!to) return false;
    // What comes out is `from`, which the pool frees.
    return guard.exchange(value.moved_to(*to)).location() == from;
  }

 private:
  const SlotTable& table_;
  const std::uint8_t device_;
};

}  // namespace

std::uint64_t Device::compact() {
  const std::shared_lock lock(life_);
  if (record_ == FrameNumber::none) return 0;
  TableOwners owners(table_, identity_.number);
  return pool_.compact(owners);
}

void Device::set_mem_limit(std::uint64_t bytes) {
  const std::shared_lock lock(life_);
  if (record_ == FrameNumber::none) return;
  pool_.set_page_limit(limit_in_pages(bytes));
  record_mem_limit(arena_.bytes(record_), bytes);
}

}  // namespace uzram
