#pragma once
// Runs one of the system's own tools (mkswap, mkfs, mount, blkid) and keeps what it says.
//
// Threads: everything may be called from any thread.

#include <string>
#include <vector>

#include "blockdev/types.h"

namespace uzram {

struct ToolResult {
  int status = 0;      // its exit status, or 128 + the signal that ended it
  std::string output;  // standard output
  std::string error;   // standard error
};

// Looks the tool up in PATH and in the system's sbin folders; ENOENT where it is missing. It reads nothing, speaks
// the C locale and gets no signals blocked.
[[nodiscard]] Result<ToolResult> run_tool(const std::vector<std::string>& words);

// As above, where only success is of use: a failure becomes an error of one line, the tool's first.
[[nodiscard]] Result<void> must_run(const std::vector<std::string>& words);

}  // namespace uzram
