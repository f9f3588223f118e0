#include "allocator/page_arena.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <mutex>
#include <new>
#include <system_error>

#include "allocator/ensure.h"

namespace uzram {
namespace {

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
  split_ = static_cast<std::uint64_t*>(reserve_range(split_bytes(frames)));
  capacity_ = static_cast<std::uint32_t>(frames);
  // Huge pages only where `back` asks for them, whatever the system's default.
  if (base_ != nullptr && options_.fd < 0) (void)madvise(base_, bytes, MADV_NOHUGEPAGE);
  if (base_ != nullptr && states_ != nullptr && absent_ != nullptr && split_ != nullptr) return;
  const int error = errno;
  unmap();
  errno = error;
}

void PageArena::unmap() {
  if (base_ != nullptr) munmap(base_, std::size_t{capacity_} * kFrameSize);
  if (states_ != nullptr) munmap(states_, capacity_ * sizeof(ZspageState));
  if (absent_ != nullptr) munmap(absent_, capacity_ / 8);
  if (split_ != nullptr) munmap(split_, split_bytes(capacity_));
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

FrameNumber PageArena::end() const {
  const std::scoped_lock lock(mutex_);
  return FrameNumber{chunks_end_};
}

PageArena::Stats PageArena::stats() const {
  const std::scoped_lock lock(mutex_);
  return {capacity_, committed_, free_count_, released_};
}

}  // namespace uzram
