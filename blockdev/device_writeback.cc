// Written-back pages of a Device: how they get into the backing file, and how they are read from there.

#include <algorithm>
#include <array>
#include <cstring>

#include "allocator/ensure.h"
#include "blockdev/backing_file.h"
#include "blockdev/device.h"
#include "blockdev/largest_first.h"
#include "blockdev/object_check.h"
#include "blockdev/stream.h"

namespace uzram {
namespace {

constexpr std::size_t kBatch = 32;  // pages, as zram's writeback_batch_size

bool is_wanted(SlotValue value, const WritebackRequest& request) {
  return is_asked_for(value, request) && (!request.incompressible || value.is_incompressible());
}

}  // namespace

// The check of a written-back page, 24 bits: of its bytes, and of whose they are.
std::uint32_t Device::block_check(PageIndex page, ConstPage bytes) const {
  const std::uint64_t whose = raw(owner(page)) * 0x9e3779b97f4a7c15;
  return (object_check(bytes, kCodecAsIs) ^ static_cast<std::uint32_t>(whose >> 40)) & 0xffffff;
}

// Reads the page that `value` says is written back; into memory that is aligned as BackingFile wants it. Without the
// slot's lock, whose waiters spin: the block is this page's if the slot says so afterwards, too.
Device::Fetched Device::fetch(PageIndex page, const Slot& slot, SlotValue value, Page into) const {
  if (options_.backing == nullptr) return Fetched::damaged;
  // Meanwhile the block may have been another page's and this one's again, with the same contents.
  for (int tries = 0; tries < 2; ++tries) {
    const int error = options_.backing->read(value.block(), into);
    counters().bd_reads.fetch_add(1, std::memory_order_relaxed);
    if (SlotValue(slot.load(std::memory_order_acquire)) != value) return Fetched::changed;
    if (error == 0 && block_check(page, into) == value.block_check()) return Fetched::whole;
  }
  return Fetched::damaged;
}

// Nothing where the page has changed.
std::optional<IoResult> Device::read_written_back(Stream& stream, PageIndex page, const Slot& slot, SlotValue value,
                                                  Page out) {
  const Fetched fetched = fetch(page, slot, value, stream.page);
  if (fetched == Fetched::changed) return std::nullopt;
  if (fetched == Fetched::damaged) {
    counters_[stream.worker()].check_failures.fetch_add(1, std::memory_order_relaxed);
    return tl::unexpected(IoError::io);
  }
  if (out.data() != stream.page.data()) std::memcpy(out.data(), stream.page.data(), kPageSize);
  return IoResult{};
}

void Device::mark_idle() {
  const std::shared_lock lock(life_);
  if (record_ == FrameNumber::none) return;
  table_.for_each(PageIndex{0}, PageIndex{table_.pages()}, [](PageIndex, Slot& slot) {
    if (SlotValue(slot.load(std::memory_order_relaxed)).kind() != SlotKind::object) return;
    SlotGuard guard(slot);
    const SlotValue value = guard.value();
    if (value.kind() == SlotKind::object && !value.is_same_filled()) (void)guard.exchange(value.idle());
  });
}

// One call of write_back: gathers pages, writes them out a batch at a time, and exchanges their slots.
//
// Invariant: a page's object is freed only after its bytes are in the file and while its slot still has the mark that
// it was given with the copy; whatever else changes or reads the page takes the mark away. So no page is in a batch
// twice: it might be written in between, and the first copy would be taken for the second.
class WritebackPass {
 public:
  explicit WritebackPass(Device& device) : device_(device), backing_(*device.options_.backing) {}

  // Every page of [first, last] that is wanted and whose object is in the bucket.
  Result<void> run(const WritebackRequest& request, WritebackRequest::Pages pages, std::size_t bucket) {
    const auto fits = [&](SlotValue value) { return is_wanted(value, request) && bucket_of(value) == bucket; };
    Result<void> result;
    device_.table_.for_each(pages.first, PageIndex{raw(pages.last) + 1}, [&](PageIndex page, Slot& slot) {
      if (!result || !fits(SlotValue(slot.load(std::memory_order_relaxed)))) return;
      {
        SlotGuard guard(slot);
        if (fits(guard.value())) choose(page, guard);
      }
      if (count_ == kBatch) result = flush();
    });
    return result ? flush() : result;
  }

 private:
  using Page = std::span<std::byte, kPageSize>;

  [[nodiscard]] Page bytes(std::size_t i) const { return Page(&(*memory_)[i * kPageSize], kPageSize); }

