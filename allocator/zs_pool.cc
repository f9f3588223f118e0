#include "allocator/zs_pool.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "allocator/ensure.h"

namespace uzram {
namespace {

constexpr std::uint64_t kUnitsPerFrame = kFrameSize / 16;  // of a location

FrameNumber frame_of(Location l) { return static_cast<FrameNumber>(raw(l) / kUnitsPerFrame); }
std::size_t offset_in_frame(Location l) { return raw(l) % kUnitsPerFrame * 16; }
Location location_at(FrameNumber frame, std::size_t offset) {
  return Location{raw(frame) * kUnitsPerFrame + offset / 16};
}

ObjectHeader free_link(std::uint32_t next_object) { return {kNoOwner, next_object}; }

}  // namespace

ZsPool::ZsPool(PageArena& arena, const Geometry& geometry)
    : arena_(arena), geometry_(geometry), classes_(geometry) {
  ensure(geometry.chain >= 4 && geometry.chain <= kMaxChain, "a chain of 4..16 frames");
}

ZsPool::~ZsPool() { ensure(pages_.load() == 0, "a pool's objects are freed before it"); }

// ---- where objects are

ZsPool::Position ZsPool::position(Location object) const {
  const FrameEntry& entry = arena_.entry(frame_of(object));
  const FrameEntry::Link link = entry.link();
  if (link.size_class == kHugeClass) return {frame_of(object), kHugeClass, 0};
  const std::size_t bytes = link.position * kFrameSize + offset_in_frame(object);
  return {static_cast<FrameNumber>(entry.head_or_header.load(std::memory_order_relaxed)), link.size_class,
          static_cast<std::uint32_t>(bytes) / classes_[link.size_class].size};
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
    auto& word = arena_.entry(frame_of(object)).head_or_header;
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
  const std::uint32_t objects = classes_[index].objects;
  if (in_use == 0) return 0;
  if (in_use == objects) return kFullRatio;
  return in_use * 10 / objects + 1;
}

bool ZsPool::is_almost_empty(unsigned index, std::uint32_t in_use) const {
  const std::uint32_t objects = classes_[index].objects;
  return in_use > 0 && in_use < objects &&
         in_use <= geometry_.threshold_numerator * objects / geometry_.threshold_denominator;
}

void ZsPool::link(ClassState& c, unsigned ratio, FrameNumber head) {
  ZspageState& z = arena_.state(head);
  z.previous = FrameNumber::none;
  z.next = c.lists[ratio];
  if (z.next != FrameNumber::none) arena_.state(z.next).previous = head;
  c.lists[ratio] = head;
  if (ratio != kFullRatio) c.partly_filled = static_cast<std::uint16_t>(c.partly_filled | 1U << ratio);
}

void ZsPool::unlink(ClassState& c, unsigned ratio, FrameNumber head) {
  const ZspageState& z = arena_.state(head);
  if (z.next != FrameNumber::none) arena_.state(z.next).previous = z.previous;
  if (z.previous != FrameNumber::none) {
    arena_.state(z.previous).next = z.next;
  } else {
    c.lists[ratio] = z.next;
    if (z.next == FrameNumber::none)
      c.partly_filled = static_cast<std::uint16_t>(c.partly_filled & ~(1U << ratio));
  }
}

void ZsPool::count(ClassState& c, unsigned index, std::uint32_t in_use, int by) {
  c.zspages[ratio(index, in_use)] += static_cast<std::uint32_t>(by);
  if (is_almost_empty(index, in_use)) c.almost_empty += static_cast<std::uint32_t>(by);
}

// Moves a zspage to the list and the counts of its new number of objects. An empty one leaves its list.
void ZsPool::set_in_use(ClassState& c, unsigned index, FrameNumber head, std::uint16_t in_use) {
  ZspageState& z = arena_.state(head);
  const unsigned from = ratio(index, z.in_use);
  const unsigned to = ratio(index, in_use);
  count(c, index, z.in_use, -1);
  count(c, index, in_use, +1);
  c.objects_used += in_use;
  c.objects_used -= z.in_use;
  z.in_use = in_use;
  if (from == to || head == c.isolated) return;
  if (from != 0) unlink(c, from, head);
  if (to != 0) link(c, to, head);
}

// ---- malloc and free

FrameNumber ZsPool::fullest(const ClassState& c) {
  if (c.partly_filled == 0) return FrameNumber::none;
  return c.lists[31U - static_cast<unsigned>(__builtin_clz(c.partly_filled))];
}

Location ZsPool::take(ClassState& c, unsigned index, FrameNumber head, const ObjectHeader& header) {
  ZspageState& z = arena_.state(head);
  const Location object = locate(head, index, z.free_object);
  const auto word = header_word(object, index);
  z.free_object =
      static_cast<std::uint16_t>(ObjectHeader::unpack(word.load(std::memory_order_relaxed)).check);
  word.store(header.packed(), std::memory_order_relaxed);
  set_in_use(c, index, head, static_cast<std::uint16_t>(z.in_use + 1));
  return object;
}

std::optional<Location> ZsPool::malloc(std::size_t size, const ObjectHeader& header) {
  if (size == 0 || size > kFrameSize) return std::nullopt;
  const unsigned index = classes_.index_for(size);
  ClassState& c = states_[index];
  {
    const std::scoped_lock lock(c.lock);
    const FrameNumber head = fullest(c);
    if (head != FrameNumber::none) return take(c, index, head, header);
  }
  const FrameNumber head = make_zspage(index);
  if (head == FrameNumber::none) return std::nullopt;
  const std::scoped_lock lock(c.lock);
  count(c, index, 0, +1);
  return take(c, index, head, header);
}

void ZsPool::free(Location object) {
  const Position at = position(object);
  ClassState& c = states_[at.index];
  {
    const std::scoped_lock lock(c.lock);
    ZspageState& z = arena_.state(at.head);
    header_word(object, at.index).store(free_link(z.free_object).packed(), std::memory_order_relaxed);
    z.free_object = static_cast<std::uint16_t>(at.object);
    ensure(z.in_use > 0, "an object is freed once");
    set_in_use(c, at.index, at.head, static_cast<std::uint16_t>(z.in_use - 1));
    if (z.in_use != 0 || at.head == c.isolated) return;
    --c.zspages[0];
  }
  free_zspage(at.head);
}

// ---- zspages

// The limit is honoured here, before there is anything to undo.
bool ZsPool::charge(unsigned frames) {
  const std::uint64_t limit = limit_.load(std::memory_order_relaxed);
  const std::uint64_t now = pages_.fetch_add(frames, std::memory_order_relaxed) + frames;
  if (limit != 0 && now > limit) {
    pages_.fetch_sub(frames, std::memory_order_relaxed);
    return false;
  }
  std::uint64_t max = max_pages_.load(std::memory_order_relaxed);
  while (now > max && !max_pages_.compare_exchange_weak(max, now, std::memory_order_relaxed)) {
  }
  return true;
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
  const FrameNumber head = frames[0];
  for (unsigned i = geometry.frames; i-- > 0;) {
    FrameEntry& entry = arena_.entry(frames[i]);
    entry.head_or_header.store(raw(head), std::memory_order_relaxed);
    entry.publish({.kind = i == 0 ? FrameKind::head : FrameKind::tail,
                   .size_class = static_cast<std::uint8_t>(index),
                   .position = static_cast<std::uint8_t>(i),
                   .next = i + 1U < geometry.frames ? frames[i + 1] : FrameNumber::none});
  }
  std::size_t byte = 0;
  for (std::uint32_t object = 0; object < geometry.objects; ++object, byte += geometry.size) {
    const Location at = location_at(frames[byte / kFrameSize], byte % kFrameSize);
    header_word(at, index).store(free_link(object + 1).packed(), std::memory_order_relaxed);
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

// ---- mapping

namespace {
// Where a straddling object is presented; the kernel keeps one a CPU, as an object is mapped for a moment
// only.
thread_local struct {
  std::array<std::byte, kFrameSize> bytes;
  bool in_use = false;
} mapping_area;
}  // namespace

MappedObject ZsPool::map(Location object, MapMode mode) { return {*this, object, mode}; }

MappedObject::MappedObject(ZsPool& pool, Location object, MapMode mode)
    : pool_(&pool), object_(object), mode_(mode) {
  const unsigned index = pool.position(object).index;
  const std::size_t size = index == kHugeClass ? kFrameSize : pool.classes_[index].size - kHeaderSize;
  std::byte* const from = pool.payload(object, size);
  const std::size_t room = kFrameSize - reinterpret_cast<std::uintptr_t>(from) % kFrameSize;
  straddles_ = size > room;
  if (!straddles_) {
    bytes_ = {from, size};
    return;
  }
  ensure(!mapping_area.in_use, "a thread maps one object at a time");
  mapping_area.in_use = true;
  bytes_ = {mapping_area.bytes.data(), size};
  if (mode == MapMode::write_only) return;
  std::memcpy(bytes_.data(), from, room);
  std::memcpy(bytes_.data() + room, pool.next_frame(object), size - room);
}

MappedObject::MappedObject(MappedObject&& other) noexcept
    : pool_(std::exchange(other.pool_, nullptr)),
      object_(other.object_),
      mode_(other.mode_),
      straddles_(other.straddles_),
      bytes_(other.bytes_) {}

MappedObject::~MappedObject() {
  if (pool_ == nullptr || !straddles_) return;
  if (mode_ != MapMode::read_only) pool_->write(object_, bytes_);
  mapping_area.in_use = false;
}

// ---- compaction

bool ZsPool::can_compact(const ClassState& c, unsigned index) const {
  std::uint64_t zspages = 0;
  for (const std::uint32_t n : c.zspages) zspages += n;
  const std::uint64_t objects = classes_[index].objects;
  return (zspages * objects - c.objects_used) / objects >= 1;
}

// Takes the emptiest zspage out of its list, if emptying it can free it.
FrameNumber ZsPool::isolate_emptiest(unsigned index) {
  ClassState& c = states_[index];
  const std::scoped_lock lock(c.lock);
  if (c.partly_filled == 0 || !can_compact(c, index)) return FrameNumber::none;
  const unsigned emptiest = static_cast<unsigned>(__builtin_ctz(c.partly_filled));
  const FrameNumber head = c.lists[emptiest];
  unlink(c, emptiest, head);
  c.isolated = head;
  return head;
}

// Ends the isolation; true if the zspage was empty and its frames were freed.
bool ZsPool::put_back(unsigned index) {
  ClassState& c = states_[index];
  FrameNumber head;
  {
    const std::scoped_lock lock(c.lock);
    head = std::exchange(c.isolated, FrameNumber::none);
    const std::uint16_t in_use = arena_.state(head).in_use;
    if (in_use != 0) {
      link(c, ratio(index, in_use), head);
      return false;
    }
    --c.zspages[0];
  }
  free_zspage(head);
  return true;
}

// A copy of the object in the fullest zspage that has room; never makes a new one, or nothing would be
// gained.
std::optional<Location> ZsPool::copy_elsewhere(Location from, unsigned index) {
  ClassState& c = states_[index];
  const auto header = ObjectHeader::unpack(header_word(from, index).load(std::memory_order_relaxed));
  Location to;
  {
    const std::scoped_lock lock(c.lock);
    const FrameNumber head = fullest(c);
    if (head == FrameNumber::none) return std::nullopt;
    to = take(c, index, head, header);
  }
  std::array<std::byte, kFrameSize> scratch;
  write(to, read(from, classes_[index].size - kHeaderSize, scratch));
  return to;
}

std::uint64_t ZsPool::compact_class(unsigned index, OwnerTable& owners) {
  std::uint64_t freed = 0;
  for (;;) {
    const FrameNumber head = isolate_emptiest(index);
    if (head == FrameNumber::none) return freed;
    for (std::uint32_t object = 0; object < classes_[index].objects; ++object) {
      const Location from = locate(head, index, object);
      const auto header = ObjectHeader::unpack(header_word(from, index).load(std::memory_order_relaxed));
      if (header.owner == kNoOwner) continue;
      // An owner that does not point back is a write in flight, or a free: either way not ours to move.
      if (owners.relocate(header.owner, from, [&] { return copy_elsewhere(from, index); })) free(from);
    }
    if (!put_back(index)) return freed;
    freed += classes_[index].frames;
  }
}

std::uint64_t ZsPool::compact(OwnerTable& owners) {
  const std::scoped_lock lock(compaction_);
  std::uint64_t freed = 0;
  for (unsigned index = 0; index < kHugeClass; ++index) {
    if (classes_.exists(index)) freed += compact_class(index, owners);
  }
  pages_compacted_.fetch_add(freed, std::memory_order_relaxed);
  return freed;
}

// ---- statistics

PoolStats ZsPool::stats() const {
  return {pages_.load(std::memory_order_relaxed), max_pages_.load(std::memory_order_relaxed),
          limit_.load(std::memory_order_relaxed), pages_compacted_.load(std::memory_order_relaxed)};
}

ClassStats ZsPool::class_stats(unsigned index) const {
  const ClassState& c = states_[index];
  ClassStats s{.index = index, .geometry = classes_[index]};
  const std::scoped_lock lock(c.lock);
  std::uint64_t zspages = 0;
  for (unsigned r = 0; r < kRatios; ++r) {
    s.by_ratio[r] = c.zspages[r];
    zspages += c.zspages[r];
  }
  s.full = c.zspages[kFullRatio];
  s.almost_empty = c.almost_empty;
  s.almost_full = zspages - s.full - s.almost_empty - c.zspages[0];
  s.obj_allocated = zspages * s.geometry.objects;
  s.obj_used = c.objects_used;
  s.pages_used = zspages * s.geometry.frames;
  return s;
}

void ZsPool::check_invariants(const std::function<void(Location, ObjectHeader)>& live) const {
  std::uint64_t pages = 0;
  for (unsigned index = 0; index < kClasses; ++index) {
    const ClassState& c = states_[index];
    const SizeClass& geometry = classes_[index];
    std::uint64_t used = 0;
    std::uint32_t almost_empty = 0;
    ensure(c.isolated == FrameNumber::none && c.zspages[0] == 0, "nothing is isolated or empty at rest");
    for (unsigned r = 1; r < kRatios; ++r) {
      std::uint32_t zspages = 0;
      FrameNumber previous = FrameNumber::none;
      for (FrameNumber head = c.lists[r]; head != FrameNumber::none; head = arena_.state(head).next) {
        const ZspageState& z = arena_.state(head);
        ensure(z.previous == previous, "a list links both ways");
        ensure(ratio(index, z.in_use) == r, "a zspage is in the list of its fullness");
        std::uint32_t in_use = 0;
        for (std::uint32_t object = 0; object < geometry.objects; ++object) {
          const Location at = locate(head, index, object);
          ensure(position(at).head == head && position(at).object == object, "a location names its object");
          const auto header = ObjectHeader::unpack(header_word(at, index).load(std::memory_order_relaxed));
          if (header.owner == kNoOwner) continue;
          ++in_use;
          if (live) live(at, header);
        }
        ensure(in_use == z.in_use, "a zspage counts its objects");
        used += in_use;
        almost_empty += is_almost_empty(index, in_use) ? 1 : 0;
        ++zspages;
        previous = head;
      }
      ensure(zspages == c.zspages[r], "a class counts its zspages");
      ensure(r == kFullRatio || ((c.partly_filled >> r & 1) != 0) == (zspages != 0), "a bit for each list");
      pages += std::uint64_t{zspages} * geometry.frames;
    }
    ensure(used == c.objects_used && almost_empty == c.almost_empty, "a class counts its objects");
  }
  ensure(pages == pages_.load(std::memory_order_relaxed), "the pool counts its pages");
}

}  // namespace uzram
