// Feeds bytes to a session over a socketpair, as a client's. The first byte chooses what was negotiated. The device
// must be whole afterwards, whatever was asked. Built by clang with -fsanitize=fuzzer.

#include "blockdev/nbd/session.h"

#include <array>
#include <thread>

#include "tests/fuzz/world.h"

using namespace uzram;

namespace {

void drain(int fd) {
  std::array<char, 1 << 16> bytes;
  while (recv(fd, bytes.data(), bytes.size(), 0) > 0) continue;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static fuzz::World world{{.size = 2 << 20, .mem_limit = 1 << 20}};
  if (size == 0 || size > fuzz::Call::kMostBytes) return 0;
  fuzz::Call call(data + 1, size - 1);
  std::thread reader(drain, call.client());
  {
    nbd::Connection connection(call.take_server(), world.stop.get());
    auto device = world.devices.open("");
    const nbd::Agreement agreement{.device = std::move(*device),
                                   .read_only = (data[0] & 1) != 0,
                                   .structured = (data[0] & (2 | 8)) != 0,
                                   .extended = (data[0] & 8) != 0,
                                   .contexts = {.allocation = (data[0] & 4) != 0, .pages = (data[0] & 16) != 0}};
    nbd::Crew alone;
    nbd::Session(connection, agreement, alone).run();
    agreement.device->check_invariants();
  }
  reader.join();
  return 0;
}
