#pragma once
// Memory between pages that nobody may touch.

#include <sys/mman.h>

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <span>

namespace uzram {

// Buffers of exactly n bytes, up to two pages, before an unreadable page: an overrun kills the test, in libraries
// without instrumentation too. One of a page's size, or of two, is guarded on both sides.
class Guarded {
 public:
  Guarded() : map_(mmap(nullptr, kAll, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) {
    if (map_ == MAP_FAILED || !open(kOneEnd - kBytes, kBytes) || !open(kTwoEnd - 2 * kBytes, 2 * kBytes)) std::abort();
  }
  ~Guarded() { munmap(map_, kAll); }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;

  // The last n bytes before an unreadable page.
  [[nodiscard]] std::span<std::byte> room(std::size_t n) { return {at((n <= kBytes ? kOneEnd : kTwoEnd) - n), n}; }

  // The same, with the contents of `bytes`.
  [[nodiscard]] std::span<std::byte> copy(std::span<const std::byte> bytes) {
    const auto to = room(bytes.size());
    std::copy(bytes.begin(), bytes.end(), to.begin());
    return to;
  }

 private:
  static constexpr std::size_t kBytes = 4096;  // a page's
  // One page and two of them, an unreadable one before, between and behind.
  static constexpr std::size_t kOneEnd = 2 * kBytes;
  static constexpr std::size_t kTwoEnd = 5 * kBytes;
  static constexpr std::size_t kAll = 6 * kBytes;

  [[nodiscard]] bool open(std::size_t offset, std::size_t bytes) {
    return mprotect(at(offset), bytes, PROT_READ | PROT_WRITE) == 0;
  }
  [[nodiscard]] std::byte* at(std::size_t offset) const { return static_cast<std::byte*>(map_) + offset; }
  void* map_;
};

}  // namespace uzram
