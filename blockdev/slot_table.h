#pragma once
// The slot table: a slot of 8 bytes for each page of a device, in a radix tree of arena frames. An absent
// subtree reads as empty, so a table costs what was written, whatever the device's size. The tree's links are
// frame numbers.
//
// Invariant: SlotGuard::exchange is the only thing that changes what a slot holds, and one store both
// publishes the new value and unlocks the slot.
//
// Threads: everything may be called from any thread, but for `clear` and `adopt`.

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <optional>

#include "allocator/page_arena.h"
#include "allocator/spin_lock.h"
#include "blockdev/slot.h"
#include "blockdev/types.h"

namespace uzram {

using Slot = std::atomic<std::uint64_t>;

// What a leaf's entry says of it: the truth about the tree, whose nodes are only an index.
struct LeafTag {
  std::uint8_t device = 0;
  std::uint64_t index = 0;  // the leaf's first page / kLeafSlots

  [[nodiscard]] std::uint64_t packed() const {
    const std::uint64_t word = std::uint64_t{device} << 32 | index;
    return word | check(word) << 40;
  }
  // Nothing where the tag is damaged.
  [[nodiscard]] static std::optional<LeafTag> unpack(std::uint64_t packed) {
    const std::uint64_t word = packed & ((std::uint64_t{1} << 40) - 1);
    if (packed >> 40 != check(word)) return std::nullopt;
    return LeafTag{static_cast<std::uint8_t>(word >> 32), word & 0xffffffff};
  }

 private:
  static std::uint64_t check(std::uint64_t word) { return (word + 1) * 0x9e3779b97f4a7c15 >> 40; }
};

// A locked slot.
class SlotGuard {
 public:
  explicit SlotGuard(Slot& slot) : slot_(slot), value_(lock(slot)) {}
  ~SlotGuard() {
    if (locked_) slot_.store(value_.word(), std::memory_order_release);
  }
  SlotGuard(const SlotGuard&) = delete;
  SlotGuard& operator=(const SlotGuard&) = delete;

  [[nodiscard]] const SlotValue& value() const { return value_; }

  // Publishes `value`, unlocks the slot, and returns what it held: the caller frees that.
  [[nodiscard]] SlotValue exchange(SlotValue value) {
    slot_.store(value.word(), std::memory_order_release);
    locked_ = false;
    return value_;
  }

 private:
  static SlotValue lock(Slot& slot) {
    constexpr int kSpins = 256;
    for (int tries = 0;; ++tries) {
      if ((slot.load(std::memory_order_relaxed) & SlotValue::kLock) == 0) {
        const std::uint64_t word = slot.fetch_or(SlotValue::kLock, std::memory_order_acquire);
        if ((word & SlotValue::kLock) == 0) return SlotValue(word);
      }
      // Beyond some microseconds the holder has lost its processor: lend it ours.
      if (tries < kSpins) {
        cpu_relax();
      } else {
        sched_yield();
      }
    }
  }

  Slot& slot_;
  const SlotValue value_;
  bool locked_ = true;
};

class SlotTable {
 public:
  static constexpr std::uint64_t kLeafSlots = kFrameSize / sizeof(Slot);  // a leaf: 512 pages, 2 MiB of the device

  // `arena` outlives the table. Takes no memory yet. `device` is its device's number: leaves are tagged with it.
  SlotTable(PageArena& arena, std::uint64_t pages, std::uint8_t device)
      : arena_(arena), pages_(pages), device_(device) {}
  SlotTable(const SlotTable&) = delete;
  SlotTable& operator=(const SlotTable&) = delete;

  // The page's slot, or null where it lies in an absent subtree: the page is empty.
  [[nodiscard]] Slot* find(PageIndex page) const {
    const Link* link = &root_[raw(page) >> kShifts[0]];
    for (const unsigned shift : kInnerShifts) {
      const FrameNumber node = load(*link);
      if (node == FrameNumber::none) return nullptr;
      link = &links(node)[raw(page) >> shift & kNodeMask];
    }
    const FrameNumber leaf = load(*link);
    return leaf == FrameNumber::none ? nullptr : &slots(leaf)[raw(page) % kLeafSlots];
  }

  // The page's slot; makes the nodes that are missing. Null where there is no memory for them.
  [[nodiscard]] Slot* find_or_make(PageIndex page);

  // The first page at or after `page` whose leaf exists, at most `end`.
  [[nodiscard]] PageIndex next_present(PageIndex page, PageIndex end) const;

  // Calls `visit(page, slot)` for each page of [first, end) whose leaf exists, in ascending order.
  template <class Visit>
  void for_each(PageIndex first, PageIndex end, Visit visit) const {
    for (PageIndex page = next_present(first, end); raw(page) < raw(end); page = next_present(page, end)) {
      const PageIndex leaf_end{std::min((raw(page) / kLeafSlots + 1) * kLeafSlots, raw(end))};
      for (Slot* slot = find(page); raw(page) < raw(leaf_end); page = PageIndex{raw(page) + 1}) visit(page, *slot++);
    }
  }

  // Gives the frames back; what the slots hold has been freed. No other thread is at work.
  void clear();

  // Recovery: hangs a leaf of an earlier process into the tree. False where there is no memory for the nodes.
  [[nodiscard]] bool adopt(std::uint64_t leaf_index, FrameNumber leaf);
  [[nodiscard]] Slot* slots(FrameNumber leaf) const { return reinterpret_cast<Slot*>(arena_.bytes(leaf)); }

  // For a process that takes over without recovery; no other thread is at work.
  void save(ImageWriter& image) const;
  [[nodiscard]] bool load_image(ImageReader& image);

  [[nodiscard]] std::uint64_t pages() const { return pages_; }
  [[nodiscard]] std::uint64_t frames() const { return frames_.load(std::memory_order_relaxed); }

 private:
  using Link = std::atomic<std::uint32_t>;  // a frame number
  // The pages under one link of the root, of a node below it, and of a node above the leaves, as shifts.
  static constexpr unsigned kShifts[] = {29, 19, 9};
  static constexpr unsigned kInnerShifts[] = {kShifts[1], kShifts[2]};
  static constexpr std::uint64_t kNodeMask = kFrameSize / sizeof(Link) - 1;
  static constexpr std::size_t kRootLinks = (kMaxDeviceBytes / kPageSize) >> kShifts[0];

  [[nodiscard]] static FrameNumber load(const Link& link) { return FrameNumber{link.load(std::memory_order_acquire)}; }
  [[nodiscard]] Link* links(FrameNumber node) const { return reinterpret_cast<Link*>(arena_.bytes(node)); }
  [[nodiscard]] Link* find_or_make_leaf_link(std::uint64_t leaf_index);
  [[nodiscard]] FrameNumber find_or_make_child(Link& link, FrameKind kind, std::uint64_t tag);
  void free_below(Link& link, unsigned level);

  PageArena& arena_;
  const std::uint64_t pages_;
  const std::uint8_t device_;
  std::atomic<std::uint64_t> frames_{0};
  Link root_[kRootLinks] = {};
};

}  // namespace uzram
