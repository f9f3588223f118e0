#pragma once
// Descriptors that outlive the process: whoever started it keeps them, and gives them to the process that comes next.
// That is systemd, where the unit has FileDescriptorStoreMax=, or our own parent (cli/supervise.h); both speak
// sd_notify(3)'s FDSTORE=1 and sd_listen_fds(3)'s LISTEN_FDS, and say by $FDSTORE that they keep some.
//
// Not here: what the descriptors are. Sockets that systemd has opened for a .socket unit come the same way.
//
// Threads: one.

#include <functional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "blockdev/nbd/connection.h"
#include "blockdev/types.h"

namespace uzram {

// The names under which the daemon has its descriptors kept.
inline constexpr std::string_view kStateName = "uzram-state";
inline constexpr std::string_view kUnixName = "uzram-nbd";
inline constexpr std::string_view kControlName = "uzram-control";
inline constexpr std::string_view kTcpPrefix = "uzram-tcp-";

class FdStore {
 public:
  using Named = std::pair<std::string, nbd::Fd>;

  // What the environment says. Its variables are taken out of it: they are not for programs that this one starts.
  [[nodiscard]] static FdStore from_environment();

  // Whether `keep` has somewhere to put a descriptor.
  [[nodiscard]] bool keeps() const { return keeps_; }

  [[nodiscard]] bool holds(std::string_view name) const { return kept_.contains(name); }

  // The descriptors that were handed over under this name; they are the caller's now.
  [[nodiscard]] std::vector<nbd::Fd> take(std::string_view name);
  // All that nobody has taken.
  [[nodiscard]] std::vector<Named> take_rest() { return std::exchange(handed_over_, {}); }

  // Has these descriptors kept under that name, where there are none of it yet; when this returns they are, however the
  // process ends. ENOTCONN where nobody answers. No effect where nothing is kept.
  [[nodiscard]] Result<void> keep(std::string_view name, std::span<const int> fds);
  // Has those of this name dropped.
  void drop(std::string_view name);
  // Drops those of our own names that nobody has taken: what an earlier daemon was told to serve, and this one is not.
  void drop_rest();

 private:
  std::vector<Named> handed_over_;
  std::set<std::string, std::less<>> kept_;
  bool keeps_ = false;
};

}  // namespace uzram
