#pragma once
// The contexts of the single algorithms, for make_compressor only; everyone else includes compress/codec.h.

#include <memory>

#include "compress/codec.h"

namespace uzram {

std::unique_ptr<Compressor> make_lz4(int acceleration);
std::unique_ptr<Compressor> make_lz4hc(int level);
std::unique_ptr<Compressor> make_zstd(int level);

}  // namespace uzram
