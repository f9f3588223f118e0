#pragma once
// Connections to an NBD server that have finished the handshake in the form the kernel's client speaks: simple
// replies, no TLS. libnbd does the handshake and then lends its socket.
//
// Threads: everything may be called from any thread.

#include <cstdint>
#include <string>
#include <vector>

#include "blockdev/nbd/connection.h"
#include "blockdev/types.h"

namespace uzram {

struct NbdSockets {
  std::vector<nbd::Fd> sockets;
  std::uint64_t size = 0;   // bytes
  std::uint64_t flags = 0;  // NBD's transmission flags

  [[nodiscard]] std::vector<int> fds() const;
};

// `count` connections to the export that the URI names, all of the same size and flags. ENOTSUP for an export that
// the kernel cannot use: TLS, a size that is no multiple of 4096, several connections where they do not see each
// other's writes. Waits at most ten seconds for the server.
[[nodiscard]] Result<NbdSockets> connect_nbd(const std::string& uri, unsigned count);

}  // namespace uzram
