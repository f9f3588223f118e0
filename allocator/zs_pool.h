#pragma once
// A userspace zsmalloc: objects of 1..4096 bytes in zspages, which link separate 4 KiB frames; opaque handles
// that encode where an object is; fullness groups; compaction. Source: the kernel's mm/zsmalloc.c and its
// documentation.
//
// An object has a header of 8 bytes: who owns it (the position of the slot that points at it) and a check. A
// Location is the handle: valid until the object is freed or its owner's slot is changed by compaction, so a
// caller that compacts reads a location and uses it under the lock of the owner's slot.
//
// A class's zspages are in kLanes lanes, each with its own lock and lists, so that workers who allocate in one class at
// the same time do not take each other's cache lines. A zspage is in the lane of the worker who made it, or who last
// made room in it when it was full. A worker prefers its own lane, and takes from any other before a new zspage is
// made, so that lanes cost no memory.
//
// Not here: what the bytes mean, and which object is live, which the owners' slots say.
//
// Threads: everything may be called from any thread; one object's bytes belong to its owner.
// Lock order: the owner's lock, then a lane's, then the arena's. A second lane's lock is tried, never waited for.

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <span>

#include "allocator/frame_entry.h"
#include "allocator/page_arena.h"
#include "allocator/size_class.h"
#include "allocator/spin_lock.h"
#include "allocator/types.h"

namespace uzram {

// The owner of a free object.
inline constexpr Owner kNoOwner{(std::uint64_t{1} << kOwnerBits) - 1};

// The 8 bytes before every object's payload (for an as-is page: in its frame's entry).
struct ObjectHeader {
  static constexpr unsigned kCheckBits = 24;
  Owner owner{};
  std::uint32_t check = 0;  // 24 bits

  [[nodiscard]] constexpr std::uint64_t packed() const { return raw(owner) << kCheckBits | check; }
  [[nodiscard]] static constexpr ObjectHeader unpack(std::uint64_t word) {
    return {Owner{word >> kCheckBits}, static_cast<std::uint32_t>(word & ((1U << kCheckBits) - 1))};
  }
  // A free object's header links its zspage's free list with the number of the next free object.
  [[nodiscard]] static constexpr ObjectHeader free(std::uint32_t next_object) { return {kNoOwner, next_object}; }
};
// Compaction's way to the slots that own objects.
class OwnerTable {
 public:
  virtual ~OwnerTable() = default;
  // Locks the owner's slot. If it points at `from`, calls `move`, which copies the object, and points the
  // slot at what `move` returned, if it returned a location. True if the slot was changed.
  virtual bool relocate(Owner owner, Location from, const std::function<std::optional<Location>()>& move) = 0;
};

// Fullness groups of a zspage with n of N objects, as the documentation names them. ZS_EMPTY zspages are
// given back.
struct ClassStats {
  unsigned index = 0;
  SizeClass geometry{};
  std::uint64_t almost_full = 0;   // zspages
  std::uint64_t almost_empty = 0;  // zspages
  std::uint64_t full = 0;          // zspages
  // Zspages by inuse ratio as today's kernel groups them: [0] empty, [1] under 10%, ... [10] under 100%, [11]
  // full.
  std::array<std::uint64_t, 12> by_ratio{};
  std::uint64_t obj_allocated = 0;  // objects that the zspages hold room for
  std::uint64_t obj_used = 0;
  std::uint64_t pages_used = 0;

  // The frames that compaction could give back.
  [[nodiscard]] std::uint64_t freeable() const {
    return (obj_allocated - obj_used) / geometry.objects * geometry.frames;
  }
};

struct PoolStats {
  std::uint64_t pages = 0;      // frames in zspages, exact
  std::uint64_t max_pages = 0;  // the most there were since the last reset_max_pages
  std::uint64_t limit_pages = 0;
  std::uint64_t pages_compacted = 0;
};

enum class MapMode : std::uint8_t { read_only, read_write, write_only };

class MappedObject;  // allocator/mapped_object.h

class ZsPool {
 public:
  // `arena` outlives the pool. The geometry's chain is 4..16.
  ZsPool(PageArena& arena, const Geometry& geometry);
  ZsPool(const ZsPool&) = delete;
  ZsPool& operator=(const ZsPool&) = delete;

