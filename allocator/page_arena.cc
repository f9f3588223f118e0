#include "allocator/page_arena.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <mutex>
#include <new>
#include <system_error>

#include "allocator/ensure.h"

namespace uzram {
namespace {

constexpr int kDontNeedLocked = 24;  // MADV_DONTNEED_LOCKED, which the C library has no name for
constexpr std::uint64_t kChunkBytes = PageArena::kChunkFrames * kFrameSize;
// A location has 38 bits of 16 bytes.
constexpr std::uint64_t kMaxCapacity = std::uint64_t{16} << kLocationBits;

void* reserve_range(std::size_t bytes, int fd = -1) {
  const int flags = fd >= 0 ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS;
  void* range = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, flags | MAP_NORESERVE, fd, 0);
  return range == MAP_FAILED ? nullptr : range;
}

std::uint64_t machine_memory() {
  return static_cast<std::uint64_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
}

// What is present is locked, and what comes to be. As mlockall with MCL_ONFAULT locks the rest of the range, so that it
// stays one mapping whatever is locked and given back in it.
bool lock_present(void* at, std::size_t bytes) { return mlock2(at, bytes, MLOCK_ONFAULT) == 0; }

// Backs the range with memory now, so that no later access can fault for want of it.
bool populate(void* from, std::size_t bytes) {
  const auto page = static_cast<std::uintptr_t>(kFrameSize);
  const auto start = reinterpret_cast<std::uintptr_t>(from) & ~(page - 1);
  const auto end = (reinterpret_cast<std::uintptr_t>(from) + bytes + page - 1) & ~(page - 1);
  if (madvise(reinterpret_cast<void*>(start), end - start, MADV_POPULATE_WRITE) == 0) return true;
  if (errno != EINVAL) return false;
  // Kernels before 5.14 cannot populate: touch each page without changing it.
  for (std::uintptr_t at = start; at < end; at += page) {
    std::atomic_ref<std::uint8_t>(*reinterpret_cast<std::uint8_t*>(at)).fetch_or(0, std::memory_order_relaxed);
  }
  return true;
}

}  // namespace

PageArena::PageArena(const Options& options) : options_(options) {
  // Populating more than there is would end in the machine's OOM killer, not in an error.
  if (options.reserve > machine_memory()) {
    throw std::system_error(ENOMEM, std::generic_category(), "the reserve is larger than the machine's memory");
  }
  const auto chunks = options.fd >= 0 ? read_chunks(options.fd, kChunkFrames) : std::nullopt;
  const std::uint64_t least = std::max(options.reserve, std::uint64_t{chunks.value_or(0)} * kChunkBytes);
  std::uint64_t bytes = options.capacity != 0 ? options.capacity : 2 * machine_memory();
  bytes = std::max(bytes, least + 2 * kChunkBytes);
  bytes = std::min((bytes + kChunkBytes - 1) / kChunkBytes * kChunkBytes, kMaxCapacity);
  // Small kernels and strict overcommit refuse large ranges: take the largest they give.
  for (map(bytes); base_ == nullptr; map(bytes)) {
    bytes = bytes / 2 / kChunkBytes * kChunkBytes;
    if (bytes < least + kChunkBytes) {
      throw std::system_error(errno, std::generic_category(), "cannot reserve address space for the arena");
    }
  }
  reserve_ = (options.reserve + kChunkBytes - 1) / kChunkBytes * kChunkFrames;
  ahead_ = (options.ahead + kFrameSize - 1) / kFrameSize;
  holds_state_ = chunks.has_value();
  if (holds_state_) {
    header_ = reinterpret_cast<ArenaHeader*>(this->bytes(kHeaderFrame));
    chunks_end_ = *chunks * kChunkFrames;
    return;
  }
  if (options.fd >= 0 && !begin_file()) abandon("cannot begin the state");
  if (!fill_reserve()) abandon("cannot populate the reserve");
}

// Ends a construction for want of memory.
void PageArena::abandon(const char* what) {
  unmap();
  throw std::system_error(ENOMEM, std::generic_category(), what);
}

// Maps the range and its private twins, all or none.
void PageArena::map(std::uint64_t bytes) {
  const std::uint64_t frames = bytes / kFrameSize;
  base_ = static_cast<std::byte*>(reserve_range(bytes, options_.fd));
  states_ = static_cast<ZspageState*>(reserve_range(frames * sizeof(ZspageState)));
  absent_ = static_cast<std::uint64_t*>(reserve_range(frames / 8));
  capacity_ = static_cast<std::uint32_t>(frames);
  if (base_ != nullptr && states_ != nullptr && absent_ != nullptr) return;
  const int error = errno;
  unmap();
  errno = error;
}

void PageArena::unmap() {
  if (base_ != nullptr) munmap(base_, std::size_t{capacity_} * kFrameSize);
  if (states_ != nullptr) munmap(states_, capacity_ * sizeof(ZspageState));
  if (absent_ != nullptr) munmap(absent_, capacity_ / 8);
  base_ = nullptr;
}

