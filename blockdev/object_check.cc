#include "blockdev/object_check.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "allocator/zs_pool.h"

namespace uzram {

std::uint32_t object_check(std::span<const std::byte> payload, unsigned codec) {
  // Length and codec are mixed in afterwards: a seed would make xxh3 derive a secret of its own for each
  // call.
  constexpr std::uint64_t kOdd = 0x9e3779b97f4a7c15;  // 2^64 over the golden ratio
  const std::uint64_t bytes = XXH3_64bits(payload.data(), payload.size());
  return static_cast<std::uint32_t>((bytes ^ (payload.size() << 4 | codec)) * kOdd >> (64 - ObjectHeader::kCheckBits));
}

}  // namespace uzram