  // Room for `size` bytes, 1..4096; nothing where size is out of that range, at the page limit, or where the
  // arena has no frame. The bytes are unspecified: the caller never reads what it has not written. Callers with
  // different `worker` numbers, which may be any, are in each other's way least.
  [[nodiscard]] std::optional<Location> malloc(std::size_t size, const ObjectHeader& header, unsigned worker = 0);
  // A full zspage goes to the lane of `worker`, unless somebody is at work there.
  void free(Location object, unsigned worker = 0);
  // Begins to fetch what `free` of an object will need, for a caller that knows well before.
  void prefetch_free(Location object) const;
  // Begins to fetch the place of an object of `size` bytes that is to be freed or just was: the next of its class will
  // be written there.
  void prefetch_place(Location object, std::size_t size) const;
  // Begins to fetch what `read` of an object of `size` bytes gives.
  void prefetch_read(Location object, std::size_t size) const;

  // Copies `from`, as long as the size that was asked for at most, to the object's start.
  void write(Location object, std::span<const std::byte> from);
  // The object's first `size` bytes, where `size` is what was asked for: in place, or gathered in `scratch`
  // where they straddle two frames that are not adjacent.
  [[nodiscard]] std::span<const std::byte> read(Location object, std::size_t size,
                                                std::span<std::byte, kFrameSize> scratch) const;
  // The header of an object of `size` bytes.
  [[nodiscard]] ObjectHeader header(Location object, std::size_t size) const;

  // zs_map_object: the whole object until the returned value is destroyed. At most one straddling object at a time in
  // a thread.
  [[nodiscard]] MappedObject map(Location object, MapMode mode);

  // Moves objects out of the emptiest zspages into the fullest, class by class, while that frees a zspage;
  // returns the number of frames freed. Runs beside everything else; one call at a time works, others wait.
  std::uint64_t compact(OwnerTable& owners);

  // Recovery. What a zspage would have to be for `object` to be one of `size` bytes in it: its head, if every entry
  // agrees; for any value whatever, as long as the arena's frames below `end` are mapped.
  struct Found {
    FrameNumber head{};
    ObjectHeader header;
  };
  [[nodiscard]] std::optional<Found> probe(Location object, std::size_t size, FrameNumber end) const;
  // Takes over the zspage, whose live objects are those that `live` holds; the rest of it becomes free.
  void adopt(FrameNumber head, const std::function<bool(Location)>& live);

  // For a process that takes over without recovery; no other thread is at work.
  void save(ImageWriter& image) const;
  [[nodiscard]] bool load(ImageReader& image);

  // Frames; 0 is none. What is allocated already stays.
  void set_page_limit(std::uint64_t pages) { limit_.store(pages, std::memory_order_relaxed); }
  void reset_max_pages() { max_pages_.store(pages_.load(std::memory_order_relaxed), std::memory_order_relaxed); }

  [[nodiscard]] PoolStats stats() const;
  // The class `index`, which exists.
  [[nodiscard]] ClassStats class_stats(unsigned index) const;
  [[nodiscard]] const SizeClasses& classes() const { return classes_; }
  [[nodiscard]] const Geometry& geometry() const { return geometry_; }

  // Checks every zspage, list and count; calls `live` with each object that is not free and the size of its
  // class. For tests, with no other thread at work. Aborts where something does not hold.
  using Visit = std::function<void(Location, ObjectHeader)>;
  void check_invariants(const Visit& live = {}) const;

 private:
  friend class MappedObject;
  static constexpr unsigned kRatios = 12;
  static constexpr unsigned kFullRatio = kRatios - 1;

  static constexpr unsigned kLanes = 4;
  // What a ZspageState has room for.
  static_assert((kLanes - 1) << ZspageState::kInUseBits <= UINT16_MAX);
  static_assert(kMaxChain * kFrameSize / kMinObjectSize <= ZspageState::kMaxInUse);
  // Which lanes a worker looks at, by what is to be flipped of its own's number: of any two neighbours, each goes
  // through a half of its own before they meet.
  static constexpr std::array<unsigned, kLanes> kOrder = {0, 2, 1, 3};

