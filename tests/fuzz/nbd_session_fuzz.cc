// Feeds bytes to a session over a socketpair, as a client's. The first byte chooses what was negotiated. The device
// must be whole afterwards, whatever was asked. Built by clang with -fsanitize=fuzzer.

#include <sys/eventfd.h>
#include <sys/socket.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <thread>

#include "blockdev/nbd/session.h"

namespace {

using namespace uzram;
using namespace uzram::nbd;

struct World {
  PageArena arena{{.capacity = 64 << 20}};
  DeviceTable devices{arena};
  Fd stop{eventfd(0, 0)};

  World() {
    DeviceOptions options;
    options.size = 2 << 20;
    options.mem_limit = 1 << 20;
    if (!devices.create(options)) std::abort();
  }
};

void drain(int fd) {
  std::array<char, 1 << 16> bytes;
  while (recv(fd, bytes.data(), bytes.size(), 0) > 0) continue;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static World world;
  int ends[2];
  if (size == 0 || size > 60'000 || socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0) return 0;
  const Fd client(ends[1]);
  (void)!send(client.get(), data + 1, size - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
  (void)shutdown(client.get(), SHUT_WR);
  std::thread reader(drain, client.get());
  {
    Connection connection(Fd(ends[0]), world.stop.get());
    auto device = world.devices.open("");
    const Agreement agreement{.device = std::move(*device),
                              .read_only = (data[0] & 1) != 0,
                              .structured = (data[0] & 2) != 0,
                              .block_status = (data[0] & 4) != 0};
    Session(connection, agreement).run();
    agreement.device->check_invariants();
  }
  reader.join();
  return 0;
}
