// Feeds bytes to the handshake over a socketpair, as a client's. Built by clang with -fsanitize=fuzzer.

#include "blockdev/nbd/handshake.h"
#include "tests/fuzz/world.h"

using namespace uzram;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  // Two devices, of which one cannot promise that a write has room.
  static fuzz::World world{{.size = 1 << 20}, {.name = "limited", .size = 1 << 20, .mem_limit = 1 << 20}};
  if (size > fuzz::Call::kMostBytes) return 0;
  fuzz::Call call(data, size);
  nbd::Connection connection(call.take_server(), world.stop.get());
  (void)negotiate(connection, world.devices, {.timeout = std::chrono::seconds(1)});
  return 0;
}
