// What was freed is seen by nobody: not by another device, not by the same one, not through the parts of pages that
// were not written, and not through a reply.

#include <algorithm>

#include "tests/nbd_client.h"

namespace uzram::nbd {
namespace {

constexpr std::uint64_t kSize = 4 << 20;
constexpr std::uint32_t kPage = 4096;
constexpr std::string_view kSecret = "SECRET#";

// A page in which the secret stands all over: of noise for about `noisy` bytes, so that it becomes an object of any
// size.
std::string secret_page(std::size_t noisy, std::uint64_t& state) {
  std::string page;
  while (page.size() < kPage) page += kSecret;
  page.resize(kPage);
  for (std::size_t i = 0; i < noisy; ++i) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    if (i % 16 >= kSecret.size()) page[i] = static_cast<char>(state >> 32);
  }
  return page;
}

class Isolation : public testing::Test {
 protected:
  void fill_with_secrets(const std::string& name) {
    TestClient client = server_.enter(name);
    std::uint64_t state = 88172645463325252;
    for (std::uint64_t page = 0; page < kSize / kPage; ++page) {
      ASSERT_EQ(client.write(page * kPage, secret_page(page * 97 % (kPage + 1), state)), 0u);
    }
  }
  // Waits for the end of the last connection to it.
  void remove(const std::string& name) {
    while (!server_.devices().remove(name)) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  void reset(const std::string& name) {
    while (!server_.devices().reset(name)) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  // Touches one byte of every second page, of a partial range over two pages now and then, and reads everything.
  void expect_nothing_but_own(const std::string& name, bool structured) {
    std::string expected(kSize, '\0');
    TestClient writer = server_.enter(name);
    EXPECT_TRUE(writer.read(0, kSize) == expected);
    for (std::uint64_t at = 17; at < kSize; at += 2 * kPage + 131) {
      const std::string own(at % 3 == 0 ? 5000 : 1, 'o');
      const std::string fits = own.substr(0, kSize - at);
      ASSERT_EQ(writer.write(at, fits), 0u);
      expected.replace(at, fits.size(), fits);
    }
    EXPECT_TRUE(writer.read(0, kSize) == expected);
    if (!structured) return;
    TestClient reader = server_.enter(name, true);
    reader.send_request(Command::read, kDf, 1, 0, kSize);
    EXPECT_TRUE(reader.receive_chunk().data.substr(8) == expected);
    // Replies without data, and errors, hold nothing of what went through the buffers before.
    reader.send_request(Command::read, 0, 2, kSize, 1);
    EXPECT_EQ(reader.receive_chunk().data.find(kSecret), std::string::npos);
  }
  TestServer server_{kSize};
};

TEST_F(Isolation, RemovedDeviceLeavesNothingToTheNext) {
  for (int round = 0; round < 3; ++round) {
    server_.add("secret", kSize);
    fill_with_secrets("secret");
    remove("secret");
    server_.add("next", kSize);
    expect_nothing_but_own("next", true);
    remove("next");
  }
}

TEST_F(Isolation, ResetDeviceIsEmpty) {
  fill_with_secrets("zram0");
  reset("zram0");
  expect_nothing_but_own("zram0", true);
}

TEST_F(Isolation, DiscardedPagesAreZeroes) {
  fill_with_secrets("zram0");
  TestClient client = server_.enter("zram0");
  EXPECT_EQ(client.error_of(Command::trim, 0, 0, kSize), 0u);
  expect_nothing_but_own("zram0", true);
  EXPECT_EQ(client.error_of(Command::write_zeroes, 0, 0, kSize), 0u);
  EXPECT_TRUE(client.read(0, kSize) == std::string(kSize, '\0'));
}

TEST_F(Isolation, FreedObjectsAreNotSeenBesideLivingOnes) {
  // Every second page goes; what is written there lies in the zspages of those that stay.
  fill_with_secrets("zram0");
  TestClient client = server_.enter("zram0");
  const std::string before = client.read(0, kSize);
  for (std::uint64_t at = 0; at < kSize; at += 2 * kPage) {
    ASSERT_EQ(client.error_of(Command::trim, 0, at, kPage), 0u);
  }
  server_.add("beside", kSize);
  expect_nothing_but_own("beside", false);
  const std::string after = client.read(0, kSize);
  for (std::uint64_t at = 0; at < kSize; at += 2 * kPage) {
    ASSERT_EQ(after.find_first_not_of('\0', at), at + kPage);
    ASSERT_EQ(after.compare(at + kPage, kPage, before, at + kPage, kPage), 0);
  }
}

}  // namespace
}  // namespace uzram::nbd
