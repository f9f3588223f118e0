#pragma once
// Memory between pages that nobody may touch.

#include <sys/mman.h>

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <span>

namespace uzram {

// Buffers of exactly n bytes before an unreadable page: an overrun kills the test, in libraries without
// instrumentation too. One of a page's size is guarded on both sides.
class Guarded {
 public:
  Guarded() : map_(mmap(nullptr, 4 * kBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) {
    if (map_ == MAP_FAILED || mprotect(at(kBytes), 2 * kBytes, PROT_READ | PROT_WRITE) != 0) std::abort();
  }
  ~Guarded() { munmap(map_, 4 * kBytes); }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;

  // The last n bytes before the unreadable page.
  [[nodiscard]] std::span<std::byte> room(std::size_t n) { return {at(3 * kBytes - n), n}; }

  // The same, with the contents of `bytes`.
  [[nodiscard]] std::span<std::byte> copy(std::span<const std::byte> bytes) {
    const auto to = room(bytes.size());
    std::copy(bytes.begin(), bytes.end(), to.begin());
    return to;
  }

 private:
  static constexpr std::size_t kBytes = 4096;

  [[nodiscard]] std::byte* at(std::size_t offset) const { return static_cast<std::byte*>(map_) + offset; }
  void* map_;
};

}  // namespace uzram
