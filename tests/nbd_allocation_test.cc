// A session asks the system's allocator for nothing once it has begun: a daemon that serves swap must be able to take
// a page when the machine has no memory left.

#include "tests/allocation_count.h"
#include "tests/nbd_client.h"

namespace uzram::nbd {
namespace {

constexpr std::uint32_t kPage = 4096;

// Every command, small and larger than the session's buffers, valid and refused.
Bytes every_request() {
  std::string payload(3 << 20, '\0');
  for (std::size_t i = 0; i < payload.size(); ++i) payload[i] = static_cast<char>(i * i >> 7);
  const std::string_view bytes = payload;
  Bytes batch;
  for (std::uint64_t i = 0; i < 200; ++i) {
    batch.put_text(request_bytes(Command::write, 0, i, i * 5000, 5000, bytes.substr(i, 5000)));
  }
  batch.put_text(request_bytes(Command::write, 0, 1, 1, 3 << 20, bytes));
  batch.put_text(request_bytes(Command::write, 0, 1, ~std::uint64_t{0}, 2 * kPage, bytes.substr(0, 2 * kPage)));
  batch.put_text(request_bytes(Command::read, 0, 1, 0, 3 << 20));
  batch.put_text(request_bytes(Command::read, kDf, 1, 0, 3 << 20));
  batch.put_text(request_bytes(Command::read, 0, 1, ~std::uint64_t{0}, 1));
  batch.put_text(request_bytes(Command::write_zeroes, 0, 1, 100, 1 << 20));
  batch.put_text(request_bytes(Command::trim, 0, 1, 100, 2 << 20));
  batch.put_text(request_bytes(Command::cache, 0, 1, 0, kPage));
  batch.put_text(request_bytes(Command::block_status, 0, 1, 0, 8 << 20));
  batch.put_text(request_bytes(Command::flush, 0, 1, 0, 0));
  batch.put_text(request_bytes(Command::disconnect, 0, 1, 0, 0));
  return batch;
}

TEST(Session, AllocatesNothingOnceItHasBegun) {
  for (const bool structured : {false, true}) {
    TestServer server(16 << 20);
    TestClient client = server.enter("", structured);
    const Bytes batch = every_request();
    std::array<char, 1 << 16> sink;
    EXPECT_TRUE(client.serves());
    const std::uint64_t before = allocation_count();
    std::string_view left = batch;
    while (!left.empty()) {
      const ssize_t sent = ::send(client.fd(), left.data(), left.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
      if (sent > 0) left.remove_prefix(static_cast<std::size_t>(sent));
      while (recv(client.fd(), sink.data(), sink.size(), MSG_DONTWAIT) > 0) continue;
    }
    while (recv(client.fd(), sink.data(), sink.size(), 0) > 0) continue;
    EXPECT_EQ(allocation_count() - before, 0u);
  }
}

}  // namespace
}  // namespace uzram::nbd
