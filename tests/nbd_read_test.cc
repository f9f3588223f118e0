// Structured replies: READ's chunks, errors in the middle of a read, and BLOCK_STATUS.

#include <cerrno>
#include <random>

#include "tests/nbd_client.h"

namespace uzram::nbd {
namespace {

constexpr std::uint64_t kSize = 256 << 20;
constexpr std::uint32_t kMiB = 1 << 20;
constexpr std::uint32_t kPage = 4096;

std::string noise(std::size_t size, unsigned seed) {
  std::mt19937 random(seed);
  std::string text(size, '\0');
  for (char& byte : text) byte = static_cast<char>(random());
  return text;
}

struct ReadAnswer {
  std::string data;
  unsigned content_chunks = 0;
  std::uint32_t error = 0;
  std::uint64_t error_offset = 0;
};

class StructuredRead : public testing::Test {
 protected:
  // Takes all chunks of a READ, and checks what holds for each of them.
  ReadAnswer read(TestClient& client, std::uint16_t flags, std::uint64_t offset, std::uint32_t length) {
    client.send_request(Command::read, flags, 42, offset, length);
    ReadAnswer answer;
    answer.data.assign(length, '?');
    for (bool done = false; !done;) {
      const ChunkAnswer chunk = client.receive_chunk();
      EXPECT_EQ(chunk.magic, kChunkMagic);
      EXPECT_EQ(chunk.cookie, 42u);
      if (chunk.magic != kChunkMagic) break;
      done = (chunk.flags & kChunkDone) != 0;
      take(chunk, offset, answer);
    }
    return answer;
  }

  TestServer server_{kSize};