// Makes the header of an empty file, in the first frame of its first chunk.
bool PageArena::begin_file() {
  if (!grow()) return false;
  const FrameNumber frame = pop_free();
  ensure(frame == kHeaderFrame, "frames are handed out in ascending order");
  entry(frame).publish({.kind = FrameKind::header});
  header_ = new (bytes(frame)) ArenaHeader;
  header_->chunk_frames = kChunkFrames;
  header_->chunks.store(ArenaHeader::pack_chunks(1), std::memory_order_release);
  return true;
}

bool PageArena::fill_reserve() {
  while (committed_ < reserve_) {
    const Run run = claim_run();
    if (run.count == 0 || !commit(run)) return false;
    add_free(run);
  }
  return true;
}

bool PageArena::rebuild(const std::function<bool(FrameNumber)>& used) {
  ensure(holds_state_, "a state is taken over once");
  for (std::uint32_t f = chunks_end_; f-- > 0;) {
    if (f % kChunkFrames == 0) {
      ++committed_;
      continue;
    }
    const FrameNumber frame{f};
    if (!used(frame) && entry(frame).link().kind == FrameKind::absent) {
      mark_absent(f);
      continue;
    }
    ++committed_;
    if (frame != kHeaderFrame && !used(frame)) push_free(frame);
  }
  holds_state_ = false;
  for (std::uint32_t f = 0; f < chunks_end_;) {
    const bool absent = is_absent(f);
    Run run{f, 0};
    for (; f < chunks_end_ && is_absent(f) == absent; ++f) ++run.count;
    if (!absent && !back(run)) return false;
    // The process may have ended after it had marked them and before it gave them back.
    if (absent) (void)give_back(run);
  }
  return fill_reserve();
}

PageArena::~PageArena() { unmap(); }

bool PageArena::allocate(std::span<FrameNumber> out) {
  while (!take_free(out)) {
    if (!options_.grow) return false;
    const std::scoped_lock growing(growth_);
    // Another thread may have grown while this one waited.
    if (!has_free(out.size()) && !grow()) return false;
  }
  return true;
}

bool PageArena::take_free(std::span<FrameNumber> out) {
  const std::scoped_lock lock(mutex_);
  const bool enough = free_count_ >= out.size();
  if (enough) {
    for (FrameNumber& frame : out) frame = pop_free();
  }
  tell_level();
  return enough;
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

// Backs frames, and what is kept for them, with mapped memory.
bool PageArena::back(Run run) {
  const auto populated = [this](void* at, std::size_t bytes) {
    return populate(at, bytes) && (!options_.lock || lock_present(at, bytes));
  };
  return populated(bytes(FrameNumber{run.first}), run.count * kFrameSize) &&
         populated(&states_[run.first], run.count * sizeof(ZspageState)) &&
         populated(&absent_[run.first / 64], (run.count + 63) / 64 * sizeof(std::uint64_t));
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

void PageArena::push_free(FrameNumber f) {
  entry(f).publish({.kind = FrameKind::free, .next = free_head_});
  free_head_ = f;
  ++free_count_;
}

FrameNumber PageArena::pop_free() {
  const FrameNumber f = free_head_;
  free_head_ = entry(f).link().next;
  --free_count_;
  return f;
}

void PageArena::free(std::span<const FrameNumber> frames) {
  Batch batch;
  {
    const std::scoped_lock lock(mutex_);
    for (std::size_t i = frames.size(); i-- > 0;) push_free(frames[i]);
    tell_level();
    if (free_count_ < 2 * kReleaseBatch + ahead_ || committed_ < reserve_ + batch.size()) return;
    for (FrameNumber& f : batch) f = pop_free();
    committed_ -= batch.size();
  }
  release(batch);
}

// Gives the frames back; those that the system does not take are free again.
void PageArena::release(Batch& batch) {
  std::sort(batch.begin(), batch.end());
  std::size_t refused = 0;  // they stand at the front of the batch
  for (std::size_t i = 0; i < batch.size();) {
    std::size_t end = i;
    do {
      entry(batch[end]).publish({.kind = FrameKind::absent});
      ++end;
    } while (end < batch.size() && raw(batch[end]) == raw(batch[end - 1]) + 1);
    const Run run{raw(batch[i]), static_cast<std::uint32_t>(end - i)};
    if (!give_back(run)) {
      std::rotate(batch.begin() + static_cast<std::ptrdiff_t>(refused), batch.begin() + static_cast<std::ptrdiff_t>(i),
                  batch.begin() + static_cast<std::ptrdiff_t>(end));
      refused += run.count;
    }
    i = end;
  }
  const std::scoped_lock lock(mutex_);
  for (std::size_t i = refused; i-- > 0;) push_free(batch[i]);
  for (std::size_t i = refused; i < batch.size(); ++i) mark_absent(raw(batch[i]));
  committed_ += refused;
  released_ += batch.size() - refused;
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

FrameNumber PageArena::end() const {
  const std::scoped_lock lock(mutex_);
  return FrameNumber{chunks_end_};
}

PageArena::Stats PageArena::stats() const {
  const std::scoped_lock lock(mutex_);
  return {capacity_, committed_, free_count_, released_};
}

}  // namespace uzram
