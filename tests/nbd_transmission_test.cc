// The transmission phase with simple replies, item by item of docs/nbd.md.

#include <cerrno>
#include <chrono>
#include <random>
#include <thread>

#include "tests/nbd_client.h"

namespace uzram::nbd {
namespace {

constexpr std::uint64_t kSize = 256 << 20;
constexpr std::uint32_t kMiB = 1 << 20;
constexpr std::uint32_t kPage = 4096;

class Transmission : public testing::Test {
 protected:
  TestServer server_{kSize};
  TestClient client_ = server_.enter();

  Bytes zeroes(std::size_t n) { return Bytes(std::string(n, '\0')); }
};

TEST_F(Transmission, CookiesComeBackAsTheyWere) {
  for (const std::uint64_t cookie : {std::uint64_t{0}, ~std::uint64_t{0}, std::uint64_t{0x0102030405060708}}) {
    client_.send_request(Command::flush, 0, cookie, 0, 0);
    EXPECT_EQ(client_.receive_simple(), (SimpleAnswer{kSimpleReplyMagic, 0, cookie}));
  }
}

TEST_F(Transmission, RequestsWithTheSameCookieAreAllAnswered) {
  Bytes batch;
  for (int i = 0; i < 100; ++i) batch.put_text(request_bytes(Command::flush, 0, 7, 0, 0));
  client_.send(batch);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(client_.receive_simple(), (SimpleAnswer{kSimpleReplyMagic, 0, 7}));
}

TEST_F(Transmission, DfWithoutStructuredRepliesIsInvalid) {
  EXPECT_EQ(client_.error_of(Command::read, kDf, 0, kPage), EINVAL);
}

TEST_F(Transmission, RangesPastTheEndAreRefused) {
  struct Case {
    std::uint64_t offset;
    std::uint32_t length;
  };
  const Case cases[] = {{kSize, 1},
                        {kSize - 1, 2},
                        {kSize + 1, 1},
                        {~std::uint64_t{0}, 1},
                        {~std::uint64_t{0}, kPage},
                        {~std::uint64_t{0} - 4095, kPage},
                        {kSize - kPage, 2 * kPage}};
  for (const Case& c : cases) {
    EXPECT_EQ(client_.error_of(Command::write, 0, c.offset, c.length, std::string(c.length, 'x')), ENOSPC);
    EXPECT_EQ(client_.error_of(Command::write_zeroes, 0, c.offset, c.length), ENOSPC);
    EXPECT_EQ(client_.error_of(Command::read, 0, c.offset, c.length), EINVAL);
    EXPECT_EQ(client_.error_of(Command::trim, 0, c.offset, c.length), EINVAL);
    EXPECT_EQ(client_.error_of(Command::cache, 0, c.offset, c.length), EINVAL);
  }
  EXPECT_EQ(client_.error_of(Command::trim, 0, kPage, 0xffffffff), EINVAL);
  EXPECT_EQ(client_.error_of(Command::write_zeroes, 0, kPage, 0xffffffff), ENOSPC);
  EXPECT_EQ(client_.read(kSize - 2, 2), zeroes(2));
}

TEST_F(Transmission, EveryByteCanBeAddressed) {
  EXPECT_EQ(client_.write(4095, "ab"), 0u);
  EXPECT_EQ(client_.write(kSize - 1, "z"), 0u);
  EXPECT_EQ(client_.read(4094, 4), Bytes("\0ab\0", 4));
  EXPECT_EQ(client_.read(kSize - 2, 2), Bytes("\0z", 2));
}

TEST_F(Transmission, UnknownCommandsAreInvalid) {
  for (const int command : {8, 9, 100, 0xffff}) {
    EXPECT_EQ(client_.error_of(static_cast<Command>(command), 0, 0, kPage), EINVAL);
  }
  EXPECT_TRUE(client_.serves());
}

TEST_F(Transmission, FlagsOfOtherCommandsAreInvalid) {
  const auto payload = std::string(kPage, 'x');
  for (unsigned bit = 1; bit < 16; ++bit) {
    const auto flag = static_cast<std::uint16_t>(1u << bit);
    EXPECT_EQ(client_.error_of(Command::read, flag, 0, kPage), EINVAL) << bit;
    EXPECT_EQ(client_.error_of(Command::write, flag, 0, kPage, payload), EINVAL) << bit;
    EXPECT_EQ(client_.error_of(Command::trim, flag, 0, kPage), EINVAL) << bit;
    EXPECT_EQ(client_.error_of(Command::cache, flag, 0, kPage), EINVAL) << bit;
    EXPECT_EQ(client_.error_of(Command::flush, flag, 0, 0), EINVAL) << bit;
    const bool known = flag == kNoHole || flag == kFastZero;
    EXPECT_EQ(client_.error_of(Command::write_zeroes, flag, 0, kPage), known ? 0u : unsigned{EINVAL}) << bit;
  }
  EXPECT_EQ(client_.read(0, kPage), zeroes(kPage));
}

TEST_F(Transmission, FuaIsAcceptedWithEveryCommand) {
  EXPECT_EQ(client_.error_of(Command::write, kFua, 0, 4, "data"), 0u);
  EXPECT_EQ(client_.error_of(Command::read, kFua, 0, 4), 0u);
  EXPECT_EQ(client_.receive(4), "data");
  EXPECT_EQ(client_.error_of(Command::flush, kFua, 0, 0), 0u);
  EXPECT_EQ(client_.error_of(Command::trim, kFua, 0, kPage), 0u);
  EXPECT_EQ(client_.error_of(Command::cache, kFua, 0, kPage), 0u);
  EXPECT_EQ(client_.error_of(Command::write_zeroes, kFua, 0, kPage), 0u);
}

TEST_F(Transmission, ReadOnlyExportRefusesChanges) {
  TestServer server(kSize, {.access = {.others = {.read_only = true}}});
  TestClient client = server.enter();
  EXPECT_EQ(client.write(0, std::string(100, 'x')), static_cast<unsigned>(EPERM));
  EXPECT_EQ(client.write(0, std::string(3 * kMiB, 'x')), static_cast<unsigned>(EPERM));
  EXPECT_EQ(client.error_of(Command::trim, 0, 0, kPage), EPERM);
  EXPECT_EQ(client.error_of(Command::write_zeroes, 0, 0, kPage), EPERM);
  EXPECT_EQ(client.read(0, 100), zeroes(100));
  EXPECT_TRUE(client.serves());
}

TEST_F(Transmission, RefusedWriteIsReceivedToItsEnd) {
  for (const std::uint32_t length : {1u, kPage, kMiB, 5 * kMiB, 64 * kMiB, 64 * kMiB + 1, 100 * kMiB}) {
    EXPECT_EQ(client_.write(kSize - 1 + (length == 1), std::string(length, 'x')),
              static_cast<unsigned>(length > 64 * kMiB ? EINVAL : ENOSPC));
    EXPECT_TRUE(client_.serves()) << length;
  }
}

TEST_F(Transmission, RequestsUpTo64MiBAreServed) {
  std::string large(64 * kMiB, '\0');
  for (std::size_t i = 0; i < large.size(); i += 64) large[i] = static_cast<char>(i / 4096 % 251);
  EXPECT_EQ(client_.write(5, large), 0u);
  EXPECT_TRUE(client_.read(5, 64 * kMiB) == large);
  EXPECT_EQ(client_.error_of(Command::read, 0, 0, 64 * kMiB + 1), EINVAL);
  EXPECT_EQ(client_.error_of(Command::read, 0, 0, 0xffffffff), EINVAL);
}

// Many more than the window holds, none on a page's boundary: the next arrive while helpers are at work on the last.
TEST_F(Transmission, LongWritesWithoutAPauseAreAllDone) {
  constexpr std::uint32_t kLength = 128 << 10;
  constexpr std::uint64_t kBegin = 1000;
  constexpr std::uint64_t kWrites = 64;
  std::mt19937_64 random(1);
  std::string all(kWrites * kLength, '\0');
  for (char& c : all) c = static_cast<char>('a' + random() % 4);
  std::jthread sender([&] {
    for (std::uint64_t n = 0; n < kWrites; ++n) {
      const auto payload = std::string_view(all).substr(n * kLength, kLength);
      client_.send(request_bytes(Command::write, 0, n, kBegin + n * kLength, kLength, payload));
      if (n % 7 == 0) client_.send(request_bytes(Command::flush, 0, kWrites + n, 0, 0));
    }
  });
  for (std::uint64_t n = 0; n < kWrites; ++n) {
    ASSERT_EQ(client_.receive_simple(), (SimpleAnswer{kSimpleReplyMagic, 0, n}));
    if (n % 7 != 0) continue;
    ASSERT_EQ(client_.receive_simple(), (SimpleAnswer{kSimpleReplyMagic, 0, kWrites + n}));
  }
  EXPECT_TRUE(client_.read(kBegin, static_cast<std::uint32_t>(all.size())) == all);
}

TEST_F(Transmission, LengthOfZeroIsInvalidAndKeepsTheConnection) {
  for (const Command command : {Command::read, Command::write, Command::trim, Command::cache, Command::write_zeroes}) {
    EXPECT_EQ(client_.error_of(command, 0, 0, 0), EINVAL);
    EXPECT_EQ(client_.error_of(command, 0, kSize, 0), EINVAL);
  }
  EXPECT_TRUE(client_.serves());
}

TEST_F(Transmission, FlushHasNoRange) {
  EXPECT_EQ(client_.error_of(Command::flush, 0, 1, 0), EINVAL);
  EXPECT_EQ(client_.error_of(Command::flush, 0, 0, 1), EINVAL);
  EXPECT_TRUE(client_.serves());
}

TEST_F(Transmission, AnsweredWriteIsSeenByEveryConnection) {
  TestClient other = server_.enter("zram0");
  for (int i = 0; i < 100; ++i) {
    const std::string text = "write " + std::to_string(i);
    EXPECT_EQ(client_.write(1000, text), 0u);
    EXPECT_EQ(other.read(1000, static_cast<std::uint32_t>(text.size())), text);
  }
}

TEST_F(Transmission, WriteZeroesReadsBackAsZeroes) {
  for (const unsigned flags : {0u, unsigned{kNoHole}, unsigned{kFastZero}, unsigned{kNoHole | kFastZero | kFua}}) {
    EXPECT_EQ(client_.write(0, std::string(5 * kPage, 'x')), 0u);
    EXPECT_EQ(client_.error_of(Command::write_zeroes, static_cast<std::uint16_t>(flags), 100, 3 * kPage), 0u);
    EXPECT_EQ(client_.read(0, 5 * kPage),
              std::string(100, 'x') + std::string(3 * kPage, '\0') + std::string(2 * kPage - 100, 'x'));
  }
}

TEST_F(Transmission, WriteZeroesOfAHugeDeviceIsQuick) {
  server_.add("huge", std::uint64_t{1} << 40);
  TestClient client = server_.enter("huge");
  EXPECT_EQ(client.write(std::uint64_t{5} << 30, "here"), 0u);
  const auto start = std::chrono::steady_clock::now();
  for (std::uint64_t offset = 0; offset < std::uint64_t{64} << 30; offset += 0xfffff000) {
    EXPECT_EQ(client.error_of(Command::write_zeroes, kFua | kFastZero, offset, 0xffffffff), 0u);
    EXPECT_EQ(client.error_of(Command::trim, 0, offset, 0xffffffff), 0u);
  }
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(10));
  EXPECT_EQ(client.read(std::uint64_t{5} << 30, 4), zeroes(4));
}

TEST_F(Transmission, TrimRoundsInwards) {
  EXPECT_EQ(client_.write(0, std::string(4 * kPage, 'x')), 0u);
  EXPECT_EQ(client_.error_of(Command::trim, 0, 1, 3 * kPage), 0u);
  EXPECT_EQ(client_.read(0, 4 * kPage),
            std::string(kPage, 'x') + std::string(2 * kPage, '\0') + std::string(kPage, 'x'));
  EXPECT_EQ(client_.error_of(Command::trim, 0, 10, 100), 0u);
  EXPECT_EQ(client_.read(0, kPage), std::string(kPage, 'x'));
}

TEST_F(Transmission, CacheChangesNothing) {
  EXPECT_EQ(client_.write(0, "kept"), 0u);
  EXPECT_EQ(client_.error_of(Command::cache, 0, 0, 128 * kMiB), 0u);
  EXPECT_EQ(client_.read(0, 4), "kept");
}

TEST_F(Transmission, BlockStatusWithoutAContextIsInvalid) {
  EXPECT_EQ(client_.error_of(Command::block_status, 0, 0, kPage), EINVAL);
}

TEST_F(Transmission, WriteAtTheMemoryLimitIsEnospcAndKeepsTheOldPage) {
  server_.add("limited", kSize, 16 * kPage);
  TestClient client = server_.enter("limited");
  std::string noise(64 * kPage, '\0');
  std::uint32_t state = 1;
  for (char& byte : noise) byte = static_cast<char>((state = state * 1664525 + 1013904223) >> 24);
  EXPECT_EQ(client.write(0, noise.substr(0, kPage)), 0u);
  EXPECT_EQ(client.write(kPage, noise), static_cast<unsigned>(ENOSPC));
  EXPECT_EQ(client.write(0, noise.substr(7, kPage)), static_cast<unsigned>(ENOSPC));
  EXPECT_EQ(client.read(0, kPage), noise.substr(0, kPage));
  EXPECT_EQ(client.error_of(Command::trim, 0, kPage, 64 * kPage), 0u);
  EXPECT_EQ(client.write(kPage, noise.substr(0, kPage)), 0u);
}

TEST_F(Transmission, DisconnectFinishesWhatCameBefore) {
  Bytes batch;
  for (std::uint64_t i = 0; i < 50; ++i) {
    batch.put_text(request_bytes(Command::write, 0, i, i * 5000, 5000, std::string(5000, 'w')));
  }
  batch.put_text(request_bytes(Command::disconnect, 0, 99, 0, 0));
  batch.put_text(request_bytes(Command::flush, 0, 100, 0, 0));
  client_.send(batch);
  for (std::uint64_t i = 0; i < 50; ++i) {
    EXPECT_EQ(client_.receive_simple(), (SimpleAnswer{kSimpleReplyMagic, 0, i}));
  }
  EXPECT_TRUE(client_.closed());
  EXPECT_EQ(server_.enter().read(0, 250'000), std::string(250'000, 'w'));
}

TEST_F(Transmission, WrongMagicClosesThatConnectionOnly) {
  TestClient other = server_.enter();
  client_.send(Bytes().put(kRequestMagic + 1).put_text(std::string(24, '\0')));
  EXPECT_TRUE(client_.closed());
  EXPECT_TRUE(other.serves());
}

}  // namespace
}  // namespace uzram::nbd
