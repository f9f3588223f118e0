// A ZsPool from zspages that an earlier process left: which object is live is for the slots to say, what a zspage is
// its frames' entries say, and every list and count is made anew.

#include "allocator/zs_pool.h"

namespace uzram {

std::optional<ZsPool::Found> ZsPool::probe(Location object, std::size_t size, FrameNumber end) const {
  const FrameNumber frame = frame_of(object);
  if (raw(frame) >= raw(end) || raw(frame) % PageArena::kChunkFrames == 0) return std::nullopt;
  const FrameEntry& entry = arena_.entry(frame);
  const FrameEntry::Link link = entry.link();
  const unsigned index = classes_.index_for(size);
  if (link.size_class != index) return std::nullopt;
  if (index == kHugeClass) {
    if (link.kind != FrameKind::head || offset_in_frame(object) != 0) return std::nullopt;
    return Found{frame, ObjectHeader::unpack(entry.tag.load(std::memory_order_relaxed))};
  }
  const std::uint64_t tag = entry.tag.load(std::memory_order_relaxed);
  if (tag >= raw(end) || tag % PageArena::kChunkFrames == 0) return std::nullopt;
  const auto head = static_cast<FrameNumber>(tag);
  const SizeClass& geometry = classes_[index];
  const std::size_t byte = link.position * kFrameSize + offset_in_frame(object);
  if (byte % geometry.size != 0 || byte / geometry.size >= geometry.objects) return std::nullopt;
  // The chain from the head to its end: every frame in its place, and this one among them.
  FrameNumber at = head;
  bool passed = false;
  for (unsigned i = 0; i < geometry.frames; ++i) {
    if (raw(at) >= raw(end) || raw(at) % PageArena::kChunkFrames == 0) return std::nullopt;
    const FrameEntry& e = arena_.entry(at);
    const FrameEntry::Link l = e.link();
    if (l.kind != (i == 0 ? FrameKind::head : FrameKind::tail) || l.size_class != index || l.position != i ||
        e.tag.load(std::memory_order_relaxed) != raw(head)) {
      return std::nullopt;
    }
    passed = passed || (at == frame && i == link.position);
    at = l.next;
  }
  if (!passed || at != FrameNumber::none) return std::nullopt;
  return Found{head, ObjectHeader::unpack(header_word(object, index).load(std::memory_order_relaxed))};
}

void ZsPool::adopt(FrameNumber head, const std::function<bool(Location)>& live) {
  const unsigned index = arena_.entry(head).link().size_class;
  const SizeClass& geometry = classes_[index];
  ZspageState& z = arena_.state(head);
  z = {};
  z.set(raw(head) % kLanes, 0);  // nobody knows yet who will come
  std::uint16_t in_use = 0;
  for (std::uint32_t object = geometry.objects; object-- > 0;) {
    const Location at = locate(head, index, object);
    if (live(at)) {
      ++in_use;
    } else {
      header_word(at, index).store(ObjectHeader::free(z.free_object).packed(), std::memory_order_relaxed);
      z.free_object = static_cast<std::uint16_t>(object);
    }
  }
  count(lanes_[index][z.lane()], index, 0, +1);
  set_in_use(index, head, in_use);
  const std::uint64_t pages = pages_.fetch_add(geometry.frames, std::memory_order_relaxed) + geometry.frames;
  max_pages_.store(pages, std::memory_order_relaxed);
}

}  // namespace uzram
