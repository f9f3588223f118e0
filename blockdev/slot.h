#pragma once
// A slot: the 8 bytes that say what a page holds and where. Its format outlives the process.
//
//   63     lock, of the slot's contents; cleared by recovery
//   62     idle              } zram's flags, for post-processing:
//   61     chosen            } not set by anything yet
//   60     incompressible    the page was kept as it is
//   59-57  kind
//   56-53  codec             0: as it is; 15: one word, repeated; else an entry of the device's codec table
//   52-41  length - 1        of the object's payload, bytes
//   40-38  age               not set by anything yet
//   37-0   location          of the object, in units of 16 bytes
// A same-filled page: bit 56 set: bits 31-0 are a word of 32 bits, repeated; clear: bits 51-0 are a word of
// 64 bits with its sign.

#include <cstdint>
#include <optional>

#include "blockdev/types.h"

namespace uzram {

enum class SlotKind : std::uint8_t { empty = 0, same = 1, object = 2 };

inline constexpr unsigned kCodecAsIs = 0;
inline constexpr unsigned kCodecFirst = 1;  // the first entry of the codec table
inline constexpr unsigned kCodecPattern = 15;

// What a slot holds. Dropping one that an exchange returned would leak its object.
class [[nodiscard]] SlotValue {
 public:
  static constexpr std::uint64_t kLock = std::uint64_t{1} << 63;

  constexpr SlotValue() = default;
  constexpr explicit SlotValue(std::uint64_t word) : word_(word & ~kLock) {}

  static constexpr SlotValue object(Location location, std::size_t length, unsigned codec) {
    return SlotValue(kind_bits(SlotKind::object) | std::uint64_t{codec} << kCodecShift |
                     (length - 1) << kLengthShift | raw(location) |
                     (codec == kCodecAsIs ? kIncompressible : 0));
  }

  // The slot of a page that repeats `word`, if the word fits.
  static constexpr std::optional<SlotValue> same(std::uint64_t word) {
    if ((word >> 32) == (word & 0xffffffff)) {
      return SlotValue(kind_bits(SlotKind::same) | kSame32 | (word & 0xffffffff));
    }
    constexpr unsigned kUnused = 64 - kSameBits;
    if (static_cast<std::uint64_t>(static_cast<std::int64_t>(word << kUnused) >> kUnused) != word)
      return std::nullopt;
    return SlotValue(kind_bits(SlotKind::same) | (word & ((std::uint64_t{1} << kSameBits) - 1)));
  }

  [[nodiscard]] constexpr std::uint64_t word() const { return word_; }
  [[nodiscard]] constexpr SlotKind kind() const { return static_cast<SlotKind>(word_ >> kKindShift & 7); }
  [[nodiscard]] constexpr bool is_empty() const { return kind() == SlotKind::empty; }

  // Of an object:
  [[nodiscard]] constexpr Location location() const {
    return Location{word_ & ((std::uint64_t{1} << kLocationBits) - 1)};
  }
  [[nodiscard]] constexpr std::size_t length() const { return (word_ >> kLengthShift & 0xfff) + 1; }
  [[nodiscard]] constexpr unsigned codec() const { return static_cast<unsigned>(word_ >> kCodecShift & 0xf); }
  [[nodiscard]] constexpr SlotValue moved_to(Location location) const {
    return SlotValue((word_ & ~((std::uint64_t{1} << kLocationBits) - 1)) | raw(location));
  }

  // Of a same-filled page:
  [[nodiscard]] constexpr std::uint64_t same_word() const {
    if ((word_ & kSame32) != 0) return (word_ & 0xffffffff) | word_ << 32;
    constexpr unsigned kUnused = 64 - kSameBits;
    return static_cast<std::uint64_t>(static_cast<std::int64_t>(word_ << kUnused) >> kUnused);
  }

 private:
  static constexpr unsigned kKindShift = 57;
  static constexpr unsigned kCodecShift = 53;
  static constexpr unsigned kLengthShift = 41;
  static constexpr unsigned kSameBits = 52;
  static constexpr std::uint64_t kSame32 = std::uint64_t{1} << 56;
  static constexpr std::uint64_t kIncompressible = std::uint64_t{1} << 60;
  static constexpr std::uint64_t kind_bits(SlotKind kind) { return std::uint64_t{raw(kind)} << kKindShift; }

  std::uint64_t word_ = 0;
};

}  // namespace uzram
