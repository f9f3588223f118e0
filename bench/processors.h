#pragma once
// The processors that this process may use, for threads that are each to have one of their own: the system moves two
// new threads apart only after milliseconds.

#include <sched.h>

#include <stdexcept>
#include <vector>

namespace uzram::bench {

inline std::vector<int> processors() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) != 0) throw std::runtime_error("the processors are not known");
  std::vector<int> all;
  for (int i = 0; i < CPU_SETSIZE; ++i) {
    if (CPU_ISSET(i, &set)) all.push_back(i);
  }
  return all;
}

// Keeps the calling thread there.
inline void move_to(int processor) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(processor, &set);
  if (sched_setaffinity(0, sizeof set, &set) != 0) throw std::runtime_error("a processor cannot be used");
}

}  // namespace uzram::bench
