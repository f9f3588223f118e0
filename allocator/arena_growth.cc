// How a PageArena takes memory from the system and gives it back.

#include <sys/mman.h>
#include <sys/uio.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cerrno>
#include <mutex>
#include <span>

#include "allocator/page_arena.h"

namespace uzram {
namespace {

constexpr int kDontNeedLocked = 24;  // MADV_DONTNEED_LOCKED, which the C library has no name for

// What is present is locked, and what comes to be. As mlockall with MCL_ONFAULT locks the rest of the range, so that it
// stays one mapping whatever is locked and given back in it.
bool lock_present(void* at, std::size_t bytes) { return mlock2(at, bytes, MLOCK_ONFAULT) == 0; }

struct Addresses {
  std::uintptr_t begin = 0;
  std::uintptr_t end = 0;
};

// The range and what of pages of `page` bytes, a power of two, lies around it.
Addresses in_pages_of(std::uintptr_t page, const void* from, std::size_t bytes) {
  const auto begin = reinterpret_cast<std::uintptr_t>(from);
  return {begin & ~(page - 1), (begin + bytes + page - 1) & ~(page - 1)};
}

int advise(Addresses range, int advice) {
  return madvise(reinterpret_cast<void*>(range.begin), range.end - range.begin, advice);
}

// One advice for many ranges in one call: other processors are made to forget addresses once, and not once for each,
// which who reads there at the time would feel. Linux can do this from 6.14 on; false: it cannot, or has done a part of
// it.
bool advise_all(std::span<const iovec> ranges, std::size_t bytes, int advice) {
  constexpr int kThisProcess = -10000;  // PIDFD_SELF, which the C library has no name for
  const ssize_t done = process_madvise(kThisProcess, ranges.data(), ranges.size(), advice, 0);
  return done >= 0 && static_cast<std::size_t>(done) == bytes;
}

// Backs the range with memory now, so that no later access can fault for want of it.
bool populate(const void* from, std::size_t bytes) {
  const Addresses range = in_pages_of(kFrameSize, from, bytes);
  if (advise(range, MADV_POPULATE_WRITE) == 0) return true;
  if (errno != EINVAL) return false;
  // Kernels before 5.14 cannot populate: touch each page without changing it.
  for (std::uintptr_t at = range.begin; at < range.end; at += kFrameSize) {
    std::atomic_ref<std::uint8_t>(*reinterpret_cast<std::uint8_t*>(at)).fetch_or(0, std::memory_order_relaxed);
  }
  return true;
}

}  // namespace

bool PageArena::fill_reserve() {
  while (committed_ < reserve_) {
    const Run run = claim_run();
    if (run.count == 0 || !commit(run)) return false;
    add_free(run);
  }
  return true;
}

// Under mutex_: wakes the thread that grows the arena when it has something to do.
void PageArena::tell_level() {
  std::uint32_t before = free_count_ < ahead_ ? kEnough : kLow;
  const std::uint32_t now = before == kEnough ? kLow : kEnough;
  if (ahead_ == 0 || !level_.compare_exchange_strong(before, now, std::memory_order_relaxed)) return;
  if (now == kLow) level_.notify_one();
}

bool PageArena::wait_until_low() const {
  level_.wait(kEnough);
  return level_.load() != kStopped;
}

bool PageArena::grow_ahead() {
  const std::scoped_lock growing(growth_);
  const bool grown = grow();
  const std::scoped_lock lock(mutex_);
  tell_level();
  return grown;
}

void PageArena::stop_ahead() {
  level_ = kStopped;
  level_.notify_one();
}

bool PageArena::has_free(std::size_t frames) const {
  const std::scoped_lock lock(mutex_);
  return free_count_ >= frames;
}

// Commits one run, with mutex_ free: other threads go on with the frames that there are. One run at a time, so that
// the chunks of a file are committed in order and have no holes.
bool PageArena::grow() {
  Run run;
  {
    const std::scoped_lock lock(mutex_);
    run = claim_run();
  }
  if (run.count == 0) return false;
  const bool done = commit(run);
  const std::scoped_lock lock(mutex_);
  if (done) {
    add_free(run);
  } else if (run.first % kChunkFrames == 0) {
    chunks_end_ = run.first;
  } else {
    for (std::uint32_t f = run.first; f < run.first + run.count; ++f) mark_absent(f);
  }
  return done;
}

void PageArena::mark_absent(std::uint32_t f) {
  absent_[f / 64] |= std::uint64_t{1} << (f % 64);
  ++absent_count_;
}

PageArena::Run PageArena::claim_run() {
  if (absent_count_ != 0) {
    const std::uint32_t words = chunks_end_ / 64;
    for (std::uint32_t i = 0; i < words; ++i, absent_cursor_ = (absent_cursor_ + 1) % words) {
      std::uint64_t& word = absent_[absent_cursor_ % words];
      if (word == 0) continue;
      const auto first = static_cast<std::uint32_t>(std::countr_zero(word));
      const auto count = static_cast<std::uint32_t>(std::countr_one(word >> first));
      const std::uint64_t mask = count == 64 ? ~std::uint64_t{0} : ((std::uint64_t{1} << count) - 1) << first;
      word &= ~mask;
      absent_count_ -= count;
      return {absent_cursor_ % words * 64 + first, count};
    }
  }
  if (capacity_ - chunks_end_ < kChunkFrames) return {};
  const Run run{chunks_end_, kChunkFrames};
  chunks_end_ += kChunkFrames;
  return run;
}

bool PageArena::commit(Run run) {
  const std::uint64_t bytes = std::uint64_t{run.count} * kFrameSize;
  if (options_.fd >= 0 && !commit_file(options_.fd, std::uint64_t{run.first} * kFrameSize, bytes)) return false;
  return back(run);
}

bool PageArena::may_be_huge(Run run) const {
  return options_.fd < 0 && !options_.lock && std::uint64_t{run.first} * kFrameSize >= options_.huge_from;
}

// For the huge pages that the run touches.
void PageArena::advise_huge_pages(Run run, int advice) const {
  Addresses range = in_pages_of(kHugeBytes, bytes(FrameNumber{run.first}), run.count * kFrameSize);
  range.end = std::min(range.end, reinterpret_cast<std::uintptr_t>(bytes(FrameNumber{capacity_})));
  (void)advise(range, advice);
}

// Parts of a huge page that are given back stay with it until the machine is short of memory, unless it is split. That
// is slow, and done once for each: none becomes huge again.
void PageArena::split_huge_pages(Run run) const {
  if (!may_be_huge(run)) return;
  const auto begin = reinterpret_cast<std::uintptr_t>(bytes(FrameNumber{run.first}));
  const std::uintptr_t first = reinterpret_cast<std::uintptr_t>(base_) / kHugeBytes;
  for (std::uintptr_t at = begin; at < begin + run.count * kFrameSize; at = (at / kHugeBytes + 1) * kHugeBytes) {
    const std::uintptr_t page = at / kHugeBytes - first;
    const std::uint64_t bit = std::uint64_t{1} << page % 64;
    if ((std::atomic_ref(split_[page / 64]).fetch_or(bit, std::memory_order_relaxed) & bit) != 0) continue;
    (void)advise({at, at + kFrameSize}, MADV_COLD);  // of a part of it
  }
}

// Backs frames, and what is kept for them, with mapped memory.
bool PageArena::back(Run run) {
  // The advice holds for as long as memory is taken. Otherwise khugepaged would fill the holes of what was given back.
  const bool huge = may_be_huge(run) && run.first % kChunkFrames == 0;
  if (huge) advise_huge_pages(run, MADV_HUGEPAGE);
  const auto populated = [this](void* at, std::size_t bytes) {
    return populate(at, bytes) && (!options_.lock || lock_present(at, bytes));
  };
  const bool backed = populated(bytes(FrameNumber{run.first}), run.count * kFrameSize) &&
                      populated(&states_[run.first], run.count * sizeof(ZspageState)) &&
                      populated(&absent_[run.first / 64], (run.count + 63) / 64 * sizeof(std::uint64_t));
  if (huge) advise_huge_pages(run, MADV_NOHUGEPAGE);
  return backed;
}

void PageArena::add_free(Run run) {
  committed_ += run.count;
  // A whole chunk begins with the frame that holds its entries. Pushed from the end, so that they are handed
  // out in ascending order: the frames of a zspage are then often adjacent, and a straddling object is
  // contiguous.
  const bool whole_chunk = run.first % kChunkFrames == 0;
  const std::uint32_t first = whole_chunk ? run.first + 1 : run.first;
  if (whole_chunk && header_ != nullptr) {
    // Before anything can be stored there: a file that has fewer was cut short.
    header_->chunks.store(ArenaHeader::pack_chunks(first / kChunkFrames + 1), std::memory_order_release);
  }
  for (std::uint32_t f = run.first + run.count; f-- > first;) push_free(FrameNumber{f});
}

// Gives the frames back; those that the system does not take are free again.
void PageArena::release(Batch& batch) {
  std::sort(batch.begin(), batch.end());
  for (const FrameNumber f : batch) entry(f).publish({.kind = FrameKind::absent});
  std::size_t refused = 0;  // they stand at the front of the batch
  if (!give_back_at_once(batch)) {
    for (std::size_t i = 0; i < batch.size();) {
      const Run run = run_at(batch, i);
      const auto begin = batch.begin() + static_cast<std::ptrdiff_t>(i);
      if (!give_back(run)) {
        std::rotate(batch.begin() + static_cast<std::ptrdiff_t>(refused), begin, begin + run.count);
        refused += run.count;
      }
      i += run.count;
    }
  }
  const std::scoped_lock lock(mutex_);
  for (std::size_t i = refused; i-- > 0;) push_free(batch[i]);
  for (std::size_t i = refused; i < batch.size(); ++i) mark_absent(raw(batch[i]));
  committed_ += refused;
  released_ += batch.size() - refused;
}

// The frames of a sorted batch from the i-th on that lie beside each other.
PageArena::Run PageArena::run_at(const Batch& batch, std::size_t i) {
  std::size_t end = i + 1;
  while (end < batch.size() && raw(batch[end]) == raw(batch[end - 1]) + 1) ++end;
  return {raw(batch[i]), static_cast<std::uint32_t>(end - i)};
}

// All of a sorted batch; false where that is not possible, whatever a part of it may have become.
bool PageArena::give_back_at_once(const Batch& batch) const {
  if (options_.fd >= 0) return false;
  std::array<iovec, kReleaseBatch> ranges;
  std::size_t count = 0;
  for (std::size_t i = 0; i < batch.size();) {
    const Run run = run_at(batch, i);
    split_huge_pages(run);
    ranges[count++] = {bytes(FrameNumber{run.first}), run.count * kFrameSize};
    i += run.count;
  }
  const auto all = std::span(ranges).first(count);
  const std::size_t size = batch.size() * kFrameSize;
  return advise_all(all, size, options_.lock ? kDontNeedLocked : MADV_DONTNEED);
}

// False where the system refuses: it may want memory to note that a part of a range is no longer locked.
bool PageArena::give_back(Run run) {
  std::byte* const from = bytes(FrameNumber{run.first});
  const std::size_t size = run.count * kFrameSize;
  if (options_.fd >= 0) return punch_file(options_.fd, std::uint64_t{run.first} * kFrameSize, size);
  // Unlocking a part would take the kernel memory for one mapping more. Kernels before 5.18 know no other way.
  if (options_.lock && madvise(from, size, kDontNeedLocked) == 0) return true;
  if (options_.lock && munlock(from, size) != 0) return false;
  return madvise(from, size, MADV_DONTNEED) == 0;
}

}  // namespace uzram
