// The data path of a Device: one 4 KiB write and one 4 KiB read, from bytes to slots and back.

#include <algorithm>
#include <cstring>
#include <utility>

#include "allocator/ensure.h"
#include "blockdev/backing_file.h"
#include "blockdev/device.h"
#include "blockdev/object_check.h"
#include "blockdev/same_filled.h"
#include "blockdev/stream.h"

namespace uzram {
namespace {

void add(std::atomic<std::int64_t>& counter, std::int64_t n) { counter.fetch_add(n, std::memory_order_relaxed); }

// Calls `whole(page, at)` for each page that lies in the range whole and `part(page, at, in_page, bytes)` for
// the others, in ascending order, where `at` is the position in the range; ends at the first failure.
template <class Whole, class Part>
IoResult for_each_page(ByteOffset offset, std::uint64_t length, Whole whole, Part part) {
  for (std::uint64_t at = 0; at < length;) {
    const ByteOffset position{raw(offset) + at};
    const std::size_t in_page = raw(position) % kPageSize;
    const std::uint64_t bytes = std::min<std::uint64_t>(kPageSize - in_page, length - at);
    const IoResult result =
        bytes == kPageSize ? whole(page_of(position), at) : part(page_of(position), at, in_page, bytes);
    if (!result) return result;
    at += bytes;
  }
  return {};
}

}  // namespace

IoResult Device::read(Stream& stream, ByteOffset offset, std::span<std::byte> out) {
  ensure(raw(offset) <= size() && out.size() <= size() - raw(offset), "a read lies inside the device");
  if (out.size() > kPageSize) stream.next = page_of(offset);  // this one goes on
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
  fetch_ahead(stream, page, *slot);
  for (;;) {
    SlotValue away;
    {
      SlotGuard guard(*slot);
      const SlotValue value = guard.value();
      if (!value.is_written_back()) {
        if (!decode(stream, page, value, out)) return tl::unexpected(IoError::io);
        if (value.is_marked()) (void)guard.exchange(value.unmarked());  // the same object
        return {};
      }
      away = value;
    }
    if (auto read = read_written_back(stream, page, *slot, away, out)) return *read;
  }
}

// Whoever reads one page after the other finds the next in the cache: its object is fetched while this one is read. A
// racing writer makes this useless, never wrong.
void Device::fetch_ahead(Stream& stream, PageIndex page, const Slot& slot) const {
  const PageIndex next{raw(page) + 1};
  const bool goes_on = std::exchange(stream.next, next) == page;
  if (!goes_on || raw(next) % SlotTable::kLeafSlots == 0) return;
  const SlotValue value((&slot)[1].load(std::memory_order_relaxed));
  if (value.is_whole_object()) pool_.prefetch_read(value.location(), value.length());
}

// Puts the page into `out`; false where what is stored is damaged. Under the slot's lock, or the object might
// move.
bool Device::decode(Stream& stream, PageIndex page, SlotValue value, Page out) {
  bool decoded = value.intact();
  if (decoded && value.kind() == SlotKind::object) {
    decoded = decode_object(stream, page, value, out);
  } else if (decoded && (value.is_empty() || value.kind() == SlotKind::same)) {
    fill_page(out, value.is_empty() ? 0 : value.same_word());
  } else {
    decoded = false;
  }
  if (!decoded) add(counters_[stream.worker()].check_failures, 1);
  return decoded;
}

// Whether the object is this page's, with the payload that was stored.
bool Device::is_whole(PageIndex page, SlotValue value, ObjectHeader header, std::span<const std::byte> payload) const {
  return header.owner == owner(page) && (!options_.check || header.check == object_check(payload, value.codec()));
}

bool Device::decode_object(Stream& stream, PageIndex page, SlotValue value, Page out) {
  pool_.prefetch_read(value.location(), value.length());
  const auto payload = pool_.read(value.location(), value.length(), stream.gathered);
  if (!is_whole(page, value, pool_.header(value.location(), value.length()), payload)) return false;
  if (value.codec() == kCodecAsIs) {
    if (payload.size() != kPageSize) return false;
    std::memcpy(out.data(), payload.data(), kPageSize);
    return true;
  }
  if (value.codec() == kCodecPattern) {
    std::uint64_t word = 0;
    std::memcpy(&word, payload.data(), std::min(sizeof word, payload.size()));
    fill_page(out, word);
    return true;
  }
  const auto codec = codecs_.at(value.codec() - kCodecFirst);
  return codec && stream.decompressor(codec->algorithm).decompress(payload, out);
}

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
  // The slot, what freeing the old page needs, and its place may each be in no cache, and each is known by the one
  // before it: they are fetched while the compressor gets ready, while it is at work, and while it is at work on the
  // next page, which may be written there. A racing writer makes this useless, never wrong.
  __builtin_prefetch(slot, 1);
  stream.compressor->prepare();
  const SlotValue old(slot->load(std::memory_order_relaxed));
  if (old.is_whole_object()) pool_.prefetch_free(old.location());
  const auto value = store(stream, page, in);
  if (!value) return tl::unexpected(IoError::no_space);
  SlotGuard guard(*slot);
  replace(guard, *value, stream.worker());
  if (old.is_whole_object()) pool_.prefetch_place(old.location(), old.length());
  return {};
}

