// A session asks the system's allocator for nothing once it has begun: a daemon that serves swap must be able to take
// a page when the machine has no memory left.

#include "tests/allocation_count.h"
#include "tests/nbd_client.h"

namespace uzram::nbd {
namespace {

constexpr std::uint32_t kPage = 4096;

// Every command, small and larger than the session's buffers, valid and refused.
Bytes every_request(bool extended) {
  std::string payload(3 << 20, '\0');
  for (std::size_t i = 0; i < payload.size(); ++i) payload[i] = static_cast<char>(i * i >> 7);
  const std::string_view bytes = payload;
  Bytes batch;
  const auto add = [&](Command command, std::uint16_t flags, std::uint64_t cookie, std::uint64_t offset,
                       std::uint32_t length, std::string_view data = {}) {
    batch.put_text(request_bytes_of(extended, command, flags, cookie, offset, length, data));
  };
  for (std::uint64_t i = 0; i < 200; ++i) add(Command::write, 0, i, i * 5000, 5000, bytes.substr(i, 5000));
  add(Command::write, 0, 1, 1, 3 << 20, bytes);
  add(Command::write, 0, 1, ~std::uint64_t{0}, 2 * kPage, bytes.substr(0, 2 * kPage));
  add(Command::read, 0, 1, 0, 3 << 20);
  add(Command::read, kDf, 1, 0, 3 << 20);
  for (std::uint64_t i = 0; i < 20; ++i) add(Command::read, 0, i, i * 100'000, 100'000);
  add(Command::read, 0, 1, ~std::uint64_t{0}, 1);
  add(Command::write_zeroes, 0, 1, 100, 1 << 20);
  add(Command::trim, 0, 1, 100, 2 << 20);
  add(Command::cache, 0, 1, 0, kPage);
  add(Command::block_status, 0, 1, 0, 8 << 20);
  add(Command::flush, 0, 1, 0, 0);
  add(Command::disconnect, 0, 1, 0, 0);
  return batch;
}

TEST(Session, AllocatesNothingOnceItHasBegun) {
  const std::vector<std::vector<Option>> negotiations = {
      {}, {Option::structured_reply, Option::set_meta_context}, {Option::extended_headers, Option::set_meta_context}};
  for (const std::vector<Option>& options : negotiations) {
    TestServer server(16 << 20);
    TestClient client = server.enter_with(options);
    const bool extended = !options.empty() && options.front() == Option::extended_headers;
    const Bytes batch = every_request(extended);
    std::array<char, 1 << 16> sink;
    client.send(request_bytes_of(extended, Command::flush, 0, 0, 0, 0));
    EXPECT_EQ(client.receive(extended ? kExtendedChunkHeaderBytes : kSimpleReplyBytes).size(),
              extended ? kExtendedChunkHeaderBytes : kSimpleReplyBytes);
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
