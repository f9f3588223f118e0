#include "cli/log.h"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <cstdlib>

namespace uzram {

void init_log() {
  if (spdlog::get("uzramd") != nullptr) return;
  spdlog::set_default_logger(spdlog::stderr_logger_mt("uzramd"));
  const bool journal = std::getenv("JOURNAL_STREAM") != nullptr;
  spdlog::set_pattern(journal ? "%l: %v" : "%Y-%m-%d %H:%M:%S.%e uzramd[%P] %l: %v");
}

void log_info(const std::string& line) { spdlog::info(line); }
void log_warning(const std::string& line) { spdlog::warn(line); }
void log_error(const std::string& line) { spdlog::error(line); }

}  // namespace uzram
