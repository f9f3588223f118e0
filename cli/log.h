#pragma once
// The daemon's log: lines on standard error. The one header that knows of spdlog is log.cc's.
//
// Threads: everything may be called from any thread, never under a lock that reads and writes of a device take.

#include <string>

namespace uzram {

// Time stamps are left out where the journal adds its own. A child that is forked after it need not call it again.
void init_log();
void log_info(const std::string& line);
void log_warning(const std::string& line);
void log_error(const std::string& line);

}  // namespace uzram
