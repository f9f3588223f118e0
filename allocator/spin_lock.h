#pragma once
// A mutex for critical sections of some tens of nanoseconds: it spins first, and sleeps in the kernel when
// the holder was descheduled. Works with std::scoped_lock and std::unique_lock. Not recursive.

#include <atomic>

namespace uzram {

inline void cpu_relax() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

class SpinLock {
 public:
  bool try_lock() {
    int expected = kFree;
    return state_.compare_exchange_strong(expected, kHeld, std::memory_order_acquire);
  }

  void lock() {
    if (try_lock()) return;
    for (int i = 0; i < kSpins; ++i) {
      cpu_relax();
      int expected = kFree;
      if (state_.load(std::memory_order_relaxed) == kFree &&
          state_.compare_exchange_weak(expected, kHeld, std::memory_order_acquire)) {
        return;
      }
    }
    while (state_.exchange(kContended, std::memory_order_acquire) != kFree) {
      state_.wait(kContended, std::memory_order_relaxed);
    }
  }

  void unlock() {
    if (state_.exchange(kFree, std::memory_order_release) == kContended) state_.notify_one();
  }

 private:
  static constexpr int kFree = 0;
  static constexpr int kHeld = 1;
  static constexpr int kContended = 2;  // held, and somebody may sleep
  static constexpr int kSpins = 128;
  std::atomic<int> state_{kFree};
};

}  // namespace uzram
