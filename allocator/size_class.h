#pragma once
// The geometry of zsmalloc: which sizes exist, how many frames a zspage links, and which classes merge. Pure
// arithmetic, no memory. Source: the kernel's mm/zsmalloc.c and its documentation.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include "allocator/types.h"

namespace uzram {

inline constexpr std::size_t kMinObjectSize = 32;  // ZS_MIN_ALLOC_SIZE
inline constexpr std::size_t kClassStep = 16;      // ZS_SIZE_CLASS_DELTA
inline constexpr std::size_t kHeaderSize = 8;      // ZS_HANDLE_SIZE
inline constexpr unsigned kClasses = (kFrameSize - kMinObjectSize) / kClassStep + 1;
inline constexpr unsigned kHugeClass = kClasses - 1;  // one object, one frame, its header outside
inline constexpr unsigned kMaxChain = 16;

// How the number of frames in a zspage is chosen.
enum class ChainRule : std::uint8_t {
  documented,  // 1..chain that maximises the used share in whole percent; the first maximum wins
  kernel,      // a power of two: 1; else 1..chain that minimises the bytes left over; the first minimum wins
};

struct Geometry {
  ChainRule rule = ChainRule::documented;
  unsigned chain = 4;  // 4..16
  // A zspage with n of N objects is ALMOST_EMPTY if n <= numerator * N / denominator. The kernel's code that
  // printed the documented sample used 3/4, its text says 1/4.
  unsigned threshold_numerator = 1;
  unsigned threshold_denominator = 4;

  bool operator==(const Geometry&) const = default;
};

constexpr std::size_t class_size(unsigned index) { return kMinObjectSize + index * kClassStep; }

// The class of a request of `size` bytes, 0..4096, before merging. 4096 bytes go to the huge class, which
// keeps the header outside.
constexpr unsigned class_of(std::size_t size) {
  const std::size_t with_header = size + kHeaderSize;
  if (with_header <= kMinObjectSize) return 0;
  const std::size_t index = (with_header - kMinObjectSize + kClassStep - 1) / kClassStep;
  return index < kHugeClass ? static_cast<unsigned>(index) : kHugeClass;
}

// The number of frames in a zspage of objects of `size` bytes.
constexpr unsigned zspage_frames(const Geometry& g, std::size_t size) {
  if (g.rule == ChainRule::kernel && (size & (size - 1)) == 0) return 1;
  unsigned best = 1;
  std::size_t best_share = 0;
  std::size_t least_waste = SIZE_MAX;
  for (unsigned i = 1; i <= g.chain; ++i) {
    const std::size_t bytes = i * kFrameSize;
    const std::size_t waste = bytes % size;
    const std::size_t share = (bytes - waste) * 100 / bytes;
    if (g.rule == ChainRule::documented ? share > best_share : waste < least_waste) {
      best = i;
      best_share = share;
      least_waste = waste;
    }
  }
  return best;
}

// Divides by a number that is known long before, without the processor's division, of which an allocation would take
// many: n / d for n < 2^16 and d <= 4096. Source: n * ceil(2^32 / d) exceeds n * 2^32 / d by less than n, and what is
// missing to the next quotient is at least 2^32 / d, which is more.
class Divisor {
 public:
  constexpr Divisor() = default;
  constexpr explicit Divisor(std::uint64_t d) : inverse_(((std::uint64_t{1} << 32) + d - 1) / d) {}
  [[nodiscard]] constexpr std::uint32_t quotient(std::uint64_t n) const {
    return static_cast<std::uint32_t>(n * inverse_ >> 32);
  }

 private:
  std::uint64_t inverse_ = 0;
};

struct SizeClass {
  std::uint16_t size = 0;          // bytes of an object, its header included
  std::uint8_t frames = 0;         // in a zspage
  std::uint16_t objects = 0;       // in a zspage
  std::uint16_t almost_empty = 0;  // the most objects of a zspage that is ALMOST_EMPTY
  Divisor by_size{};
  Divisor by_objects{};
};

// The classes of one geometry, merged: a class with the frames and objects of the one above it is that one.
class SizeClasses {
 public:
  constexpr explicit SizeClasses(const Geometry& g) {
    for (unsigned i = kClasses; i-- > 0;) {
      const std::size_t size = class_size(i);
      const unsigned frames = zspage_frames(g, size);
      const auto objects = static_cast<std::uint16_t>(frames * kFrameSize / size);
      const bool merges =
          i + 1 < kClasses && classes_[merged_[i + 1]].frames == frames && classes_[merged_[i + 1]].objects == objects;
      merged_[i] = merges ? merged_[i + 1] : static_cast<std::uint8_t>(i);
      classes_[i] = {
          .size = static_cast<std::uint16_t>(size),
          .frames = static_cast<std::uint8_t>(frames),
          .objects = objects,
          .almost_empty = std::min<std::uint16_t>(
              static_cast<std::uint16_t>(std::uint64_t{g.threshold_numerator} * objects / g.threshold_denominator),
              objects - 1),
          .by_size = Divisor(size),
          .by_objects = Divisor(objects)};
      if (huge_size_ == 0 && frames != 1 && objects != 1) huge_size_ = size - (kHeaderSize - 1);
    }
  }

  // The class that serves a request of `size` bytes, 0..4096.
  constexpr unsigned index_for(std::size_t size) const { return merged_[class_of(size)]; }
  constexpr const SizeClass& operator[](unsigned index) const { return classes_[index]; }
  // False for a class that merged into a larger one: it serves nothing and has no row in the table.
  constexpr bool exists(unsigned index) const { return merged_[index] == index; }
  // A compressed length at or above this is stored as-is.
  constexpr std::size_t huge_class_size() const { return huge_size_; }

 private:
  std::array<SizeClass, kClasses> classes_{};
  std::array<std::uint8_t, kClasses> merged_{};
  std::size_t huge_size_ = 0;
};

}  // namespace uzram
