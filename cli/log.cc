#include "cli/log.h"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <cstdlib>

namespace uzram {
namespace {

void write_line(spdlog::level::level_enum level, std::string_view line) noexcept {
  try {
    spdlog::log(level, line);
  } catch (...) {  // NOLINT(bugprone-empty-catch): there is nowhere else to say it
  }
}

}  // namespace

void init_log() {
  if (spdlog::get("uzramd") != nullptr) return;
  spdlog::set_default_logger(spdlog::stderr_logger_mt("uzramd"));
  const bool journal = std::getenv("JOURNAL_STREAM") != nullptr;
  spdlog::set_pattern(journal ? "%l: %v" : "%Y-%m-%d %H:%M:%S.%e uzramd[%P] %l: %v");
}

void log_info(std::string_view line) noexcept { write_line(spdlog::level::info, line); }
void log_warning(std::string_view line) noexcept { write_line(spdlog::level::warn, line); }
void log_error(std::string_view line) noexcept { write_line(spdlog::level::err, line); }

}  // namespace uzram
