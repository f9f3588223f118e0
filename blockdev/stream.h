#pragma once
// One worker's buffers and codec context; part of the device, for its own files only.

#include <array>
#include <cstddef>
#include <memory>

#include "blockdev/types.h"
#include "compress/codec.h"

namespace uzram {

class Stream {
 public:
  Stream(const CodecSpec& codec, unsigned worker) : compressor(make_compressor(codec)), worker_(worker) {}

  std::unique_ptr<Compressor> compressor;
  // A page of which only a part is wanted, or which is read from the backing file; aligned as O_DIRECT wants it.
  alignas(kPageSize) std::array<std::byte, kPageSize> page{};
  alignas(64) std::array<std::byte, kPageSize> compressed{};  // the payload on its way in
  alignas(64) std::array<std::byte, kPageSize> gathered{};    // the payload on its way out, where it straddles

  // Which of the device's counters are this worker's.
  [[nodiscard]] unsigned worker() const { return worker_; }

 private:
  const unsigned worker_;
};

}  // namespace uzram
