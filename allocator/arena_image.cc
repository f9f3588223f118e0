// What a PageArena knows beside its file, for a process that takes over from this one without recovery.

#include <sys/mman.h>

#include "allocator/image.h"
#include "allocator/page_arena.h"

namespace uzram {

bool PageArena::lock_ahead() { return !options_.lock || mlock(base_, std::size_t{chunks_end_} * kFrameSize) == 0; }

void PageArena::save(ImageWriter& image) const {
  const std::scoped_lock lock(mutex_);
  image.put(chunks_end_);
  image.put(raw(free_head_));
  image.put(absent_cursor_);
  image.put(absent_count_);
  image.put(free_count_);
  image.put(committed_);
  image.put(released_);
  image.put_all(std::span<const std::uint64_t>(absent_, chunks_end_ / 64));
  image.put_all(std::span<const ZspageState>(states_, chunks_end_));
}

bool PageArena::load(ImageReader& image) {
  const auto end = image.get<std::uint32_t>();
  if (!image.good() || !holds_state_ || end > capacity_ || end < chunks_end_ || end % kChunkFrames != 0) return false;
  chunks_end_ = end;
  free_head_ = FrameNumber{image.get<std::uint32_t>()};
  absent_cursor_ = image.get<std::uint32_t>();
  absent_count_ = image.get<std::uint64_t>();
  free_count_ = image.get<std::uint64_t>();
  committed_ = image.get<std::uint64_t>();
  released_ = image.get<std::uint64_t>();
  image.get_all(std::span<std::uint64_t>(absent_, chunks_end_ / 64));
  image.get_all(std::span<ZspageState>(states_, chunks_end_));
  if (!image.good()) return false;
  holds_state_ = false;
  return !options_.lock ||
         (mlock(states_, chunks_end_ * sizeof(ZspageState)) == 0 && mlock(absent_, chunks_end_ / 8) == 0);
}

}  // namespace uzram
