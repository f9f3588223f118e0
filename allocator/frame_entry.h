#pragma once
// What the arena keeps about each frame: 16 bytes that outlive the process, and 12 that do not.

#include <atomic>
#include <cstdint>

#include "allocator/types.h"

namespace uzram {

// What a frame is for. The values have even parity: one flipped bit never makes one of another.
enum class FrameKind : std::uint8_t {
  free = 0,     // a fresh frame's entry is all zeroes: `next` links the free list
  head = 3,     // the first frame of a zspage; the zspage lives while its head has this kind
  tail = 5,     // a later frame of a zspage
  node = 6,     // an inner node of a slot table: an index, rebuilt from the leaves
  leaf = 9,     // 512 slots; its tag says of which device, and which of its leaves
  absent = 10,  // given back to the system
  device = 12,  // a device's record
  header = 15,  // the header of a shared arena
};

// One frame's entry. The first word changes in one store, so that a zspage goes live and dies at one instant:
// the head is published last, and taken back first.
struct FrameEntry {
  struct Link {
    FrameKind kind = FrameKind::free;
    std::uint8_t size_class = 0;
    std::uint8_t position = 0;             // in the zspage, 0 for its head
    FrameNumber next = FrameNumber::none;  // in the zspage or the free list
  };

  [[nodiscard]] Link link() const {
    const std::uint64_t word = packed.load(std::memory_order_relaxed);
    return {static_cast<FrameKind>(word & 0xff), static_cast<std::uint8_t>(word >> 8),
            static_cast<std::uint8_t>(word >> 16), static_cast<FrameNumber>(word >> 32)};
  }
  void publish(const Link& l) {
    packed.store(std::uint64_t{raw(l.next)} << 32 | std::uint64_t{l.position} << 16 | std::uint64_t{l.size_class} << 8 |
                     raw(l.kind),
                 std::memory_order_release);
  }

  std::atomic<std::uint64_t> packed{0};
  // A zspage's frame: the number of its head; but the frame of an as-is page: that object's header. A leaf: its tag.
  std::atomic<std::uint64_t> tag{0};
};
static_assert(sizeof(FrameEntry) == 16);

// The state of a zspage, kept for its head frame: private to the process, and rebuilt from the slots.
struct ZspageState {
  FrameNumber previous = FrameNumber::none;  // in its class's list of one fullness
  FrameNumber next = FrameNumber::none;
  std::uint16_t free_object = 0;  // the first of the free ones, linked through their headers

  [[nodiscard]] std::uint16_t in_use() const { return word() & kMaxInUse; }  // objects
  // The lane that the zspage is in, which may be asked without that lane's lock.
  [[nodiscard]] unsigned lane() const { return word() >> kInUseBits; }
  void set(unsigned lane, unsigned in_use) {
    std::atomic_ref(word_).store(static_cast<std::uint16_t>(lane << kInUseBits | in_use), std::memory_order_relaxed);
  }

  static constexpr unsigned kInUseBits = 12;
  static constexpr std::uint16_t kMaxInUse = (1 << kInUseBits) - 1;

 private:
  [[nodiscard]] std::uint16_t word() const {
    return std::atomic_ref(const_cast<std::uint16_t&>(word_)).load(std::memory_order_relaxed);
  }

  std::uint16_t word_ = 0;
};
static_assert(sizeof(ZspageState) == 12);

}  // namespace uzram