  // Writes what has been gathered. What it cannot write stays in memory.
  Result<void> flush() {
    std::size_t done = 0;
    Result<void> result;
    while (done < count_ && result) {
      if (device_.ending_.load(std::memory_order_relaxed)) {
        result = fail(ECANCELED, "the device ends");
        break;
      }
      const auto most = static_cast<std::uint32_t>(take_from_limit(count_ - done));
      if (most == 0) {
        result = fail(EIO, "the writeback limit is used up");
        break;
      }
      const BackingFile::Run run = backing_.allocate(most);
      give_back_to_limit(most - run.count);
      if (run.count == 0) {
        result = fail(ENOSPC, backing_.path() + " is full");
        break;
      }
      result = write(done, run);
      done += run.count;
    }
    for (std::size_t i = done; i < count_; ++i) drop(i);
    count_ = 0;
    return result;
  }

  void choose(PageIndex page, SlotGuard& guard) {
    // A damaged page stays where it is, and its reads fail.
    if (!device_.decode(*stream_, page, guard.value(), bytes(count_))) return;
    (void)guard.exchange(guard.value().chosen());  // the same object
    pages_[count_++] = page;
  }

  // Pages `from` and on, as many as the run has blocks.
  Result<void> write(std::size_t from, BackingFile::Run run) {
    const std::size_t size = run.count * kPageSize;
    if (const int error = backing_.write(run.first, std::span(*memory_).subspan(from * kPageSize, size)); error != 0) {
      backing_.free(run);
      give_back_to_limit(run.count);
      for (std::uint32_t i = 0; i < run.count; ++i) drop(from + i);
      return fail_errno("cannot write to " + backing_.path(), error);
    }
    device_.counters().bd_writes.fetch_add(run.count, std::memory_order_relaxed);
    for (std::uint32_t i = 0; i < run.count; ++i) publish(from + i, run.first + i);
    return {};
  }

  void publish(std::size_t i, std::uint32_t block) {
    SlotGuard guard(*device_.table_.find(pages_[i]));
    if (!guard.value().is_chosen()) return backing_.free({.first = block, .count = 1});
    const auto check = device_.block_check(pages_[i], bytes(i));
    device_.replace(guard, SlotValue::written_back(block, check), stream_->worker());
  }

  // It stays in memory after all.
  void drop(std::size_t i) {
    SlotGuard guard(*device_.table_.find(pages_[i]));
    if (guard.value().is_chosen()) (void)guard.exchange(guard.value().not_chosen());
  }

  // As many of `pages` as may be written.
  std::size_t take_from_limit(std::size_t pages) {
    Device::WritebackLimit& limit = device_.writeback_limit_;
    limited_ = limit.enabled.load(std::memory_order_relaxed);
    if (!limited_) return pages;
    std::uint64_t left = limit.pages.load(std::memory_order_relaxed);
    std::uint64_t taken = 0;
    do {
      taken = std::min<std::uint64_t>(left, pages);
    } while (!limit.pages.compare_exchange_weak(left, left - taken, std::memory_order_relaxed));
    return taken;
  }
  void give_back_to_limit(std::uint64_t pages) {
    if (limited_) device_.writeback_limit_.pages.fetch_add(pages, std::memory_order_relaxed);
  }

  struct alignas(kPageSize) Memory : std::array<std::byte, kBatch * kPageSize> {};

  Device& device_;
  BackingFile& backing_;
  const StreamPtr stream_ = device_.make_stream();
  const std::unique_ptr<Memory> memory_ = std::make_unique<Memory>();
  std::array<PageIndex, kBatch> pages_{};
  std::size_t count_ = 0;
  bool limited_ = false;  // whether what is being written was taken from the limit
};

Result<void> Device::write_back(const WritebackRequest& request) {
  const std::shared_lock lock(life_);
  if (options_.backing == nullptr) return fail(ENODEV, "there is no backing file: uzramd has one with --backing FILE");
  if (record_ == FrameNumber::none) return {};
  const PageIndex end{table_.pages()};
  std::vector<WritebackRequest::Pages> ranges = request.pages;
  if (ranges.empty()) ranges.push_back({PageIndex{0}, PageIndex{raw(end) - 1}});
  for (const WritebackRequest::Pages& pages : ranges) {
    if (pages.first > pages.last) return fail(ERANGE, "the last page is before the first");
    if (pages.last >= end) {
      return fail(ERANGE, "there is no page " + std::to_string(raw(pages.last)) + ": the device has " +
                              std::to_string(raw(end)));
    }
  }
  const std::unique_lock one(post_processing_, std::try_to_lock);
  if (!one) return fail(EAGAIN, "another pass is under way");
  WritebackPass pass(*this);
  Buckets there;
  for (const WritebackRequest::Pages& pages : ranges) {
    there |= buckets_of(table_, pages.first, PageIndex{raw(pages.last) + 1},
                        [&](SlotValue value) { return is_wanted(value, request); });
  }
  return for_each_largest_first(there, [&](std::size_t bucket) -> Result<void> {
    for (const WritebackRequest::Pages& pages : ranges) {
      if (auto done = pass.run(request, pages, bucket); !done) return done;
    }
    return {};
  });
}

}  // namespace uzram