  struct alignas(64) Lane {
    mutable SpinLock lock;
    std::atomic<std::uint16_t> partly_filled{0};  // a bit for each list 1..10 that is not empty
    FrameNumber isolated = FrameNumber::none;     // the zspage that compaction empties: in no list
    std::array<FrameNumber, kRatios> lists{};     // head frames of zspages, by inuse ratio
    std::array<std::uint32_t, kRatios> zspages{};
    std::uint32_t almost_empty = 0;
    std::uint64_t objects_used = 0;

    void mark(unsigned list, bool has_zspages) {
      const unsigned others = partly_filled.load(std::memory_order_relaxed) & ~(1U << list);
      partly_filled.store(static_cast<std::uint16_t>(others | unsigned{has_zspages} << list),
                          std::memory_order_relaxed);
    }
  };

  using LaneLock = std::unique_lock<SpinLock>;

  // Where an object is: its frame's entry, its class and its number in the zspage.
  struct Position {
    FrameNumber head{};
    unsigned index = 0;
    std::uint32_t object = 0;
  };

  [[nodiscard]] FrameNumber head_of(Location object) const;
  [[nodiscard]] Position position(Location object) const;
  [[nodiscard]] Location locate(FrameNumber head, unsigned index, std::uint32_t object) const;
  [[nodiscard]] std::atomic_ref<std::uint64_t> header_word(Location object, unsigned index) const;
  [[nodiscard]] std::byte* payload(Location object, std::size_t size) const;
  [[nodiscard]] std::byte* next_frame(Location object) const;
  template <int kForWriting>
  void prefetch_lines(Location object, std::size_t size) const;

  [[nodiscard]] unsigned ratio(unsigned index, std::uint32_t in_use) const;
  [[nodiscard]] bool is_almost_empty(unsigned index, std::uint32_t in_use) const;
  [[nodiscard]] LaneLock lock_lane_of(unsigned index, const ZspageState& z);
  [[nodiscard]] std::uint64_t check_lane(const Lane& lane, unsigned index, const Visit& live) const;
  [[nodiscard]] std::optional<Location> take_anywhere(unsigned index, const ObjectHeader& header, unsigned first);
  // Under the lane's lock:
  [[nodiscard]] LaneLock claim(LaneLock lock, unsigned index, FrameNumber head, unsigned lane);
  void link(Lane& lane, unsigned ratio, FrameNumber head);
  void unlink(Lane& lane, unsigned ratio, FrameNumber head);
  void count(Lane& lane, unsigned index, std::uint32_t in_use, int by);
  void set_in_use(unsigned index, FrameNumber head, unsigned in_use);
  [[nodiscard]] static FrameNumber fullest(const Lane& lane);
  [[nodiscard]] Location take(unsigned index, FrameNumber head, const ObjectHeader& header);

  [[nodiscard]] bool charge(unsigned frames);
  void raise_max();
  [[nodiscard]] FrameNumber make_zspage(unsigned index);
  void free_zspage(FrameNumber head);

  [[nodiscard]] bool can_compact(unsigned index) const;
  [[nodiscard]] FrameNumber isolate_emptiest(unsigned index);
  [[nodiscard]] bool put_back(unsigned index, FrameNumber head);
  [[nodiscard]] std::optional<Location> copy_elsewhere(Location from, unsigned index);
  [[nodiscard]] std::uint64_t compact_class(unsigned index, OwnerTable& owners);

  PageArena& arena_;
  const Geometry geometry_;
  const SizeClasses classes_;
  std::array<std::array<Lane, kLanes>, kClasses> lanes_;
  std::atomic<std::uint64_t> pages_{0};
  std::atomic<std::uint64_t> max_pages_{0};
  std::atomic<std::uint64_t> limit_{0};
  std::atomic<std::uint64_t> pages_compacted_{0};
  std::mutex compaction_;  // held by the one compaction at work; never on the I/O path
};

}  // namespace uzram
