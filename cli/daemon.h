#pragma once
// The daemon: builds everything from a Config, serves until a signal or the end of --run's command, and takes it down.
//
// Threads: run_daemon is called once, by the main thread, before any other thread exists.

#include "cli/config.h"

namespace uzram {

// Returns the exit code: 0, that of --run's command, or 1 with the reason on standard error in one line.
[[nodiscard]] int run_daemon(const Config& config);

}  // namespace uzram
