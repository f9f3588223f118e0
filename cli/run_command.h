#pragma once
// The shell command of --run.
//
// Threads: one.

#include <sys/types.h>

#include <optional>
#include <string>

#include "blockdev/types.h"

namespace uzram {

// What a shell makes of a status of waitpid(2): the exit status, or 128 and the number of the signal.
[[nodiscard]] int shell_status(int wait_status);

class Command {
 public:
  // Starts `sh -c text` with the signals as a program expects them.
  [[nodiscard]] static Result<Command> start(const std::string& text);

  // shell_status, or nothing while it runs.
  [[nodiscard]] std::optional<int> status() const;
  void terminate() const;
  [[nodiscard]] pid_t pid() const { return pid_; }

 private:
  pid_t pid_ = -1;
};

}  // namespace uzram
