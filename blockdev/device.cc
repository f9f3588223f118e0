#include "blockdev/device.h"

#include <sys/random.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <system_error>

#include "allocator/ensure.h"
#include "blockdev/object_check.h"
#include "blockdev/same_filled.h"

namespace uzram {

class Stream {
 public:
  Stream(const CodecSpec& codec, unsigned worker) : compressor(make_compressor(codec)), worker_(worker) {}

  std::unique_ptr<Compressor> compressor;
  alignas(64) std::array<std::byte, kPageSize> page{};        // a page of which only a part is wanted
  alignas(64) std::array<std::byte, kPageSize> compressed{};  // the payload on its way in
  alignas(64) std::array<std::byte, kPageSize> gathered{};  // the payload on its way out, where it straddles

  [[nodiscard]] unsigned worker() const { return worker_; }

 private:
  const unsigned worker_;
};

void StreamDeleter::operator()(Stream* stream) const { delete stream; }

namespace {

PageIndex page_of(std::uint64_t offset) { return PageIndex{offset / kPageSize}; }

// Calls `whole(page, at)` for each page that lies in the range whole and `part(page, at, in_page, bytes)` for
// the others, in ascending order, where `at` is the position in the range; ends at the first failure.
template <class Whole, class Part>
IoResult for_each_page(ByteOffset offset, std::uint64_t length, Whole whole, Part part) {
  for (std::uint64_t at = 0; at < length;) {
    const std::uint64_t position = raw(offset) + at;
    const std::size_t in_page = position % kPageSize;
    const std::uint64_t bytes = std::min<std::uint64_t>(kPageSize - in_page, length - at);
    const IoResult result =
        bytes == kPageSize ? whole(page_of(position), at) : part(page_of(position), at, in_page, bytes);
    if (!result) return result;
    at += bytes;
  }
  return {};
}

// A random UUID: version 4, variant 1.
std::array<std::byte, 16> draw_uuid() {
  std::array<std::byte, 16> uuid{};
  ensure(getrandom(uuid.data(), uuid.size(), 0) == static_cast<ssize_t>(uuid.size()), "the system has random bytes");
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

std::uint64_t to_pages(std::uint64_t bytes) { return bytes / kPageSize + (bytes % kPageSize != 0 ? 1 : 0); }

void add(std::atomic<std::int64_t>& counter, std::int64_t n) {
  counter.fetch_add(n, std::memory_order_relaxed);
}

ExtentKind kind_of(const Slot* slot) {
  if (slot == nullptr) return ExtentKind::hole;
  const SlotValue value(slot->load(std::memory_order_relaxed));
  if (value.is_empty()) return ExtentKind::hole;
  return value.kind() == SlotKind::same && value.same_word() == 0 ? ExtentKind::zero : ExtentKind::data;
}

}  // namespace

// ---- life

Device::Device(PageArena& arena, const DeviceOptions& options)
    : options_(options),
      arena_(arena),
      pool_(arena, options.geometry),
      table_(arena, options.size / kPageSize) {
  set_mem_limit(options.mem_limit);
}

Result<std::unique_ptr<Device>> Device::create(PageArena& arena, const DeviceOptions& options) {
  DeviceOptions rounded = options;
  if (options.size == 0) return fail(EINVAL, "the size of a device is at least one page, not 0");
  if (options.size > kMaxDeviceBytes) return fail(EINVAL, "the size of a device is at most 16 TiB");
  rounded.size = to_pages(options.size) * kPageSize;
  if (rounded.uuid == std::array<std::byte, 16>{}) rounded.uuid = draw_uuid();
  const Geometry& g = options.geometry;
  if (g.chain < 4 || g.chain > kMaxChain) return fail(EINVAL, "the chain of a zspage is 4 to 16 pages");
  if (g.threshold_denominator == 0 || g.threshold_numerator > g.threshold_denominator) {
    return fail(EINVAL, "the fullness threshold is a fraction of at most 1");
  }
  try {
    return std::unique_ptr<Device>(new Device(arena, rounded));
  } catch (const std::bad_alloc&) {
    return fail(ENOMEM, "no memory for a device");
  }
}

Device::~Device() { free_pages(PageIndex{0}, PageIndex{table_.pages()}); }

StreamPtr Device::make_stream() const {
  return StreamPtr(
      new Stream(options_.codec, next_worker_.fetch_add(1, std::memory_order_relaxed) % kWorkers));
}

// ---- reading

IoResult Device::read(Stream& stream, ByteOffset offset, std::span<std::byte> out) {
  ensure(raw(offset) <= size() && out.size() <= size() - raw(offset), "a read lies inside the device");
  const auto whole = [&](PageIndex page, std::uint64_t at) {
    return read_page(stream, page, Page(out.data() + at, kPageSize));
  };
  const auto part = [&](PageIndex page, std::uint64_t at, std::size_t in_page, std::size_t bytes) {
    IoResult result = read_page(stream, page, stream.page);
    if (result) std::memcpy(out.data() + at, stream.page.data() + in_page, bytes);
    return result;
  };
  IoResult result = for_each_page(offset, out.size(), whole, part);
  if (!result) add(counters_[stream.worker()].failed_reads, 1);
  return result;
}

IoResult Device::read_page(Stream& stream, PageIndex page, Page out) {
  Slot* const slot = table_.find(page);
  if (slot == nullptr) {
    fill_page(out, 0);
    return {};
  }
  const SlotGuard guard(*slot);
  if (!decode(stream, page, guard.value(), out)) return tl::unexpected(IoError::io);
  return {};
}

// Puts the page into `out`; false where what is stored is damaged. Under the slot's lock, or the object might
// move.
bool Device::decode(Stream& stream, PageIndex page, SlotValue value, Page out) {
  if (value.kind() != SlotKind::object) {
    fill_page(out, value.is_empty() ? 0 : value.same_word());
    return true;
  }
  const auto payload = pool_.read(value.location(), value.length(), stream.gathered);
  const ObjectHeader header = pool_.header(value.location(), value.length());
  const bool intact = header.owner == Owner{raw(page)} &&
                      (!options_.check || header.check == object_check(payload, value.codec()));
  bool decoded = intact;
  if (intact) {
    switch (value.codec()) {
      case kCodecAsIs:
        std::memcpy(out.data(), payload.data(), kPageSize);
        break;
      case kCodecPattern: {
        std::uint64_t word;
        std::memcpy(&word, payload.data(), sizeof word);
        fill_page(out, word);
        break;
      }
      default:
        decoded = stream.compressor->decompress(payload, out);
    }
  }
  if (!decoded) add(counters_[stream.worker()].check_failures, 1);
  return decoded;
}

// ---- writing

IoResult Device::write(Stream& stream, ByteOffset offset, std::span<const std::byte> in) {
  ensure(raw(offset) <= size() && in.size() <= size() - raw(offset), "a write lies inside the device");
  const auto whole = [&](PageIndex page, std::uint64_t at) {
    return write_page(stream, page, ConstPage(in.data() + at, kPageSize));
  };
  const auto part = [&](PageIndex page, std::uint64_t at, std::size_t in_page, std::size_t bytes) {
    return write_part(stream, page, in_page, in.subspan(at, bytes));
  };
  IoResult result = for_each_page(offset, in.size(), whole, part);
  if (!result) add(counters_[stream.worker()].failed_writes, 1);
  return result;
}

// Stores first, exchanges then, frees last: a write that fails leaves the old page.
IoResult Device::write_page(Stream& stream, PageIndex page, ConstPage in) {
  Slot* const slot = table_.find_or_make(page);
  if (slot == nullptr) return tl::unexpected(IoError::no_space);
  const auto value = store(stream, page, in);
  if (!value) return tl::unexpected(IoError::no_space);
  SlotGuard guard(*slot);
  replace(guard, *value, counters_[stream.worker()]);
  return {};
}

// Reads, patches and writes back under the slot's lock, so that two writers of one page's parts both survive.
IoResult Device::write_part(Stream& stream, PageIndex page, std::size_t at, std::span<const std::byte> in) {
  Slot* const slot = table_.find_or_make(page);
  if (slot == nullptr) return tl::unexpected(IoError::no_space);
  SlotGuard guard(*slot);
  if (!decode(stream, page, guard.value(), stream.page)) return tl::unexpected(IoError::io);
  std::memcpy(stream.page.data() + at, in.data(), in.size());
  const auto value = store(stream, page, stream.page);
  if (!value) return tl::unexpected(IoError::no_space);
  replace(guard, *value, counters_[stream.worker()]);
  return {};
}

// Keeps the page's bytes and returns the slot that will say so; nothing where there is no room.
std::optional<SlotValue> Device::store(Stream& stream, PageIndex page, ConstPage in) {
  if (const auto word = same_filled_word(in)) {
    if (const auto value = SlotValue::same(*word)) return value;
    return store_object(page, in.first<sizeof *word>(), kCodecPattern);
  }
  const std::size_t most = pool_.classes().huge_class_size() - 1;
  const std::size_t length = stream.compressor->compress(in, std::span(stream.compressed).first(most));
  if (length != 0) return store_object(page, std::span(stream.compressed).first(length), kCodecFirst);
  return store_object(page, in, kCodecAsIs);
}

std::optional<SlotValue> Device::store_object(PageIndex page, std::span<const std::byte> payload,
                                              unsigned codec) {
  const std::uint32_t check = options_.check ? object_check(payload, codec) : 0;
  const auto location = pool_.malloc(payload.size(), {Owner{raw(page)}, check});
  if (!location) return std::nullopt;
  pool_.write(*location, payload);
  return SlotValue::object(*location, payload.size(), codec);
}

// Exchanges the slot's value and frees what came out.
void Device::replace(SlotGuard& slot, SlotValue value, Counters& counters) {
  const SlotValue old = slot.exchange(value);
  const auto account = [&](SlotValue v, std::int64_t by) {
    if (v.is_empty()) return;
    add(counters.pages, by);
    if (v.kind() == SlotKind::same || v.codec() == kCodecPattern) add(counters.same_pages, by);
    if (v.kind() != SlotKind::object) return;
    add(counters.compr_data_size, by * static_cast<std::int64_t>(v.length()));
    if (v.codec() == kCodecAsIs) add(counters.huge_pages, by);
  };
  account(old, -1);
  account(value, +1);
  if (value.kind() == SlotKind::object && value.codec() == kCodecAsIs) add(counters.huge_pages_since, 1);
  if (old.kind() == SlotKind::object) pool_.free(old.location());
}

// ---- discard and zeroes

void Device::free_pages(PageIndex first, PageIndex end) {
  Counters& counters = this->counters();
  for (PageIndex page = table_.next_present(first, end); raw(page) < raw(end);
       page = table_.next_present(PageIndex{raw(page) + 1}, end)) {
    Slot* const slot = table_.find(page);
    if (SlotValue(slot->load(std::memory_order_relaxed)).is_empty()) continue;
    SlotGuard guard(*slot);
    replace(guard, SlotValue(), counters);
  }
}

void Device::discard(ByteOffset offset, std::uint64_t length) {
  ensure(raw(offset) <= size() && length <= size() - raw(offset), "a discard lies inside the device");
  const auto [first, end] = whole_pages(offset, length);
  free_pages(first, end);
  add(counters().notify_free, static_cast<std::int64_t>(raw(end) - raw(first)));
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
  if (kind_of(table_.find(page_of(raw(offset)))) != ExtentKind::data) return {};
  return write(stream, offset, std::span(kZeroes).first(length));
}

Extent Device::extent_at(ByteOffset offset, std::uint64_t length) const {
  ensure(length > 0 && raw(offset) < size() && length <= size() - raw(offset),
         "an extent lies inside the device");
  const PageIndex end{to_pages(raw(offset) + length)};
  PageIndex page = page_of(raw(offset));
  const ExtentKind kind = kind_of(table_.find(page));
  do {
    page = PageIndex{raw(page) + 1};
    if (kind == ExtentKind::hole) page = table_.next_present(page, end);
  } while (raw(page) < raw(end) && kind_of(table_.find(page)) == kind);
  return {std::min(raw(page) * kPageSize - raw(offset), length), kind};
}

// ---- compaction

namespace {

// Lets compaction change the slots of a table: an object's owner is its page.
class TableOwners final : public OwnerTable {
 public:
  explicit TableOwners(const SlotTable& table) : table_(table) {}

