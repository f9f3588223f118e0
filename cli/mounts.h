#pragma once
// Where a block device is attached, mounted or used as swap: what the kernel says in /sys/block, /proc/swaps and
// /proc/self/mountinfo.
//
// Threads: everything may be called from any thread.

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "blockdev/types.h"

namespace uzram {

// A connected /dev/nbdN.
struct NbdUse {
  unsigned number = 0;
  std::string backend;              // what it was connected to; empty where it was not said
  std::vector<std::string> mounts;  // of this mount namespace, in the order of mounting
  std::optional<int> swap_priority;

  [[nodiscard]] std::string path() const { return "/dev/nbd" + std::to_string(number); }
  // As `list` shows it: "/dev/nbd0", then its mount points or [SWAP].
  [[nodiscard]] std::string describe() const;
};

// The N of /dev/nbdN, spelled as the kernel spells it; EINVAL for anything else.
[[nodiscard]] Result<unsigned> nbd_number(std::string_view path);

// Every connected device, in the order of their numbers.
[[nodiscard]] std::vector<NbdUse> nbd_uses();

// One of them; none if it is not connected.
[[nodiscard]] std::optional<NbdUse> nbd_use(unsigned number);

// Whether something is mounted at exactly this folder. The root always is, though in a chroot it may not be listed.
[[nodiscard]] bool is_mount_point(const std::string& folder);

// A file of the kernel's; as far as it can be read, since an attribute goes away under its readers with its device.
[[nodiscard]] std::string file_text(const std::filesystem::path& path);

// The parsers, apart from the kernel's files.
struct MountLine {
  std::string folder;
  std::string source;
};
[[nodiscard]] std::vector<MountLine> parse_mountinfo(std::string_view text);
[[nodiscard]] std::optional<int> parse_swap_priority(std::string_view proc_swaps, std::string_view path);

}  // namespace uzram
