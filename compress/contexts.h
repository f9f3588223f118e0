#pragma once
// The contexts of the single algorithms and formats, for make_compressor and make_decompressor only; everyone else
// includes compress/codec.h.

#include <cstddef>
#include <memory>

#include "compress/codec.h"

namespace uzram {

inline constexpr std::size_t kMostInput = 4096;  // bytes that a context compresses at once

std::unique_ptr<Compressor> make_lz4(int acceleration);
std::unique_ptr<Compressor> make_lz4hc(int level);
std::unique_ptr<Compressor> make_zstd(int level);
std::unique_ptr<Decompressor> make_lz4_reader();
std::unique_ptr<Decompressor> make_zstd_reader();

}  // namespace uzram
