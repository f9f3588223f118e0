#include "blockdev/slot_table.h"

#include <algorithm>
#include <cstring>

namespace uzram {

void SlotTable::clear() {
  for (Link& link : root_) free_below(link, 0);
}

// Frees the subtree that hangs on `link`, which counts kShifts[level] pages.
void SlotTable::free_below(Link& link, unsigned level) {
  const FrameNumber frame{link.exchange(raw(FrameNumber::none), std::memory_order_acq_rel)};
  if (frame == FrameNumber::none) return;
  if (level + 1 < std::size(kShifts)) {
    for (std::size_t i = 0; i <= kNodeMask; ++i) free_below(links(frame)[i], level + 1);
  }
  arena_.entry(frame).publish({});
  arena_.free({&frame, 1});
  frames_.fetch_sub(1, std::memory_order_relaxed);
}

// The frame that `link` points at; makes one of zeroes if there is none. Of two threads that do so, one wins.
FrameNumber SlotTable::find_or_make_child(Link& link, FrameKind kind, std::uint64_t tag) {
  FrameNumber frame = load(link);
  if (frame != FrameNumber::none) return frame;
  if (!arena_.allocate({&frame, 1})) return FrameNumber::none;
  std::memset(arena_.bytes(frame), 0, kFrameSize);
  arena_.entry(frame).tag.store(tag, std::memory_order_relaxed);
  arena_.entry(frame).publish({.kind = kind});
  std::uint32_t expected = raw(FrameNumber::none);
  if (link.compare_exchange_strong(expected, raw(frame), std::memory_order_acq_rel)) {
    frames_.fetch_add(1, std::memory_order_relaxed);
    return frame;
  }
  arena_.entry(frame).publish({});
  arena_.free({&frame, 1});
  return FrameNumber{expected};
}

// The link that points at the leaf, with the nodes above it; null where there is no memory for them.
SlotTable::Link* SlotTable::find_or_make_leaf_link(std::uint64_t leaf_index) {
  const std::uint64_t page = leaf_index * kLeafSlots;
  Link* link = &root_[page >> kShifts[0]];
  for (const unsigned shift : kInnerShifts) {
    const FrameNumber node = find_or_make_child(*link, FrameKind::node, 0);
    if (node == FrameNumber::none) return nullptr;
    link = &links(node)[page >> shift & kNodeMask];
  }
  return link;
}

Slot* SlotTable::find_or_make(PageIndex page) {
  if (Slot* slot = find(page)) return slot;
  const std::uint64_t index = raw(page) / kLeafSlots;
  Link* const link = find_or_make_leaf_link(index);
  if (link == nullptr) return nullptr;
  const FrameNumber leaf = find_or_make_child(*link, FrameKind::leaf, LeafTag{device_, index}.packed());
  return leaf == FrameNumber::none ? nullptr : &slots(leaf)[raw(page) % kLeafSlots];
}

bool SlotTable::adopt(std::uint64_t leaf_index, FrameNumber leaf) {
  Link* const link = find_or_make_leaf_link(leaf_index);
  if (link == nullptr) return false;
  link->store(raw(leaf), std::memory_order_release);
  frames_.fetch_add(1, std::memory_order_relaxed);
  return true;
}

PageIndex SlotTable::next_present(PageIndex page, PageIndex end) const {
  std::uint64_t at = raw(page);
  while (at < raw(end)) {
    const Link* link = &root_[at >> kShifts[0]];
    unsigned level = 0;
    FrameNumber frame = load(*link);
    while (frame != FrameNumber::none && level + 1 < std::size(kShifts)) {
      link = &links(frame)[at >> kShifts[++level] & kNodeMask];
      frame = load(*link);
    }
    if (frame != FrameNumber::none) return PageIndex{at};
    at = ((at >> kShifts[level]) + 1) << kShifts[level];  // past the absent subtree
  }
  return end;
}

}  // namespace uzram
