#pragma once
// Writes LZ4's block format from inputs of at most a page; liblz4 reads it. The search for matches is that of liblz4's
// LZ4_compress_fast, but a page allows what an input of any length does not: positions are found by five bytes instead
// of four, in a table of half the size, and nothing is decided anew for each call. That takes a tenth off the time
// (bench/steps.cc) and some bytes off what is made.
//
// Format: https://github.com/lz4/lz4/blob/dev/doc/lz4_Block_format.md
//
// Threads: one at a time.

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace uzram {

class Lz4Encoder {
 public:
  static constexpr std::size_t kMostInput = 4096;                           // bytes
  static constexpr std::size_t kRoom = kMostInput + kMostInput / 255 + 16;  // LZ4_compressBound
  static constexpr unsigned kMostAcceleration = 65537;                      // liblz4's
  static constexpr std::size_t kSlots = 4096;                               // of the table

  // Empties the table for the next block. `encode` does it where nobody has: this is for a caller who waits for
  // something else.
  void prepare() {
    if (!prepared_) table_.fill(0);
    prepared_ = true;
  }

  // The length of the block that `out` then begins with. `in` has 0 to kMostInput bytes. `acceleration`, from 1 to
  // kMostAcceleration, is LZ4_compress_fast's: the higher, the more positions are passed over where nothing is found.
  [[nodiscard]] std::size_t encode(std::span<const std::byte> in, std::span<std::byte, kRoom> out,
                                   unsigned acceleration);

 private:
  // The last position of each hash. An empty slot names position 0, which is compared as any other.
  alignas(64) std::array<std::uint16_t, kSlots> table_{};
  bool prepared_ = true;
};

}  // namespace uzram
