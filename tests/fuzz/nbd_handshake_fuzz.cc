// Feeds bytes to the handshake over a socketpair, as a client's. Built by clang with -fsanitize=fuzzer.

#include <sys/eventfd.h>
#include <sys/socket.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "blockdev/nbd/handshake.h"

namespace {

using namespace uzram;
using namespace uzram::nbd;

// Two devices, of which one cannot promise that a write has room.
struct World {
  PageArena arena{{.capacity = 64 << 20}};
  DeviceTable devices{arena};
  Fd stop{eventfd(0, 0)};

  World() {
    DeviceOptions options;
    options.size = 1 << 20;
    if (!devices.create(options)) std::abort();
    options.name = "limited";
    options.mem_limit = 1 << 20;
    if (!devices.create(options)) std::abort();
  }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static World world;
  int ends[2];
  if (size > 60'000 || socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0) return 0;
  const Fd client(ends[1]);
  Connection connection(Fd(ends[0]), world.stop.get());
  // All of it fits the socket's buffer; with the client's side shut, no receive waits.
  (void)!send(client.get(), data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
  (void)shutdown(client.get(), SHUT_WR);
  (void)negotiate(connection, world.devices, {.timeout = std::chrono::seconds(1)});
  return 0;
}
