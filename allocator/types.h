#pragma once
// The units of the allocator. They do not mix: each is an enum class, and `raw` is the one way to its number.

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace uzram {

// The bytes of a frame: the only size of memory that is ever taken from the system (a 0-order page).
inline constexpr std::size_t kFrameSize = 4096;

// A frame's number: its byte offset in the arena's file, divided by kFrameSize.
enum class FrameNumber : std::uint32_t { none = 0 };

// Where an object starts: its byte offset in the arena's file, divided by 16. 38 bits: 4 TiB of pool.
enum class Location : std::uint64_t { none = 0 };
inline constexpr unsigned kLocationBits = 38;

// Who owns an object: the position of the slot that points at it. 40 bits, of which all ones means "free".
enum class Owner : std::uint64_t {};
inline constexpr unsigned kOwnerBits = 40;

template <class E>
constexpr auto raw(E e) {
  return static_cast<std::underlying_type_t<E>>(e);
}

inline constexpr std::uint64_t kUnitsPerFrame = kFrameSize / 16;  // of a location

constexpr FrameNumber frame_of(Location l) { return static_cast<FrameNumber>(raw(l) / kUnitsPerFrame); }
constexpr std::size_t offset_in_frame(Location l) { return raw(l) % kUnitsPerFrame * 16; }
constexpr Location location_at(FrameNumber frame, std::size_t offset) {
  return Location{raw(frame) * kUnitsPerFrame + offset / 16};
}

}  // namespace uzram
