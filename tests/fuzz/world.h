#pragma once
// What the fuzzers share: devices on a small arena, and a client whose bytes have all been sent.
//
// Threads: one.

#include <sys/eventfd.h>
#include <sys/socket.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <initializer_list>

#include "blockdev/device_table.h"
#include "blockdev/nbd/connection.h"

namespace uzram::fuzz {

// Ends the run as a finding.
inline void must(bool holds) {
  if (!holds) std::abort();
}

struct World {
  PageArena arena{{.capacity = 64 << 20}};
  DeviceTable devices{arena};
  nbd::Fd stop{eventfd(0, 0)};

  World(std::initializer_list<DeviceOptions> made) {
    for (const DeviceOptions& options : made) must(devices.create(options).has_value());
  }
};

// Both ends of a socket: the client has said `bytes` and will say no more, so that no receive waits.
class Call {
 public:
  static constexpr std::size_t kMostBytes = 60'000;  // what a socket's buffer takes at once

  Call(const std::uint8_t* bytes, std::size_t size) {
    int ends[2];
    must(size <= kMostBytes && socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    server_ = nbd::Fd(ends[0]);
    client_ = nbd::Fd(ends[1]);
    (void)!send(client_.get(), bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    (void)shutdown(client_.get(), SHUT_WR);
  }
  [[nodiscard]] nbd::Fd take_server() { return std::move(server_); }
  [[nodiscard]] int client() const { return client_.get(); }

 private:
  nbd::Fd server_;
  nbd::Fd client_;
};

}  // namespace uzram::fuzz
