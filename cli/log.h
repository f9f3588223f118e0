#pragma once
// The daemon's log: lines on standard error. The one header that knows of spdlog is log.cc's.
//
// Threads: everything may be called from any thread, never under a lock that reads and writes of a device take.

#include <string_view>

namespace uzram {

// Time stamps are left out where the journal adds its own. A child that is forked after it need not call it again.
void init_log();
// A line for which there is no memory is lost.
void log_info(std::string_view line) noexcept;
void log_warning(std::string_view line) noexcept;
void log_error(std::string_view line) noexcept;

}  // namespace uzram
