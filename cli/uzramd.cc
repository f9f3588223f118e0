// uzramd: serves compressed RAM over NBD. The call is read in config.cc, the work is daemon.cc's.

#include <unistd.h>

#include <cstdio>
#include <exception>
#include <new>

#include "cli/config.h"
#include "cli/daemon.h"

int main(int argc, char** argv) try {
  // CLI11 looks for files in a function that must not throw: for want of memory, the process ends there.
  const std::terminate_handler before = std::set_terminate([] {
    std::fputs("uzramd: out of memory\n", stderr);
    ::_exit(1);
  });
  const auto parsed = uzram::parse_config({argv + 1, argv + argc});
  std::set_terminate(before);
  if (const auto* exit = std::get_if<uzram::Exit>(&parsed)) {
    std::FILE* out = exit->code == 0 ? stdout : stderr;
    std::fprintf(out, "%s\n", exit->text.c_str());
    return exit->code;
  }
  return uzram::run_daemon(std::get<uzram::Config>(parsed));
} catch (const std::bad_alloc&) {
  std::fprintf(stderr, "uzramd: out of memory\n");
  return 1;
} catch (const std::exception& e) {
  std::fprintf(stderr, "uzramd: %s\n", e.what());
  return 1;
}