  bool relocate(Owner owner, Location from, const std::function<std::optional<Location>()>& move) override {
    if (raw(owner) >= table_.pages()) return false;
    Slot* const slot = table_.find(PageIndex{raw(owner)});
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
};

}  // namespace

std::uint64_t Device::compact() {
  TableOwners owners(table_);
  return pool_.compact(owners);
}

// ---- limits and statistics

void Device::set_mem_limit(std::uint64_t bytes) { pool_.set_page_limit(to_pages(bytes)); }

void Device::reset_mem_used_max() { pool_.reset_max_pages(); }

bool Device::can_run_full() const { return pool_.stats().limit_pages != 0 || !arena_.options().grow; }

// The counters of a caller without a stream.
Device::Counters& Device::counters() const { return counters_[0]; }

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
          .table_memory = table_.frames() * kFrameSize};
}

void Device::check_invariants() const {
  DeviceStats found;
  std::uint64_t objects = 0;
  const PageIndex end{table_.pages()};
  for (PageIndex page = table_.next_present(PageIndex{0}, end); raw(page) < raw(end);
       page = table_.next_present(PageIndex{raw(page) + 1}, end)) {
    const std::uint64_t word = table_.find(page)->load();
    ensure((word & SlotValue::kLock) == 0, "no slot is locked at rest");
    const SlotValue value(word);
    if (value.is_empty()) continue;
    found.orig_data_size += kPageSize;
    if (value.kind() == SlotKind::same || value.codec() == kCodecPattern) ++found.same_pages;
    if (value.kind() != SlotKind::object) continue;
    ++objects;
    found.compr_data_size += value.length();
    if (value.codec() == kCodecAsIs) ++found.huge_pages;
  }
  pool_.check_invariants([&](Location location, ObjectHeader header) {
    const Slot* const slot =
        raw(header.owner) < table_.pages() ? table_.find(PageIndex{raw(header.owner)}) : nullptr;
    ensure(slot != nullptr, "an object's owner exists");
    const SlotValue value(slot->load());
    ensure(value.kind() == SlotKind::object && value.location() == location,
           "an object's owner points at it");
    --objects;
  });
  ensure(objects == 0, "every slot's object is in the pool");
  const DeviceStats counted = stats();
  ensure(found.orig_data_size == counted.orig_data_size && found.compr_data_size == counted.compr_data_size &&
             found.same_pages == counted.same_pages && found.huge_pages == counted.huge_pages,
         "the counters agree with the table");
}

}  // namespace uzram
