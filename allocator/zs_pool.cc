#include "allocator/zs_pool.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "allocator/ensure.h"

namespace uzram {
ZsPool::ZsPool(PageArena& arena, const Geometry& geometry) : arena_(arena), geometry_(geometry), classes_(geometry) {
  ensure(geometry.chain >= 4 && geometry.chain <= kMaxChain, "a chain of 4..16 frames");
}

// ---- where objects are

FrameNumber ZsPool::head_of(Location object) const {
  const FrameEntry& entry = arena_.entry(frame_of(object));
  if (entry.link().size_class == kHugeClass) return frame_of(object);
  return static_cast<FrameNumber>(entry.tag.load(std::memory_order_relaxed));
}

ZsPool::Position ZsPool::position(Location object) const {
  const FrameEntry::Link link = arena_.entry(frame_of(object)).link();
  const std::size_t bytes = link.position * kFrameSize + offset_in_frame(object);
  return {head_of(object), link.size_class, classes_[link.size_class].by_size.quotient(bytes)};
}

Location ZsPool::locate(FrameNumber head, unsigned index, std::uint32_t object) const {
  const std::size_t bytes = std::size_t{object} * classes_[index].size;
  FrameNumber frame = head;
  for (std::size_t i = bytes / kFrameSize; i > 0; --i) frame = arena_.entry(frame).link().next;
  return location_at(frame, bytes % kFrameSize);
}

std::atomic_ref<std::uint64_t> ZsPool::header_word(Location object, unsigned index) const {
  if (index == kHugeClass) {
    static_assert(sizeof(std::atomic<std::uint64_t>) == sizeof(std::uint64_t));
    auto& word = arena_.entry(frame_of(object)).tag;
    return std::atomic_ref<std::uint64_t>(reinterpret_cast<std::uint64_t&>(word));
  }
  return std::atomic_ref<std::uint64_t>(*reinterpret_cast<std::uint64_t*>(arena_.bytes(object)));
}

// The first byte of the payload; an as-is page has the whole frame.
std::byte* ZsPool::payload(Location object, std::size_t size) const {
  return arena_.bytes(object) + (size >= classes_.huge_class_size() ? 0 : kHeaderSize);
}

std::byte* ZsPool::next_frame(Location object) const {
  return arena_.bytes(arena_.entry(frame_of(object)).link().next);
}

// ---- fullness

unsigned ZsPool::ratio(unsigned index, std::uint32_t in_use) const {
  return in_use == 0 ? 0 : classes_[index].by_objects.quotient(in_use * 10) + 1;
}

bool ZsPool::is_almost_empty(unsigned index, std::uint32_t in_use) const {
  return in_use > 0 && in_use <= classes_[index].almost_empty;
}

void ZsPool::link(Lane& lane, unsigned ratio, FrameNumber head) {
  ZspageState& z = arena_.state(head);
  z.previous = FrameNumber::none;
  z.next = lane.lists[ratio];
  if (z.next != FrameNumber::none) arena_.state(z.next).previous = head;
  lane.lists[ratio] = head;
  if (ratio != kFullRatio) lane.mark(ratio, true);
}

void ZsPool::unlink(Lane& lane, unsigned ratio, FrameNumber head) {
  const ZspageState& z = arena_.state(head);
  if (z.next != FrameNumber::none) arena_.state(z.next).previous = z.previous;
  if (z.previous != FrameNumber::none) {
    arena_.state(z.previous).next = z.next;
  } else {
    lane.lists[ratio] = z.next;
    if (z.next == FrameNumber::none) lane.mark(ratio, false);
  }
}

void ZsPool::count(Lane& lane, unsigned index, std::uint32_t in_use, int by) {
  lane.zspages[ratio(index, in_use)] += static_cast<std::uint32_t>(by);
  if (is_almost_empty(index, in_use)) lane.almost_empty += static_cast<std::uint32_t>(by);
  lane.objects_used += static_cast<std::uint64_t>(by * static_cast<std::int64_t>(in_use));
}

// Moves a zspage to the list and the counts of its new number of objects. An empty one leaves its list.
void ZsPool::set_in_use(unsigned index, FrameNumber head, unsigned in_use) {
  ZspageState& z = arena_.state(head);
  Lane& lane = lanes_[index][z.lane()];
  const unsigned from = ratio(index, z.in_use());
  const unsigned to = ratio(index, in_use);
  count(lane, index, z.in_use(), -1);
  count(lane, index, in_use, +1);
  z.set(z.lane(), in_use);
  if (from == to || head == lane.isolated) return;
  if (from != 0) unlink(lane, from, head);
  if (to != 0) link(lane, to, head);
}

// ---- lanes

// The lock of the lane that the zspage is in: until it is held that may become another. The caller has an object there,
// so that it goes on to be one.
ZsPool::LaneLock ZsPool::lock_lane_of(unsigned index, const ZspageState& z) {
  for (;;) {
    const unsigned lane = z.lane();
    LaneLock lock(lanes_[index][lane].lock);
    if (z.lane() == lane) return lock;
  }
}

// Moves the zspage, which is full, to a worker's lane and returns that one's lock; leaves it where it is while somebody
// has that lock, as nobody waits for a second one.
ZsPool::LaneLock ZsPool::claim(LaneLock lock, unsigned index, FrameNumber head, unsigned lane) {
  ZspageState& z = arena_.state(head);
  if (z.lane() == lane) return lock;
  LaneLock claimed(lanes_[index][lane].lock, std::try_to_lock);
  if (!claimed) return lock;
  Lane& from = lanes_[index][z.lane()];
  Lane& to = lanes_[index][lane];
  unlink(from, kFullRatio, head);
  count(from, index, z.in_use(), -1);
  z.set(lane, z.in_use());
  link(to, kFullRatio, head);
  count(to, index, z.in_use(), +1);
  return claimed;
}

// ---- malloc and free

FrameNumber ZsPool::fullest(const Lane& lane) {
  const unsigned lists = lane.partly_filled.load(std::memory_order_relaxed);
  return lists == 0 ? FrameNumber::none : lane.lists[31U - static_cast<unsigned>(__builtin_clz(lists))];
}

Location ZsPool::take(unsigned index, FrameNumber head, const ObjectHeader& header) {
  ZspageState& z = arena_.state(head);
  const Location object = locate(head, index, z.free_object);
  const auto word = header_word(object, index);
  z.free_object = static_cast<std::uint16_t>(ObjectHeader::unpack(word.load(std::memory_order_relaxed)).check);
  word.store(header.packed(), std::memory_order_relaxed);
  set_in_use(index, head, z.in_use() + 1U);
  return object;
}

// Room in a zspage that there is, in lane `first` if it has any.
std::optional<Location> ZsPool::take_anywhere(unsigned index, const ObjectHeader& header, unsigned first) {
  for (const unsigned step : kOrder) {
    Lane& lane = lanes_[index][first ^ step];
    if (lane.partly_filled.load(std::memory_order_relaxed) == 0) continue;
    const std::scoped_lock lock(lane.lock);
    const FrameNumber head = fullest(lane);
    if (head != FrameNumber::none) return take(index, head, header);
  }
  return std::nullopt;
}

std::optional<Location> ZsPool::malloc(std::size_t size, const ObjectHeader& header, unsigned worker) {
  if (size == 0 || size > kFrameSize) return std::nullopt;
  const unsigned index = classes_.index_for(size);
  const unsigned mine = worker % kLanes;
  if (const auto object = take_anywhere(index, header, mine)) return object;
  const FrameNumber head = make_zspage(index);
  if (head == FrameNumber::none) return std::nullopt;
  Lane& lane = lanes_[index][mine];
  const std::scoped_lock lock(lane.lock);
  arena_.state(head).set(mine, 0);
  count(lane, index, 0, +1);
  return take(index, head, header);
}

void ZsPool::free(Location object, unsigned worker) {
  const Position at = position(object);
  ZspageState& z = arena_.state(at.head);
  {
    LaneLock lock = lock_lane_of(at.index, z);
    // With one object alone it will be gone.
    if (z.in_use() == classes_[at.index].objects && z.in_use() > 1) {
      lock = claim(std::move(lock), at.index, at.head, worker % kLanes);
    }
    const auto word = header_word(object, at.index);
    ensure(ObjectHeader::unpack(word.load(std::memory_order_relaxed)).owner != kNoOwner, "an object is freed once");
    word.store(ObjectHeader::free(z.free_object).packed(), std::memory_order_relaxed);
    z.free_object = static_cast<std::uint16_t>(at.object);
    set_in_use(at.index, at.head, z.in_use() - 1U);
    Lane& lane = lanes_[at.index][z.lane()];
    if (z.in_use() != 0 || at.head == lane.isolated) return;
    --lane.zspages[0];
  }
  free_zspage(at.head);
}

template <int kForWriting>
void ZsPool::prefetch_lines(Location object, std::size_t size) const {
  const auto prefetch = [](const std::byte* from, std::size_t bytes) {
    constexpr std::size_t kLine = 64;
    for (std::size_t at = 0; at < bytes; at += kLine) __builtin_prefetch(from + at, kForWriting);
  };
  const std::byte* const from = payload(object, size);
  const std::size_t room = kFrameSize - reinterpret_cast<std::uintptr_t>(from) % kFrameSize;
  prefetch(arena_.bytes(object), std::min(size, room) + kHeaderSize);
  if (size > room) prefetch(next_frame(object), size - room);
}

void ZsPool::prefetch_free(Location object) const {
  __builtin_prefetch(arena_.bytes(object), 1);
  __builtin_prefetch(&arena_.state(head_of(object)), 1);
}

void ZsPool::prefetch_place(Location object, std::size_t size) const { prefetch_lines<1>(object, size); }

void ZsPool::prefetch_read(Location object, std::size_t size) const { prefetch_lines<0>(object, size); }

// ---- zspages

// The limit is honoured here, before there is anything to undo.
bool ZsPool::charge(unsigned frames) {
  const std::uint64_t limit = limit_.load(std::memory_order_relaxed);
  std::uint64_t pages = pages_.load(std::memory_order_relaxed);
  do {
    if (limit != 0 && pages + frames > limit) return false;
  } while (!pages_.compare_exchange_weak(pages, pages + frames, std::memory_order_relaxed));
  return true;
}

void ZsPool::raise_max() {
  const std::uint64_t pages = pages_.load(std::memory_order_relaxed);
  std::uint64_t max = max_pages_.load(std::memory_order_relaxed);
  while (pages > max && !max_pages_.compare_exchange_weak(max, pages, std::memory_order_relaxed)) {
  }
}

// Links frames into a zspage with every object free. Its head is published last: before that it does not
// exist.
FrameNumber ZsPool::make_zspage(unsigned index) {
  const SizeClass& geometry = classes_[index];
  std::array<FrameNumber, kMaxChain> frames;
  const std::span<FrameNumber> mine(frames.data(), geometry.frames);
  if (!charge(geometry.frames)) return FrameNumber::none;
  if (!arena_.allocate(mine)) {
    pages_.fetch_sub(geometry.frames, std::memory_order_relaxed);
    return FrameNumber::none;
  }
  raise_max();
  const FrameNumber head = frames[0];
  for (unsigned i = geometry.frames; i-- > 0;) {
    FrameEntry& entry = arena_.entry(frames[i]);
    entry.tag.store(raw(head), std::memory_order_relaxed);
    entry.publish({.kind = i == 0 ? FrameKind::head : FrameKind::tail,
                   .size_class = static_cast<std::uint8_t>(index),
                   .position = static_cast<std::uint8_t>(i),
                   .next = i + 1U < geometry.frames ? frames[i + 1] : FrameNumber::none});
  }
  std::size_t byte = 0;
  for (std::uint32_t object = 0; object < geometry.objects; ++object, byte += geometry.size) {
    const Location at = location_at(frames[byte / kFrameSize], byte % kFrameSize);
    header_word(at, index).store(ObjectHeader::free(object + 1).packed(), std::memory_order_relaxed);
  }
  arena_.state(head) = {};
  return head;
}

void ZsPool::free_zspage(FrameNumber head) {
  std::array<FrameNumber, kMaxChain> frames;
  const FrameEntry::Link first = arena_.entry(head).link();
  const unsigned count = classes_[first.size_class].frames;
  FrameNumber frame = head;
  for (unsigned i = 0; i < count; ++i) {
    frames[i] = frame;
    frame = arena_.entry(frame).link().next;
  }
  arena_.entry(head).publish({});  // dead first; the rest are then nobody's
  arena_.free(std::span<const FrameNumber>(frames.data(), count));
  pages_.fetch_sub(count, std::memory_order_relaxed);
}

// ---- bytes

void ZsPool::write(Location object, std::span<const std::byte> from) {
  std::byte* const to = payload(object, from.size());
  const std::size_t room = kFrameSize - reinterpret_cast<std::uintptr_t>(to) % kFrameSize;
  if (from.size() <= room) {
    std::memcpy(to, from.data(), from.size());
  } else {
    std::memcpy(to, from.data(), room);
    std::memcpy(next_frame(object), from.data() + room, from.size() - room);
  }
}

std::span<const std::byte> ZsPool::read(Location object, std::size_t size,
                                        std::span<std::byte, kFrameSize> scratch) const {
  const std::byte* const from = payload(object, size);
  const std::size_t room = kFrameSize - reinterpret_cast<std::uintptr_t>(from) % kFrameSize;
  if (size <= room) return {from, size};
  const std::byte* const rest = next_frame(object);
  if (rest == from + room) return {from, size};
  std::memcpy(scratch.data(), from, room);
  std::memcpy(scratch.data() + room, rest, size - room);
  return {scratch.data(), size};
}

ObjectHeader ZsPool::header(Location object, std::size_t size) const {
  const unsigned index = size >= classes_.huge_class_size() ? kHugeClass : 0;
  return ObjectHeader::unpack(header_word(object, index).load(std::memory_order_relaxed));
}

}  // namespace uzram
