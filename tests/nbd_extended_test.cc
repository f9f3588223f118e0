// Extended headers: requests of 32 bytes with lengths of 64 bits, and replies that are all chunks. Debian's clients do
// not speak them.

#include "tests/nbd_client.h"

namespace uzram::nbd {
namespace {

constexpr std::uint64_t kSize = std::uint64_t{16} << 40;
constexpr std::uint64_t kTiB = std::uint64_t{1} << 40;
constexpr std::uint32_t kEinval = 22;
constexpr std::uint32_t kEnospc = 28;

class Extended : public testing::Test {
 protected:
  TestClient enter(TestServer& server) {
    return server.enter_with({Option::extended_headers, Option::set_meta_context});
  }
  // The only chunk of the reply to a request; its cookie and offset must be the request's.
  static ExtendedAnswer ask(TestClient& client, Command command, std::uint16_t flags, std::uint64_t offset,
                            std::uint64_t length, std::string_view payload = {}) {
    client.send(extended_bytes(command, flags, 0xc0de, offset, length, payload));
    ExtendedAnswer answer = client.receive_extended();
    EXPECT_EQ(answer.magic, kExtendedChunkMagic);
    EXPECT_EQ(answer.cookie, 0xc0deu);
    EXPECT_EQ(answer.offset, offset);
    EXPECT_EQ(answer.flags, kChunkDone);
    return answer;
  }
  static std::uint32_t write(TestClient& client, std::uint64_t offset, std::string_view bytes) {
    return ask(client, Command::write, kPayloadLength, offset, bytes.size(), bytes).error();
  }
  static bool serves(TestClient& client) {
    const ExtendedAnswer answer = ask(client, Command::flush, 0, 0, 0);
    return answer.type == Chunk::none && answer.data.empty();
  }
  TestServer server_{kSize};
};

TEST_F(Extended, WritesAndReadsEveryByte) {
  TestClient client = enter(server_);
  std::string bytes(5000, '\0');
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i * i >> 5);
  EXPECT_EQ(write(client, 15 * kTiB + 100, bytes), 0u);
  const ExtendedAnswer answer = ask(client, Command::read, 0, 15 * kTiB + 100, bytes.size());
  EXPECT_EQ(answer.type, Chunk::offset_data);
  EXPECT_EQ(answer.data, Bytes().put<std::uint64_t>(15 * kTiB + 100).put_text(bytes));
}

TEST_F(Extended, RequestsLargerThanTheBuffersStream) {
  TestClient client = enter(server_);
  const std::string bytes(3 << 20, 'x');
  EXPECT_EQ(write(client, 1, bytes), 0u);
  client.send(extended_bytes(Command::read, 0, 7, 1, bytes.size()));
  std::string got;
  for (ExtendedAnswer chunk; (chunk.flags & kChunkDone) == 0;) {
    chunk = client.receive_extended();
    ASSERT_EQ(chunk.type, Chunk::offset_data);
    ASSERT_EQ(chunk.offset, 1u);
    ASSERT_EQ(chunk.data.get<std::uint64_t>(0), 1 + got.size());
    got += chunk.data.substr(8);
  }
  EXPECT_TRUE(got == bytes);
}

TEST_F(Extended, HolesAndDfAreAsInStructuredReplies) {
  TestClient client = enter(server_);
  const ExtendedAnswer hole = ask(client, Command::read, 0, 4096, 8192);
  EXPECT_EQ(hole.type, Chunk::offset_hole);
  EXPECT_EQ(hole.data, Bytes().put<std::uint64_t>(4096).put<std::uint32_t>(8192));
  EXPECT_EQ(write(client, 0, std::string(4096, 'x')), 0u);
  EXPECT_EQ(ask(client, Command::read, kDf, 0, 8192).data.size(), 8u + 8192);
}

TEST_F(Extended, LengthsBeyond32BitsAreServed) {
  TestClient client = enter(server_);
  EXPECT_EQ(write(client, 5 * kTiB, "x"), 0u);
  EXPECT_EQ(write(client, 9 * kTiB, "y"), 0u);
  EXPECT_EQ(ask(client, Command::cache, 0, 0, kSize).type, Chunk::none);
  EXPECT_EQ(ask(client, Command::trim, 0, 4 * kTiB, 3 * kTiB).type, Chunk::none);
  EXPECT_EQ(ask(client, Command::read, 0, 5 * kTiB, 1).type, Chunk::offset_hole);
  EXPECT_EQ(ask(client, Command::read, 0, 9 * kTiB, 1).data.substr(8), "y");
  EXPECT_EQ(ask(client, Command::write_zeroes, kFastZero, 8 * kTiB, 8 * kTiB).type, Chunk::none);
  EXPECT_EQ(ask(client, Command::read, 0, 9 * kTiB, 1).type, Chunk::offset_hole);
}

TEST_F(Extended, BlockStatusHasWideExtentsForEachContext) {
  TestClient client = enter(server_);
  EXPECT_EQ(write(client, 6 * kTiB, std::string(4096, 'x')), 0u);
  client.send(extended_bytes(Command::block_status, 0, 9, 0, kSize));
  const auto extents = [](std::uint32_t context, std::uint64_t data_flags, std::uint64_t hole_flags) {
    Bytes bytes;
    bytes.put(context).put<std::uint32_t>(3);
    bytes.put<std::uint64_t>(6 * kTiB).put(hole_flags);
    bytes.put<std::uint64_t>(4096).put(data_flags);
    return bytes.put<std::uint64_t>(kSize - 6 * kTiB - 4096).put(hole_flags);
  };
  const ExtendedAnswer allocation = client.receive_extended();
  EXPECT_EQ(allocation.type, Chunk::block_status_ext);
  EXPECT_EQ(allocation.flags, 0u);
  EXPECT_EQ(allocation.data, extents(1, 0, kStateHole | kStateZero));
  const ExtendedAnswer pages = client.receive_extended();
  EXPECT_EQ(pages.flags, kChunkDone);
  EXPECT_EQ(pages.data, extents(2, kPageSameFilled, kPageHole));
}

TEST_F(Extended, ReqOneIsOneExtent) {
  TestClient client = enter(server_);
  client.send(extended_bytes(Command::block_status, kReqOne, 9, 0, kSize));
  for (int i = 0; i < 2; ++i) EXPECT_EQ(client.receive_extended().data.size(), 8u + 16);
}

TEST_F(Extended, ErrorsAreChunksOfEveryCommand) {
  TestClient client = enter(server_);
  EXPECT_EQ(ask(client, Command::trim, 0, kSize, 1).error(), kEinval);
  EXPECT_EQ(ask(client, Command::write_zeroes, 0, 1, kSize).error(), kEnospc);
  EXPECT_EQ(ask(client, Command::write_zeroes, 0, 1, ~std::uint64_t{0}).error(), kEnospc);
  EXPECT_EQ(ask(client, Command::read, 0, 0, (64 << 20) + 1).error(), kEinval);
  EXPECT_EQ(ask(client, Command::flush, 0, 1, 0).error(), kEinval);
  EXPECT_EQ(ask(client, Command{99}, 0, 0, 0).error(), kEinval);
  EXPECT_TRUE(serves(client));
}

TEST_F(Extended, RefusedPayloadIsReceivedToItsEnd) {
  TestClient client = enter(server_);
  EXPECT_EQ(ask(client, Command::write, kPayloadLength, kSize, 4096, std::string(4096, 'x')).error(), kEnospc);
  // A write of no payload, and payloads of what has none, small and larger than the window.
  EXPECT_EQ(ask(client, Command::write, 0, 0, 4096).error(), kEinval);
  for (const std::size_t size : {std::size_t{1}, std::size_t{4096}, std::size_t{3} << 20}) {
    const std::string payload(size, 'x');
    for (const Command command : {Command::read, Command::trim, Command::block_status, Command::flush, Command{99}}) {
      EXPECT_EQ(ask(client, command, kPayloadLength, 0, size, payload).error(), kEinval);
    }
  }
  const std::string long_one(65 << 20, 'x');
  EXPECT_EQ(ask(client, Command::write, kPayloadLength, 0, long_one.size(), long_one).error(), kEinval);
  EXPECT_TRUE(serves(client));
}

TEST_F(Extended, CompactRequestsAreNotServed) {
  TestClient client = enter(server_);
  client.send_request(Command::flush, 0, 1, 0, 0);
  client.send(std::string(4, '\0'));
  EXPECT_TRUE(client.closed());
}

TEST_F(Extended, PayloadFlagIsUnknownWithoutThem) {
  TestClient client = server_.enter();
  EXPECT_EQ(client.error_of(Command::write, kPayloadLength, 0, 4, "abcd"), kEinval);
  EXPECT_EQ(client.error_of(Command::trim, kPayloadLength, 0, 4), kEinval);
  EXPECT_TRUE(client.serves());
}

TEST_F(Extended, PipelinedRequestsAreAnsweredInOrder) {
  TestClient client = enter(server_);
  Bytes batch;
  const std::string page(4096, 'p');
  for (std::uint64_t i = 0; i < 300; ++i) {
    batch.put_text(extended_bytes(Command::write, kPayloadLength, i, i * 4096, 4096, page));
  }
  batch.put_text(extended_bytes(Command::disconnect, 0, 1, 0, 0));
  client.send(batch);
  for (std::uint64_t i = 0; i < 300; ++i) EXPECT_EQ(client.receive_extended().cookie, i);
  EXPECT_TRUE(client.closed());
}

}  // namespace
}  // namespace uzram::nbd
