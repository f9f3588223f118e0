// Long reads that arrive one behind the other: their replies come in any order, but each is whole and in one piece.

#include <cerrno>
#include <map>
#include <random>
#include <thread>

#include "tests/nbd_client.h"

namespace uzram::nbd {
namespace {

constexpr std::uint32_t kPage = 4096;
constexpr std::uint32_t kPages = 1024;
constexpr std::uint64_t kSize = std::uint64_t{kPages} * kPage;

// Pages of noise, of text, and holes, in turns that no length of a read is a multiple of.
std::string content() {
  std::string bytes(kSize, '\0');
  std::mt19937 random(1);
  for (std::uint32_t page = 0; page < kPages; ++page) {
    if (page % 7 == 0) continue;
    for (std::uint32_t i = 0; i < kPage; ++i)
      bytes[page * kPage + i] = static_cast<char>(page % 7 < 3 ? random() : 'a' + random() % 4);
  }
  return bytes;
}

struct Range {
  std::uint64_t offset;
  std::uint32_t length;
  std::uint16_t flags = 0;
};

enum class Replies { simple, structured, extended };

// What came for one of the requests.
struct Answer {
  std::string data;
  std::uint32_t error = 0;
};

class LongReads : public testing::TestWithParam<Replies> {
 protected:
  LongReads() {
    TestClient writer = server_.enter();
    EXPECT_EQ(writer.write(0, content_), 0u);
    for (std::uint64_t at = 0; at < kSize; at += std::uint64_t{7} * kPage)
      EXPECT_EQ(writer.error_of(Command::trim, 0, at, kPage), 0u);
  }

  TestClient enter() {
    if (GetParam() == Replies::simple) return server_.enter();
    const bool extended = GetParam() == Replies::extended;
    return server_.enter_with({extended ? Option::extended_headers : Option::structured_reply});
  }

  [[nodiscard]] static Bytes request(Command command, std::uint16_t flags, std::uint64_t cookie, std::uint64_t offset,
                                     std::uint32_t length, std::string_view payload = {}) {
    return request_bytes_of(GetParam() == Replies::extended, command, flags, cookie, offset, length, payload);
  }

  // In one piece, so that the server finds them together; the cookie is the place in `ranges`.
  void ask(const std::vector<Range>& ranges) {
    Bytes batch;
    for (std::uint64_t i = 0; i < ranges.size(); ++i)
      batch.put_text(request(Command::read, ranges[i].flags, i, ranges[i].offset, ranges[i].length));
    ASSERT_TRUE(client_.send(batch));
  }

  // A chunk in either form.
  ChunkAnswer chunk() {
    if (GetParam() == Replies::structured) {
      ChunkAnswer chunk = client_.receive_chunk();
      EXPECT_EQ(chunk.magic, kChunkMagic);
      return chunk;
    }
    ExtendedAnswer chunk = client_.receive_extended();
    EXPECT_EQ(chunk.magic, kExtendedChunkMagic);
    return {chunk.magic, chunk.flags, chunk.type, chunk.cookie, std::move(chunk.data)};
  }

  // The next reply, whosever it is; all chunks of one, which stand beside each other.
  std::uint64_t take(const std::vector<Range>& ranges, Answer& answer) {
    if (GetParam() == Replies::simple) {
      const SimpleAnswer simple = client_.receive_simple();
      EXPECT_EQ(simple.magic, kSimpleReplyMagic);
      answer.error = simple.error;
      if (simple.error == 0) answer.data = client_.receive(ranges.at(simple.cookie).length);
      return simple.cookie;
    }
    for (std::uint64_t cookie = kNone;;) {
      const ChunkAnswer part = chunk();
      EXPECT_TRUE(cookie == kNone || cookie == part.cookie) << "chunks of two replies among each other";
      cookie = part.cookie;
      take_chunk(part, ranges.at(cookie), answer);
      if ((part.flags & kChunkDone) != 0) return cookie;
    }
  }

  // The answer to a write.
  [[nodiscard]] bool wrote(std::uint64_t cookie) {
    if (GetParam() != Replies::extended) return client_.receive_simple() == SimpleAnswer{kSimpleReplyMagic, 0, cookie};
    const ChunkAnswer answer = chunk();
    return answer.type == Chunk::none && answer.cookie == cookie;
  }

  std::map<std::uint64_t, Answer> take_all(const std::vector<Range>& ranges) {
    std::map<std::uint64_t, Answer> answers;
    for (std::size_t i = 0; i < ranges.size() && !HasFailure(); ++i) {
      Answer answer;
      const std::uint64_t cookie = take(ranges, answer);
      EXPECT_TRUE(answers.emplace(cookie, std::move(answer)).second) << "two replies to one request";
    }
    return answers;
  }

  const std::string content_ = content();
  TestServer server_{kSize};
  TestClient client_ = enter();

