#pragma once
// Two ways to do one job, timed in turns A B B A, so that what the machine does meanwhile meets both alike.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <ctime>
#include <vector>

namespace uzram::bench {

// Seconds of a clock: CLOCK_THREAD_CPUTIME_ID for one thread's work, CLOCK_MONOTONIC for what several do together.
inline double seconds(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

// The seconds that `job` takes.
template <class Job>
double time_of(clockid_t clock, const Job& job) {
  const double start = seconds(clock);
  job();
  return seconds(clock) - start;
}

// Sorted values of the rounds.
class Spread {
 public:
  void add(double value) { values_.insert(std::ranges::upper_bound(values_, value), value); }
  [[nodiscard]] double at(double quantile) const {
    return values_[static_cast<std::size_t>(std::lround(quantile * static_cast<double>(values_.size() - 1)))];
  }
  [[nodiscard]] double median() const { return at(0.5); }

 private:
  std::vector<double> values_;
};

struct Comparison {
  Spread seconds_a;  // of a round
  Spread seconds_b;
  Spread a_over_b;  // above 1 where B is faster

  // `time_a(slice)` and `time_b(slice)` do one slice of the job and return the seconds it took. The round's A over B.
  template <class A, class B>
  double add_round(int round, std::size_t slices, const A& time_a, const B& time_b) {
    double a = 0;
    double b = 0;
    for (std::size_t slice = 0; slice < slices; ++slice) {
      const bool a_first = (static_cast<std::size_t>(round) + slice) % 2 == 0;
      if (a_first) a += time_a(slice);
      b += time_b(slice);
      if (!a_first) a += time_a(slice);
    }
    seconds_a.add(a);
    seconds_b.add(b);
    a_over_b.add(a / b);
    return a / b;
  }
};

template <class A, class B>
Comparison compare(int rounds, std::size_t slices, const A& time_a, const B& time_b) {
  Comparison result;
  for (int round = 0; round < rounds; ++round) result.add_round(round, slices, time_a, time_b);
  return result;
}

}  // namespace uzram::bench
