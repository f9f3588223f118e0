#pragma once
// Makes a kernel block device of an export, and what it is for on top of it: swap or a mounted filesystem. All of it
// or nothing: a step that fails takes back the ones before it. Needs root.
//
// Not what keeps the device alive when the daemon restarts: that is watch.h.
//
// Threads: one at a time; signals of the calling thread are held back while a call lasts.

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "blockdev/types.h"

namespace uzram {

// What the daemon says about a device that is to be attached.
struct AttachTarget {
  std::string name;
  std::string uri;   // where the export is served
  std::string uuid;  // stays with the contents: an empty device has another one
  bool swap_safe = false;
};

struct AttachOptions {
  unsigned number = 0;       // N of /dev/nbdN
  unsigned connections = 1;  // 1 to kMaxConnections
  bool swap = false;
  std::optional<int> priority;  // of the swap, 0 to kMaxSwapPriority; none: the kernel chooses
  std::string mkfs;             // a filesystem is made where the device holds none; ext4, xfs, btrfs, ...
  std::string mount;            // the folder
};
inline constexpr unsigned kMaxConnections = 64;
// A processor each, 1 to 4.
[[nodiscard]] unsigned default_connections();
inline constexpr int kMaxSwapPriority = 32767;

// Takes a line that the user should read although nothing failed.
using Say = std::function<void(const std::string&)>;

// Errors are one line that names the step and why it failed.
[[nodiscard]] Result<void> attach(const AttachTarget& target, const AttachOptions& options, const Say& say);

// swapoff or umount, then disconnect; returns when the device is free. Stops at the first step that fails. `now`: for a
// daemon that will not come back. It is disconnected first, so that nothing waits for it; what the kernel has not
// written back is lost, as is what it has swapped out.
[[nodiscard]] Result<void> detach(unsigned number, bool now);

}  // namespace uzram