// Reads, patches and writes back under the slot's lock, so that two writers of one page's parts both survive.
IoResult Device::write_part(Stream& stream, PageIndex page, std::size_t at, std::span<const std::byte> in) {
  Slot* const slot = table_.find_or_make(page);
  if (slot == nullptr) return tl::unexpected(IoError::no_space);
  SlotValue fetched;  // a written-back page, which is in stream.page
  for (;;) {
    {
      SlotGuard guard(*slot);
      const SlotValue old = guard.value();
      const bool is_here = fetched.is_written_back() && old == fetched;
      if (is_here || !old.is_written_back()) {
        if (!is_here && !decode(stream, page, old, stream.page)) return tl::unexpected(IoError::io);
        std::memcpy(stream.page.data() + at, in.data(), in.size());
        const auto value = store(stream, page, stream.page);
        if (!value) return tl::unexpected(IoError::no_space);
        replace(guard, *value, stream.worker());
        return {};
      }
      fetched = old;
    }
    const auto read = read_written_back(stream, page, *slot, fetched, stream.page);
    if (read && !*read) return *read;
    if (!read) fetched = SlotValue();
  }
}

// Keeps the page's bytes and returns the slot that will say so; nothing where there is no room.
std::optional<SlotValue> Device::store(Stream& stream, PageIndex page, ConstPage in) {
  if (const auto word = same_filled_word(in)) {
    if (const auto value = SlotValue::same(*word)) return value;
    return store_object(stream, page, in.first<sizeof *word>(), kCodecPattern);
  }
  const auto payload = stream.compressor->compress(in, pool_.classes().huge_class_size() - 1);
  if (!payload.empty()) return store_object(stream, page, payload, kCodecFirst);
  return store_object(stream, page, in, kCodecAsIs);
}

std::optional<SlotValue> Device::store_object(const Stream& stream, PageIndex page, std::span<const std::byte> payload,
                                              unsigned codec) {
  const std::uint32_t check = options_.check ? object_check(payload, codec) : 0;
  const auto location = pool_.malloc(payload.size(), {owner(page), check}, stream.worker());
  if (!location) return std::nullopt;
  pool_.write(*location, payload);
  return SlotValue::object(*location, payload.size(), codec);
}

// Exchanges the slot's value and frees what came out.
void Device::replace(SlotGuard& slot, SlotValue value, unsigned worker) {
  Counters& counters = counters_[worker];
  const SlotValue old = slot.exchange(value);
  account(counters, old, value);
  if (value.is_huge()) add(counters.huge_pages_since, 1);
  // Where a damaged slot points may be another page's: its own object is left behind.
  if (old.is_whole_object()) pool_.free(old.location(), worker);
  if (old.is_written_back() && options_.backing != nullptr) options_.backing->free({.first = old.block(), .count = 1});
}

// Most exchanges change the sum of lengths alone, and what does not change is not touched.
void Device::account(Counters& counters, SlotValue before, SlotValue after) {
  const auto add_change = [](std::atomic<std::int64_t>& counter, std::int64_t from, std::int64_t to) {
    if (from != to) add(counter, to - from);
  };
  const auto payload = [](SlotValue v) {
    return v.kind() == SlotKind::object ? static_cast<std::int64_t>(v.length()) : 0;
  };
  add_change(counters.pages, before.is_empty() ? 0 : 1, after.is_empty() ? 0 : 1);
  add_change(counters.same_pages, before.is_same_filled() ? 1 : 0, after.is_same_filled() ? 1 : 0);
  add_change(counters.bd_count, before.is_written_back() ? 1 : 0, after.is_written_back() ? 1 : 0);
  add_change(counters.compr_data_size, payload(before), payload(after));
  add_change(counters.huge_pages, before.is_huge() ? 1 : 0, after.is_huge() ? 1 : 0);
}

}  // namespace uzram
