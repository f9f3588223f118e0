#pragma once
// Growth of a swap-safe daemon's memory beyond its reserve, for which no request waits: a thread takes more in advance,
// locked, and only while the machine gives it without reclaiming any. Where it comes too late a write fails with
// ENOSPC, as it does where there is only the reserve.
//
// Threads: made and ended by one.

#include <thread>

#include "allocator/page_arena.h"
#include "blockdev/nbd/connection.h"

namespace uzram {

class Grower {
 public:
  // What is kept free beyond the reserve, in bytes: some tenths of a second of swapping out.
  static constexpr std::uint64_t kAhead = std::uint64_t{16} << 20;

  // Of an arena with Options::ahead, which outlives it. Throws std::system_error where there is no thread.
  explicit Grower(PageArena& arena);
  ~Grower();
  Grower(const Grower&) = delete;
  Grower& operator=(const Grower&) = delete;

 private:
  void run();
  [[nodiscard]] bool may_grow() const;

  PageArena& arena_;
  // Open from the start: the sandbox, and a machine without memory, open nothing.
  const nbd::Fd meminfo_;
  const nbd::Fd min_free_;
  std::thread thread_;
};

}  // namespace uzram
