#pragma once
// The libraries themselves, called the way their manuals say, with nothing of ours: what the device is measured
// against.
//
// Threads: one each.

#include <cstddef>
#include <memory>
#include <span>

#include "blockdev/types.h"
#include "compress/codec.h"

namespace uzram::bench {

class Plain {
 public:
  // Enough for a compressed page, for every algorithm.
  static constexpr std::size_t kRoom = 2 * kPageSize;
  using Page = std::span<std::byte, kPageSize>;
  using ConstPage = std::span<const std::byte, kPageSize>;

  static std::unique_ptr<Plain> make(const CodecSpec& spec);
  virtual ~Plain() = default;
  // The compressed length.
  virtual std::size_t compress(ConstPage in, std::span<std::byte, kRoom> out) = 0;
  virtual void decompress(std::span<const std::byte> in, Page out) = 0;
};

}  // namespace uzram::bench
