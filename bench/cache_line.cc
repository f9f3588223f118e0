// How long a cache line takes from one processor to another, in ns: of each two that this process may use, the median
// of some tries. Two that share a cache need tens, others hundreds; and a virtual machine's may be moved between the
// two at any time, so that figures of two runs differ by as much as half.

#include <atomic>
#include <cstdio>
#include <thread>
#include <vector>

#include "bench/main.h"
#include "bench/processors.h"
#include "bench/rounds.h"

namespace uzram::bench {
namespace {

constexpr int kTries = 5;
constexpr int kFirstTurns = 1000;  // until both threads are where they belong
constexpr int kTurns = 10'000;

// Two threads count in turns; a turn is a line's way.
double nanoseconds_between(int a, int b) {
  alignas(128) std::atomic<int> turn{0};
  double begin = 0;
  const auto take_turns = [&](int processor, int first) {
    move_to(processor);
    for (int n = first; n < kTurns; n += 2) {
      while (turn.load(std::memory_order_acquire) != n) continue;
      if (n == kFirstTurns) begin = seconds(CLOCK_MONOTONIC);
      turn.store(n + 1, std::memory_order_release);
    }
  };
  {
    const std::jthread other(take_turns, b, 1);
    const std::jthread one(take_turns, a, 0);
  }
  return (seconds(CLOCK_MONOTONIC) - begin) * 1e9 / (kTurns - kFirstTurns);
}

int run(int, char**) {
  const std::vector<int> all = processors();
  for (std::size_t i = 0; i < all.size(); ++i) {
    for (std::size_t k = i + 1; k < all.size(); ++k) {
      Spread spread;
      for (int n = 0; n < kTries; ++n) spread.add(nanoseconds_between(all[i], all[k]));
      std::printf("%d-%d %.0f\n", all[i], all[k], spread.median());
    }
  }
  return 0;
}

}  // namespace
}  // namespace uzram::bench

int main(int argc, char** argv) { return uzram::bench::run_main("cache_line", uzram::bench::run, argc, argv); }
