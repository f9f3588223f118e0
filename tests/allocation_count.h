#pragma once
// Counts what the whole process asks of malloc and new, in libraries too. Include it in one .cc of a test
// binary.
//
// Threads: any.

#include <atomic>
#include <cstddef>
#include <cstdint>

#if defined(__has_feature)
#define UZRAM_HAS_FEATURE(x) __has_feature(x)
#else
#define UZRAM_HAS_FEATURE(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || UZRAM_HAS_FEATURE(address_sanitizer) || \
    UZRAM_HAS_FEATURE(thread_sanitizer)
#define UZRAM_SANITIZED 1
// As in sanitizer/allocator_interface.h, which g++ 12 comes without.
extern "C" int __sanitizer_install_malloc_and_free_hooks(void (*malloc_hook)(const volatile void*, std::size_t),
                                                         void (*free_hook)(const volatile void*));
#else
#define UZRAM_SANITIZED 0
#endif

namespace uzram::allocation_count_detail {
inline std::atomic<std::uint64_t> count{0};
}

#if UZRAM_SANITIZED
// The sanitizers own malloc and tell of each call.
namespace uzram::allocation_count_detail {
inline const int installed = __sanitizer_install_malloc_and_free_hooks(
    [](const volatile void*, std::size_t) { count.fetch_add(1, std::memory_order_relaxed); },
    [](const volatile void*) {});
}
#else
// glibc's own names for what these definitions take the place of.
extern "C" {
void* __libc_malloc(std::size_t size);
void* __libc_calloc(std::size_t count, std::size_t size);
void* __libc_realloc(void* old, std::size_t size);
void* __libc_memalign(std::size_t alignment, std::size_t size);

void* malloc(std::size_t size) noexcept {
  uzram::allocation_count_detail::count.fetch_add(1, std::memory_order_relaxed);
  return __libc_malloc(size);
}
void* calloc(std::size_t count, std::size_t size) noexcept {
  uzram::allocation_count_detail::count.fetch_add(1, std::memory_order_relaxed);
  return __libc_calloc(count, size);
}
void* realloc(void* old, std::size_t size) noexcept {
  uzram::allocation_count_detail::count.fetch_add(1, std::memory_order_relaxed);
  return __libc_realloc(old, size);
}
void* aligned_alloc(std::size_t alignment, std::size_t size) noexcept {
  uzram::allocation_count_detail::count.fetch_add(1, std::memory_order_relaxed);
  return __libc_memalign(alignment, size);
}
}
#endif

namespace uzram {
// The number of allocations so far.
inline std::uint64_t allocation_count() { return allocation_count_detail::count.load(std::memory_order_relaxed); }
}  // namespace uzram
