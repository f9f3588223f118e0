#pragma once
// xxh3 of some bytes, once for each instruction set that makes a difference. Plain types only: whatever is inline here
// would be compiled for each of them, and the linker would keep any one.

#include <cstddef>
#include <cstdint>

namespace uzram {

[[nodiscard]] std::uint64_t object_hash(const void* bytes, std::size_t size);
#if defined(__x86_64__)
[[nodiscard]] std::uint64_t object_hash_avx2(const void* bytes, std::size_t size);
#endif

}  // namespace uzram
