#pragma once
// The handshake: the fixed newstyle negotiation of one connection, up to the choice of an export.
// What a client may send is bounded: kMaxOptions options of at most kMaxOptionBytes, all before one deadline.
//
// Threads: one thread for each connection.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "blockdev/device_table.h"
#include "blockdev/nbd/access.h"
#include "blockdev/nbd/connection.h"
#include "blockdev/nbd/meta_context.h"

namespace uzram::nbd {

inline constexpr std::uint32_t kMaxOptionBytes = 64 << 10;
inline constexpr unsigned kMaxOptions = 128;

struct HandshakeOptions {
  const AccessRules* access = nullptr;  // none: every export for everyone
  const TlsCredentials* tls = nullptr;  // none: TLS is not offered
  bool tls_required = false;            // of clients on other sockets than unix ones
  bool multi_conn = true;               // whether a second client could connect
  std::chrono::milliseconds timeout{10'000};
};

// What a client and the server agreed on.
struct Agreement {
  OpenDevice device;
  bool read_only = false;
  bool structured = false;  // structured replies
  bool extended = false;    // extended headers, and structured replies
  Contexts contexts;        // that were chosen for this export
};

struct HandshakeResult {
  std::optional<Agreement> agreement;
  // What tells the client of the agreement. It is still to be sent, so that everything can be made ready before.
  std::vector<std::byte> answer;
  // Why there is no agreement, for the log; empty where the client simply left.
  std::string failure;
};

// Negotiates; without an agreement the connection is to be closed.
[[nodiscard]] HandshakeResult negotiate(Connection& connection, DeviceTable& devices, const HandshakeOptions& options);

}  // namespace uzram::nbd
