#pragma once
// Assertions that stay on in every build: for bugs, never for input. They say what was expected, then abort.

#include <cstdio>
#include <cstdlib>

namespace uzram {

[[noreturn]] inline void ensure_failed(const char* what, const char* file, int line) {
  std::fprintf(stderr, "uzram: bug: %s, at %s:%d\n", what, file, line);
  std::abort();
}

// The builtins: clang 14 has no std::source_location.
inline void ensure(bool holds, const char* what, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  if (!holds) [[unlikely]] {
    ensure_failed(what, file, line);
  }
}

}  // namespace uzram
