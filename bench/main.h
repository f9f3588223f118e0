#pragma once
// What every benchmark's main does: an exception ends it with one line, which names the program, and status 1.

#include <cstdio>
#include <exception>

namespace uzram::bench {

inline int run_main(const char* program, int (*run)(int argc, char** argv), int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s: %s\n", program, error.what());
    return 1;
  }
}

}  // namespace uzram::bench
