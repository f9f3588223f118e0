#include "cli/run_command.h"

#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

namespace uzram {

int shell_status(int wait_status) {
  return WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : 128 + WTERMSIG(wait_status);
}

Result<Command> Command::start(const std::string& text) {
  posix_spawnattr_t attributes;
  ::posix_spawnattr_init(&attributes);
  sigset_t none;
  sigset_t standard;
  ::sigemptyset(&none);
  ::sigemptyset(&standard);
  ::sigaddset(&standard, SIGPIPE);
  ::posix_spawnattr_setsigmask(&attributes, &none);
  ::posix_spawnattr_setsigdefault(&attributes, &standard);
  // Nor is it in real time, as a daemon with --swap-safe is.
  const sched_param ordinary{};
  ::posix_spawnattr_setschedpolicy(&attributes, SCHED_OTHER);
  ::posix_spawnattr_setschedparam(&attributes, &ordinary);
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSCHEDULER);
  const char* const argv[] = {"sh", "-c", text.c_str(), nullptr};
  Command command;
  const int error =
      ::posix_spawn(&command.pid_, "/bin/sh", nullptr, &attributes, const_cast<char* const*>(argv), environ);
  ::posix_spawnattr_destroy(&attributes);
  if (error != 0) return fail_errno("/bin/sh", error);
  return command;
}

std::optional<int> Command::status() const {
  int status = 0;
  if (::waitpid(pid_, &status, WNOHANG) != pid_) return std::nullopt;
  return shell_status(status);
}

void Command::terminate() const { ::kill(pid_, SIGTERM); }

}  // namespace uzram
