#pragma once
// Raising an eventfd, for threads that poll it. It must not fail, or somebody waits forever.
//
// Threads: any.

#include <unistd.h>

#include <cerrno>
#include <cstdint>

namespace uzram::nbd {

// Only an eventfd that is raised already, and never read, can refuse.
inline void raise_event(int fd) {
  const std::uint64_t one = 1;
  while (write(fd, &one, sizeof one) < 0 && errno != EAGAIN) continue;
}

}  // namespace uzram::nbd