 private:
  static constexpr std::uint64_t kNone = ~std::uint64_t{0};

  static void take_chunk(const ChunkAnswer& chunk, const Range& range, Answer& answer) {
    if (chunk.type == Chunk::error || chunk.type == Chunk::error_offset) {
      answer.error = chunk.data.get<std::uint32_t>(0);
    } else {
      // In order, so that each begins where the last one ended.
      EXPECT_EQ(chunk.data.get<std::uint64_t>(0), range.offset + answer.data.size());
      answer.data +=
          chunk.type == Chunk::offset_hole ? std::string(chunk.data.get<std::uint32_t>(8), '\0') : chunk.data.substr(8);
    }
  }
};

TEST_P(LongReads, ManyAtOnceAreEachWhole) {
  std::mt19937 random(2);
  for (int round = 0; round < 20 && !HasFailure(); ++round) {
    std::vector<Range> ranges;
    for (std::size_t n = 2 + random() % 100; n > 0; --n) {
      const auto length =
          static_cast<std::uint32_t>(random() % 4 == 0 ? random() % (600 << 10) + 1 : (8 + random() % 57) * kPage);
      const bool one_chunk = GetParam() != Replies::simple && random() % 4 == 0;
      ranges.push_back({random() % (kSize - length), length, one_chunk ? kDf : std::uint16_t{0}});
    }
    std::jthread sender([&] { ask(ranges); });
    for (const auto& [cookie, answer] : take_all(ranges)) {
      EXPECT_EQ(answer.error, 0u);
      EXPECT_TRUE(answer.data == content_.substr(ranges[cookie].offset, ranges[cookie].length)) << cookie;
    }
  }
}

TEST_P(LongReads, DamageIsAnErrorOfItsReadAlone) {
  server_.damage(std::string_view(content_).substr(50 * kPage, kPage));
  std::vector<Range> ranges;
  for (std::uint64_t i = 0; i < 16; ++i) ranges.push_back({i * 32 * kPage, 32 * kPage});
  ask(ranges);
  for (const auto& [cookie, answer] : take_all(ranges)) {
    const bool hit = cookie == 50 / 32;
    EXPECT_EQ(answer.error, hit ? static_cast<std::uint32_t>(EIO) : 0u) << cookie;
    const std::string expected = content_.substr(ranges[cookie].offset, ranges[cookie].length);
    EXPECT_TRUE(answer.data == expected.substr(0, hit ? answer.data.size() : expected.size())) << cookie;
  }
  EXPECT_TRUE(server_.enter().serves());
}

TEST_P(LongReads, EachSeesTheWritesBeforeItAndNotThoseBehind) {
  std::string expected = content_;
  std::mt19937 random(3);
  for (int round = 0; round < 50 && !HasFailure(); ++round) {
    const std::vector<Range> ranges(6, Range{0, 32 * kPage});
    Bytes batch;
    std::vector<std::string> seen;
    for (std::uint64_t i = 0; i < ranges.size(); ++i) {
      if (i % 2 == 0) {
        const std::string page(kPage, static_cast<char>(random()));
        const std::uint64_t offset = random() % 32 * kPage;
        expected.replace(offset, kPage, page);
        batch.put_text(request(Command::write, kFua, 1000, offset, kPage, page));
      }
      batch.put_text(request(Command::read, 0, i, 0, ranges[i].length));
      seen.push_back(expected.substr(0, ranges[i].length));
    }
    ASSERT_TRUE(client_.send(batch));
    for (std::size_t i = 0; i < ranges.size(); i += 2) {
      EXPECT_TRUE(wrote(1000));
      for (int reads = 0; reads < 2; ++reads) {
        Answer answer;
        const std::uint64_t cookie = take(ranges, answer);
        EXPECT_TRUE(answer.data == seen.at(cookie)) << cookie;
      }
    }
  }
}

TEST_P(LongReads, ClientThatLeavesAmongThemLeavesTheServerWell) {
  const std::vector<Range> ranges(60, Range{0, 64 * kPage});
  for (std::size_t round = 0; round < 10; ++round) {
    TestClient client = enter();
    Bytes batch;
    for (const Range& range : ranges) batch.put_text(request(Command::read, 0, 1, range.offset, range.length));
    EXPECT_TRUE(client.send(batch));
    EXPECT_EQ(client.receive(round * 100'000).size(), round * 100'000);
    client.close();
  }
  EXPECT_TRUE(server_.enter().serves());
}

std::string name_of(const testing::TestParamInfo<Replies>& replies) {
  constexpr const char* kNames[] = {"Simple", "Structured", "Extended"};
  return kNames[static_cast<std::size_t>(replies.param)];
}

INSTANTIATE_TEST_SUITE_P(AllReplies, LongReads,
                         testing::Values(Replies::simple, Replies::structured, Replies::extended), name_of);

}  // namespace
}  // namespace uzram::nbd