 private:
  static void take(const ChunkAnswer& chunk, std::uint64_t offset, ReadAnswer& answer) {
    const auto at = chunk.data.get<std::uint64_t>(0) - offset;
    if (chunk.type == Chunk::offset_data) {
      ASSERT_GT(chunk.data.size(), 8u);
      put(chunk.data.substr(8), at, answer);
    } else if (chunk.type == Chunk::offset_hole) {
      ASSERT_EQ(chunk.data.size(), 12u);
      put(std::string(chunk.data.get<std::uint32_t>(8), '\0'), at, answer);
    } else if (chunk.type == Chunk::error || chunk.type == Chunk::error_offset) {
      const auto message = chunk.data.get<std::uint16_t>(4);
      EXPECT_EQ(chunk.data.size(), message + (chunk.type == Chunk::error ? 6u : 14u));
      answer.error = chunk.data.get<std::uint32_t>(0);
      answer.error_offset = chunk.data.get<std::uint64_t>(6u + message);
    } else {
      EXPECT_EQ(chunk.type, Chunk::none);
      EXPECT_TRUE(chunk.data.empty());
    }
  }
  // Content neither overlaps nor reaches out of the request.
  static void put(const std::string& bytes, std::uint64_t at, ReadAnswer& answer) {
    ++answer.content_chunks;
    ASSERT_FALSE(bytes.empty());
    ASSERT_LE(at + bytes.size(), answer.data.size());
    EXPECT_EQ(answer.data.find_first_not_of('?', at), std::string::npos);
    answer.data.replace(at, bytes.size(), bytes);
  }
};

TEST_F(StructuredRead, ChunksCoverTheRequestOnce) {
  TestClient client = server_.enter("", true);
  std::string image(100 * kPage, '\0');
  image.replace(3 * kPage, 5 * kPage, std::string(5 * kPage, 'a'));
  image.replace(20 * kPage + 17, 40 * kPage, std::string(40 * kPage, 'b'));
  EXPECT_EQ(client.write(0, image), 0u);
  for (const std::uint32_t offset : {0u, 1u, kPage, 3 * kPage + 5, 20 * kPage}) {
    const auto length = static_cast<std::uint32_t>(image.size()) - offset;
    const ReadAnswer answer = read(client, 0, offset, length);
    EXPECT_EQ(answer.error, 0u);
    EXPECT_TRUE(answer.data == image.substr(offset));
    EXPECT_GT(answer.content_chunks, 1u);
  }
}

TEST_F(StructuredRead, HolesAreChunksWithoutData) {
  TestClient client = server_.enter("", true);
  client.send_request(Command::read, 0, 1, kPage, 64 * kPage);
  const ChunkAnswer chunk = client.receive_chunk();
  EXPECT_EQ(chunk.type, Chunk::offset_hole);
  EXPECT_EQ(chunk.flags, kChunkDone);
  EXPECT_EQ(chunk.data, Bytes().put<std::uint64_t>(kPage).put<std::uint32_t>(64 * kPage));
}

TEST_F(StructuredRead, DfGivesOneContentChunk) {
  TestClient client = server_.enter("", true);
  const std::string content = noise(2 * kPage, 1);
  EXPECT_EQ(client.write(10 * kPage, content), 0u);
  for (const std::uint32_t length : {64 * 1024u, 3 * kMiB, 64 * kMiB}) {
    const ReadAnswer answer = read(client, kDf, 0, length);
    EXPECT_EQ(answer.error, 0u);
    EXPECT_EQ(answer.content_chunks, 1u);
    std::string expected(length, '\0');
    expected.replace(10 * kPage, content.size(), content);
    EXPECT_TRUE(answer.data == expected);
  }
  EXPECT_EQ(read(client, kDf, 64 * kMiB, kMiB).content_chunks, 1u);
}

TEST_F(StructuredRead, RefusedReadIsAnErrorChunk) {
  TestClient client = server_.enter("", true);
  for (const auto& [offset, length] : {std::pair{kSize, 1u},
                                       {kSize - 1, 2u},
                                       {~std::uint64_t{0}, 1u},
                                       {std::uint64_t{0}, 0u},
                                       {std::uint64_t{0}, 64 * kMiB + 1}}) {
    client.send_request(Command::read, 0, 5, offset, length);
    const ChunkAnswer chunk = client.receive_chunk();
    EXPECT_EQ(chunk.type, Chunk::error);
    EXPECT_EQ(chunk.flags, kChunkDone);
    EXPECT_EQ(chunk.data.get<std::uint32_t>(0), static_cast<std::uint32_t>(EINVAL));
    EXPECT_LE(chunk.data.size(), 4096u + 6);
  }
  EXPECT_TRUE(client.serves());
}

TEST_F(StructuredRead, DamagedPageIsAnErrorAtItsOffset) {
  TestClient client = server_.enter("", true);
  const std::string content = noise(4 * kPage, 2);
  EXPECT_EQ(client.write(8 * kPage, content), 0u);
  server_.damage(content.substr(0, kPage));
  const ReadAnswer answer = read(client, 0, 0, 64 * kPage);
  EXPECT_EQ(answer.error, static_cast<std::uint32_t>(EIO));
  EXPECT_EQ(answer.error_offset, 8 * kPage);
  EXPECT_EQ(answer.data.substr(0, 8 * kPage), std::string(8 * kPage, '\0'));
  EXPECT_TRUE(read(client, 0, 9 * kPage, 3 * kPage).data == content.substr(kPage));
}

TEST_F(StructuredRead, DamageInALargeDfChunkFinishesItFirst) {
  TestClient client = server_.enter("", true);
  const std::string content = noise(2 * kPage, 3);
  EXPECT_EQ(client.write(2 * kMiB, content), 0u);
  server_.damage(content.substr(0, kPage));
  const ReadAnswer answer = read(client, kDf, 0, 4 * kMiB);
  EXPECT_EQ(answer.error, static_cast<std::uint32_t>(EIO));
  EXPECT_EQ(answer.content_chunks, 1u);
  EXPECT_TRUE(client.serves());
}

TEST_F(StructuredRead, DamageInASimpleReplyIsAnErrorOrTheEnd) {
  TestClient client = server_.enter();
  const std::string content = noise(2 * kPage, 4);
  EXPECT_EQ(client.write(2 * kMiB, content), 0u);
  server_.damage(content.substr(kPage));
  EXPECT_EQ(client.error_of(Command::read, 0, 2 * kMiB, 2 * kPage), static_cast<std::uint32_t>(EIO));
  EXPECT_EQ(client.read(2 * kMiB, kPage), content.substr(0, kPage));
  // The reply has begun when the damage is met: all that is left is to close before it is whole.
  client.send_request(Command::read, 0, 1, 0, 4 * kMiB);
  EXPECT_EQ(client.receive_simple().error, 0u);
  EXPECT_LT(client.receive(4 * kMiB).size(), 4 * kMiB);
  EXPECT_TRUE(server_.enter().serves());
}

class BlockStatus : public testing::Test {
 protected:
  struct Part {
    std::uint32_t length;
    std::uint32_t state;
    bool operator==(const Part&) const = default;
  };
  static std::vector<Part> ask(TestClient& client, std::uint16_t flags, std::uint64_t offset, std::uint32_t length) {
    client.send_request(Command::block_status, flags, 9, offset, length);
    const ChunkAnswer chunk = client.receive_chunk();
    EXPECT_EQ(chunk.type, Chunk::block_status);
    EXPECT_EQ(chunk.flags, kChunkDone);
    EXPECT_EQ(chunk.data.get<std::uint32_t>(0), 1u);
    std::vector<Part> parts;
    for (std::size_t at = 4; at < chunk.data.size(); at += 8) {
      parts.push_back({chunk.data.get<std::uint32_t>(at), chunk.data.get<std::uint32_t>(at + 4)});
    }
    return parts;
  }
  static constexpr std::uint32_t kHole = kStateHole | kStateZero;
  TestServer server_{std::uint64_t{8} << 30};
  TestClient client_ = server_.enter("", true);
};

TEST_F(BlockStatus, TellsHolesZeroesAndData) {
  EXPECT_EQ(client_.write(2 * kPage, std::string(3 * kPage, 'x')), 0u);
  EXPECT_EQ(client_.write(5 * kPage, std::string(kPage, '\0')), 0u);
  EXPECT_EQ(ask(client_, 0, 0, 10 * kPage),
            (std::vector<Part>{{2 * kPage, kHole}, {3 * kPage, 0}, {kPage, kStateZero}, {4 * kPage, kHole}}));
  EXPECT_EQ(client_.error_of(Command::trim, 0, 0, 10 * kPage), 0u);
  EXPECT_EQ(ask(client_, 0, 0, 10 * kPage), (std::vector<Part>{{10 * kPage, kHole}}));
}

TEST_F(BlockStatus, ReqOneIsOneExtentInsideTheRequest) {
  EXPECT_EQ(client_.write(2 * kPage, std::string(3 * kPage, 'x')), 0u);
  EXPECT_EQ(ask(client_, kReqOne, 0, 10 * kPage), (std::vector<Part>{{2 * kPage, kHole}}));
  EXPECT_EQ(ask(client_, kReqOne, 2 * kPage + 5, 10 * kPage), (std::vector<Part>{{3 * kPage - 5, 0}}));
  EXPECT_EQ(ask(client_, kReqOne, 2 * kPage + 5, 7), (std::vector<Part>{{7, 0}}));
}

TEST_F(BlockStatus, FourGiBAreAnsweredInBoundedMemory) {
  EXPECT_EQ(ask(client_, 0, 0, 0xffffffff), (std::vector<Part>{{0xffffffff, kHole}}));
  // Pages of data and holes by turns, more of them than a reply holds.
  const std::string page(kPage, 'x');
  for (std::uint64_t i = 0; i < 40'000; ++i) {
    client_.send_request(Command::write, 0, i, 2 * i * kPage, kPage, page);
    EXPECT_EQ(client_.receive_simple().error, 0u);
  }
  const auto parts = ask(client_, 0, 0, 0xffffffff);
  EXPECT_EQ(parts.size(), 64u << 10);
  std::uint64_t total = 0;
  for (const Part& part : parts) total += part.length;
  EXPECT_EQ(total, (std::uint64_t{64} << 10) * kPage);
}

TEST_F(BlockStatus, RefusalsAreErrorChunks) {
  for (const std::uint64_t offset : {std::uint64_t{8} << 30, ~std::uint64_t{0}}) {
    client_.send_request(Command::block_status, 0, 1, offset, kPage);
    const ChunkAnswer chunk = client_.receive_chunk();
    EXPECT_EQ(chunk.type, Chunk::error);
    EXPECT_EQ(chunk.data.get<std::uint32_t>(0), static_cast<std::uint32_t>(EINVAL));
  }
  EXPECT_TRUE(client_.serves());
}

}  // namespace
}  // namespace uzram::nbd
