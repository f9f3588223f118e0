#pragma once
// The parent of a daemon that is to outlive its own death: it holds what is stored and the sockets, and starts the
// daemon again when it dies. To the daemon it is what systemd is: it takes descriptors by FDSTORE=1 and gives them back
// by LISTEN_FDS (cli/fd_store.h); readiness goes through to whoever waits for it.
//
// It has one thread, opens no file, and never execs: a new daemon is a fork of it, whose program is in memory already
// when there is no memory for anything else. With swap it locks itself, and the state, which would otherwise be
// unlocked while no daemon runs, and could be swapped out into itself.
//
// Threads: called once, before there is a second thread.

#include <functional>

namespace uzram {

// Runs `daemon` in a child of its own, again and again until it ends with status 0, is told to stop by a signal, or
// does not come up. Returns the exit status, in the parent.
[[nodiscard]] int supervise(bool swap_safe, const std::function<int()>& daemon);

}  // namespace uzram
