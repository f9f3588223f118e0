#include "blockdev/slot_table.h"

#include <algorithm>
#include <cstring>

namespace uzram {

SlotTable::~SlotTable() {
  for (Link& link : root_) free_below(link, 0);
}

// Frees the subtree that hangs on `link`, which counts kShifts[level] pages.
void SlotTable::free_below(Link& link, unsigned level) {
  const FrameNumber frame = load(link);
  if (frame == FrameNumber::none) return;
  if (level + 1 < std::size(kShifts)) {
    for (std::size_t i = 0; i <= kNodeMask; ++i) free_below(links(frame)[i], level + 1);
  }
  arena_.entry(frame).publish({});
  arena_.free({&frame, 1});
}

// The frame that `link` points at; makes one of zeroes if there is none. Of two threads that do so, one wins.
FrameNumber SlotTable::find_or_make_child(Link& link, FrameKind kind) {
  FrameNumber frame = load(link);
  if (frame != FrameNumber::none) return frame;
  if (!arena_.allocate({&frame, 1})) return FrameNumber::none;
  std::memset(arena_.bytes(frame), 0, kFrameSize);
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

Slot* SlotTable::find_or_make(PageIndex page) {
  if (Slot* slot = find(page)) return slot;
  Link* link = &root_[raw(page) >> kShifts[0]];
  for (const unsigned shift : kInnerShifts) {
    const FrameNumber node = find_or_make_child(*link, FrameKind::node);
    if (node == FrameNumber::none) return nullptr;
    link = &links(node)[raw(page) >> shift & kNodeMask];
  }
  const FrameNumber leaf = find_or_make_child(*link, FrameKind::leaf);
  return leaf == FrameNumber::none ? nullptr : &slots(leaf)[raw(page) % kLeafSlots];
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
