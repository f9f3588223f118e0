#pragma once
// What a process needs that serves its own machine's swap, or watches over it: to free memory the kernel waits for this
// process, so this process must never wait for memory.
//
//     SwapSafe safe;
//     safe.before_threads();   // first of all
//     ...                      // listeners, control endpoint, logger: what exists now is locked now
//     safe.before_arena();
//     ...                      // the arena, its reserve populated and locked by itself
//     safe.after_arena();      // what is mapped from now on, threads of new clients above all, is locked as it comes
//     if (safe.warning()) ...
//
// In this order, because locking everything would fill a sparse arena whole. After any fork: locks do not survive one.
//
// Threads: before_threads is called before there is a second one; then one thread at a time.

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

namespace uzram {

class SwapSafe {
 public:
  // PR_SET_IO_FLUSHER and the lowest realtime priority (every thread created later inherits both), oom_score_adj -1000,
  // one malloc arena that gives nothing back, stacks of kStackBytes for every thread that asks for no other size.
  void before_threads();

  // Locks all that is mapped now, and has it in memory when it returns; but for the code of libraries that no request
  // of this machine's own swap comes to.
  void before_arena();

  // Locks what is present of the mappings that came since, and everything that is mapped later, which is populated as
  // it is mapped.
  void after_arena();

  // One line that names every protection that was refused, and what it takes; none if all are in place. Checks
  // vm.min_free_kbytes too, which is the machine's.
  [[nodiscard]] std::optional<std::string> warning() const;

  static constexpr std::size_t kStackBytes = std::size_t{256} << 10;

 private:
  std::vector<std::string> refused_;
};

// Whether the calling thread may write back memory without waiting for memory (PR_GET_IO_FLUSHER).
[[nodiscard]] bool is_io_flusher();

// Whether the kernel may swap out memory of this process's control group (memory.swap.max), so that shared memory which
// outlives the process is safe only as long as it is locked.
[[nodiscard]] bool group_may_be_swapped();

// Whether the calling thread is a realtime thread, which the kernel gives memory that others have to wait for.
[[nodiscard]] bool is_realtime();

}  // namespace uzram
