#pragma once
// A slot: the 8 bytes that say what a page holds and where. Its format outlives the process.
//
//   63     lock, of the slot's contents; cleared by recovery
//   62     idle              } zram's marks, for post-processing:
//   61     chosen            } a read or a write of the page clears both
//   60     incompressible    recompression could not make it smaller
//   59-57  kind
//   56-53  codec             0: as it is; 15: one word, repeated; else an entry of the device's codec table
//   52-41  length - 1        of the object's payload, bytes
//   40     parity            of the other 62 bits below the lock: one flipped bit anywhere is seen
//   39-38  age               not set by anything yet
//   37-0   location          of the object, in units of 16 bytes
// An empty slot is all zeroes. A same-filled page: bit 56 set: bits 31-0 are a word of 32 bits, repeated; clear: bits
// 51-0 are a word of 64 bits with its sign, whose bit 40 is kept in bit 55. A written-back page: bits 29-0 are its
// block in the backing file, and bits 56-41 and 37-30 a check of 24 bits.

#include <bit>
#include <cstdint>
#include <optional>

#include "blockdev/types.h"

namespace uzram {

enum class SlotKind : std::uint8_t {
  empty = 0,
  same = 1,
  object = 2,
  written_back = 4,
  damaged = 7,  // recovery found something here that cannot be right: reads fail until the page is written anew
};

inline constexpr unsigned kCodecAsIs = 0;
inline constexpr unsigned kCodecFirst = 1;  // the codec table's entry of priority 0; the others follow
inline constexpr unsigned kCodecPattern = 15;

// What a slot holds. Dropping one that an exchange returned would leak its object.
class [[nodiscard]] SlotValue {
 public:
  static constexpr std::uint64_t kLock = std::uint64_t{1} << 63;
  static constexpr unsigned kBlockBits = 30;

  constexpr SlotValue() = default;
  constexpr explicit SlotValue(std::uint64_t word) : word_(word & ~kLock) {}

  static constexpr SlotValue object(Location location, std::size_t length, unsigned codec) {
    return sealed(kind_bits(SlotKind::object) | std::uint64_t{codec} << kCodecShift | (length - 1) << kLengthShift |
                  raw(location));
  }
  static constexpr SlotValue damaged() { return sealed(kind_bits(SlotKind::damaged)); }

  // `check` has 24 bits, `block` kBlockBits.
  static constexpr SlotValue written_back(std::uint32_t block, std::uint32_t check) {
    return sealed(kind_bits(SlotKind::written_back) | std::uint64_t{check >> 8} << kLengthShift |
                  std::uint64_t{check & 0xff} << kBlockBits | block);
  }

  // The slot of a page that repeats `word`, if the word fits.
  static constexpr std::optional<SlotValue> same(std::uint64_t word) {
    if ((word >> 32) == (word & 0xffffffff)) {
      return sealed(kind_bits(SlotKind::same) | kSame32 | (word & 0xffffffff));
    }
    constexpr unsigned kUnused = 64 - kSameBits;
    if (static_cast<std::uint64_t>(static_cast<std::int64_t>(word << kUnused) >> kUnused) != word) return std::nullopt;
    // The parity bit lies among the value's: it takes the place of bit 40, which moves to bit 55.
    const std::uint64_t bits = word & ((std::uint64_t{1} << kSameBits) - 1);
    const std::uint64_t moved = (bits >> kParityShift & 1) << kMovedShift;
    return sealed(kind_bits(SlotKind::same) | (bits & ~kParity) | moved);
  }

  [[nodiscard]] constexpr std::uint64_t word() const { return word_; }
  [[nodiscard]] constexpr SlotKind kind() const { return static_cast<SlotKind>(word_ >> kKindShift & 7); }
  // False where a bit of the slot has flipped.
  [[nodiscard]] constexpr bool intact() const { return std::popcount(word_) % 2 == 0; }
  [[nodiscard]] constexpr bool is_empty() const { return word_ == 0; }

  // A page kept as it is; one that repeats a word, in the slot or in an object of 8 bytes.
  [[nodiscard]] constexpr bool is_huge() const { return kind() == SlotKind::object && codec() == kCodecAsIs; }
  [[nodiscard]] constexpr bool is_same_filled() const {
    return kind() == SlotKind::same || (kind() == SlotKind::object && codec() == kCodecPattern);
  }

