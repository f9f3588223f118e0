#include "blockdev/object_hash.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace uzram {

std::uint64_t object_hash(const void* bytes, std::size_t size) { return XXH3_64bits(bytes, size); }

}  // namespace uzram
