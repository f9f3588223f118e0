#pragma once
// What a daemon has from the one before it: the state and the sockets, from a descriptor store or from a predecessor
// that is still alive.
//
// Threads: one, before anybody is served.

#include <optional>

#include "blockdev/nbd/listener.h"
#include "blockdev/nbd/server.h"
#include "cli/config.h"
#include "cli/control.h"
#include "cli/fd_store.h"
#include "cli/inherited_sockets.h"
#include "cli/places.h"
#include "cli/state_file.h"
#include "cli/takeover.h"

namespace uzram {

// The state that is to outlive the process, if one is: --state's, the one that was handed over, or a new one to be put
// into the store.
[[nodiscard]] Result<std::optional<StateFile>> open_state(const Config& config, FdStore& store);

// Whether the file that a predecessor has handed over is the one that --state names, if it names one.
[[nodiscard]] Result<void> check_state(const Config& config, int handed_over);

// Sockets that listen already; those that are missing are to be made.
struct Sockets {
  nbd::Listeners nbd;
  std::optional<nbd::UnixListener> control;
  bool units_nbd = false;  // systemd's, which are not for the descriptor store
  bool units_control = false;
};
// Those that systemd listens on come before all others; `places` are then theirs. One in the store that is not what
// this daemon is to listen on ends here, so that nobody waits at it. The error is that of inherit_from_units.
[[nodiscard]] Result<Sockets> inherit_sockets(const Config& config, Places& places, FdStore& store);
// EINVAL where the predecessor listens elsewhere: its clients would not find this daemon.
[[nodiscard]] Result<Sockets> inherit_sockets(const nbd::ServerOptions& options, const std::string& control,
                                              Inheritance& from);

// Whatever happens to this process from here on, the next one has what was stored, and nobody who connects meanwhile is
// turned away. No effect without a store.
[[nodiscard]] Result<void> keep_all(FdStore& store, int state, const nbd::Server& server,
                                    const ControlEndpoint& control, const nbd::ServerOptions& options,
                                    const Sockets& inherited);

}  // namespace uzram
