#pragma once
// Where the daemon's sockets are: the runtime directory, or one of this run alone.

#include <sys/types.h>

#include <memory>
#include <optional>
#include <string>

#include "blockdev/types.h"
#include "cli/config.h"

namespace uzram {

// $RUNTIME_DIRECTORY (its first entry), else /run/uzram for root, else $XDG_RUNTIME_DIR/uzram; nothing is created.
// ENOENT where there is none of them.
[[nodiscard]] Result<std::string> runtime_directory();

// As above, made with mode 0700 where it is missing; with a group, it is the group's then, and its mode 0750.
[[nodiscard]] Result<std::string> make_runtime_directory(std::optional<gid_t> group);

// A fresh directory that only this user can enter.
[[nodiscard]] Result<std::string> make_private_directory();

// Where the two sockets of a daemon are, and the directory that is removed at the end if it was made for this run.
class Places {
 public:
  // Makes the directory that is needed.
  [[nodiscard]] static Result<std::unique_ptr<Places>> choose(const Config& config);
  ~Places();
  Places(const Places&) = delete;
  Places& operator=(const Places&) = delete;

  std::string nbd;
  std::string control;
  std::string directory;  // that both are in by default; empty where neither is

 private:
  Places() = default;
  std::string temporary_;
};

}  // namespace uzram