  // Whether it may be followed to an object, as far as the slot alone can say.
  [[nodiscard]] constexpr bool is_whole_object() const { return kind() == SlotKind::object && intact(); }

  // Of an object:
  [[nodiscard]] constexpr Location location() const {
    return Location{word_ & ((std::uint64_t{1} << kLocationBits) - 1)};
  }
  [[nodiscard]] constexpr std::size_t length() const { return (word_ >> kLengthShift & 0xfff) + 1; }
  [[nodiscard]] constexpr unsigned codec() const { return static_cast<unsigned>(word_ >> kCodecShift & 0xf); }
  [[nodiscard]] constexpr SlotValue moved_to(Location location) const {
    return changed((word_ & ~((std::uint64_t{1} << kLocationBits) - 1)) | raw(location));
  }

  // Marks of an object. Chosen: its page is being copied to the backing file, or recompressed.
  [[nodiscard]] constexpr bool is_idle() const { return (word_ & kIdle) != 0; }
  [[nodiscard]] constexpr bool is_chosen() const { return kind() == SlotKind::object && (word_ & kChosen) != 0; }
  [[nodiscard]] constexpr bool is_incompressible() const { return (word_ & kIncompressible) != 0; }
  [[nodiscard]] constexpr bool is_marked() const { return (word_ & (kIdle | kChosen)) != 0; }
  [[nodiscard]] constexpr SlotValue idle() const { return changed(word_ | kIdle); }
  [[nodiscard]] constexpr SlotValue chosen() const { return changed(word_ | kChosen); }
  [[nodiscard]] constexpr SlotValue incompressible() const { return changed(word_ | kIncompressible); }
  [[nodiscard]] constexpr SlotValue not_chosen() const { return changed(word_ & ~kChosen); }
  [[nodiscard]] constexpr SlotValue unmarked() const { return changed(word_ & ~(kIdle | kChosen)); }

  // Of a written-back page:
  [[nodiscard]] constexpr bool is_written_back() const { return kind() == SlotKind::written_back && intact(); }
  [[nodiscard]] constexpr std::uint32_t block() const {
    return static_cast<std::uint32_t>(word_ & ((std::uint64_t{1} << kBlockBits) - 1));
  }
  [[nodiscard]] constexpr std::uint32_t block_check() const {
    return static_cast<std::uint32_t>((word_ >> kLengthShift & 0xffff) << 8 | (word_ >> kBlockBits & 0xff));
  }

  friend constexpr bool operator==(SlotValue, SlotValue) = default;

  // Of a same-filled page:
  [[nodiscard]] constexpr std::uint64_t same_word() const {
    if ((word_ & kSame32) != 0) return (word_ & 0xffffffff) | word_ << 32;
    constexpr unsigned kUnused = 64 - kSameBits;
    const std::uint64_t bits = (word_ & ~kParity) | (word_ >> kMovedShift & 1) << kParityShift;
    return static_cast<std::uint64_t>(static_cast<std::int64_t>(bits << kUnused) >> kUnused);
  }

 private:
  static constexpr unsigned kKindShift = 57;
  static constexpr unsigned kCodecShift = 53;
  static constexpr unsigned kLengthShift = 41;
  static constexpr unsigned kSameBits = 52;
  static constexpr std::uint64_t kSame32 = std::uint64_t{1} << 56;
  static constexpr std::uint64_t kIdle = std::uint64_t{1} << 62;
  static constexpr std::uint64_t kChosen = std::uint64_t{1} << 61;
  static constexpr std::uint64_t kIncompressible = std::uint64_t{1} << 60;
  static constexpr unsigned kParityShift = 40;
  static constexpr std::uint64_t kParity = std::uint64_t{1} << kParityShift;
  static constexpr unsigned kMovedShift = 55;

  static constexpr SlotValue sealed(std::uint64_t word) {
    return SlotValue(word | std::uint64_t{std::popcount(word) % 2 != 0} << kParityShift);
  }
  // This slot with other bits: what has flipped in it still shows.
  [[nodiscard]] constexpr SlotValue changed(std::uint64_t word) const {
    return SlotValue(word ^ std::uint64_t{std::popcount(word_ ^ word) % 2 != 0} << kParityShift);
  }
  static constexpr std::uint64_t kind_bits(SlotKind kind) { return std::uint64_t{raw(kind)} << kKindShift; }

  std::uint64_t word_ = 0;
};

}  // namespace uzram
