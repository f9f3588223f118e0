#pragma once
// Assertions that stay on in every build: for bugs, never for input. They say what was expected, then abort.

#include <cstdio>
#include <cstdlib>
#include <source_location>

namespace uzram {

[[noreturn]] inline void ensure_failed(const char* what, const std::source_location& where) {
  std::fprintf(stderr, "uzram: bug: %s, at %s:%u\n", what, where.file_name(),
               static_cast<unsigned>(where.line()));
  std::abort();
}

inline void ensure(bool holds, const char* what,
                   const std::source_location& where = std::source_location::current()) {
  if (!holds) [[unlikely]] {
    ensure_failed(what, where);
  }
}

}  // namespace uzram
