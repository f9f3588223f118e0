#pragma once
// Sockets that systemd listens on for the daemon, by a .socket unit: clients may connect before it runs, and while it
// is started again. They take the place of the daemon's own.
//
// Not here: sockets of an earlier daemon, which the descriptor store keeps (fd_store.h).
//
// Threads: one.

#include <optional>
#include <string>

#include "blockdev/nbd/listener.h"
#include "blockdev/types.h"
#include "cli/fd_store.h"

namespace uzram {

struct InheritedSocket {
  nbd::UnixListener listener;
  std::string path;
};

struct InheritedSockets {
  std::optional<InheritedSocket> nbd;
  std::optional<InheritedSocket> control;
};

// All that `store` was handed and nobody has taken: the descriptor named "control" (FileDescriptorName= of the unit) is
// the control endpoint's, and one with any other name is for NBD. EINVAL for a descriptor that is no listening unix
// socket (TCP is not systemd's to open: --host and TLS would not hold for it), for two of a kind, and for one whose
// path is another than the one asked for by --unix or --control, where one is.
[[nodiscard]] Result<InheritedSockets> inherit_from_units(FdStore& store, const std::string& asked_nbd,
                                                          const std::string& asked_control);

}  // namespace uzram
