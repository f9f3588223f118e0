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
  Stream(const CodecSpec& codec, unsigned worker)
      : compressor(make_compressor(codec)), format_(format_of(codec.algorithm)), worker_(worker) {}

  std::unique_ptr<Compressor> compressor;
  // For what the algorithm made, which may be another one than the compressor's.
  [[nodiscard]] Decompressor& decompressor(Algorithm algorithm) {
    return format_of(algorithm) == format_ ? *compressor : *other_;
  }

  // A page of which only a part is wanted, or which is read from the backing file; aligned as O_DIRECT wants it.
  alignas(kPageSize) std::array<std::byte, kPageSize> page{};
  alignas(64) std::array<std::byte, kPageSize> gathered{};  // the payload on its way out, where it straddles

  PageIndex next{0};  // the page behind the one that was read last

  // Which of the device's counters and of its pool's lanes are this worker's.
  [[nodiscard]] unsigned worker() const { return worker_; }

 private:
  const Format format_;
  const std::unique_ptr<Decompressor> other_ =
      make_decompressor(format_ == Format::lz4_block ? Format::zstd_frame : Format::lz4_block);
  const unsigned worker_;
};

}  // namespace uzram
