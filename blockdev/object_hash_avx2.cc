// Compiled for AVX2; called only where the processor has it.

#include "blockdev/object_hash.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace uzram {

std::uint64_t object_hash_avx2(const void* bytes, std::size_t size) { return XXH3_64bits(bytes, size); }

}  // namespace uzram
