#include "blockdev/nbd/shared_io.h"

#include <gtest/gtest.h>

#include "tests/device_fixture.h"

namespace uzram::nbd {
namespace {

using testing::Bytes;

class SharedIoTest : public testing::DeviceTest {
 protected:
  static constexpr std::size_t kBytes = 64 * kPageSize;

  // Writes kBytes by requests of `length`, executed together; how often this thread was let do something else.
  int times_meanwhile(SharedIo& io, std::size_t length) {
    for (std::size_t at = 0; at < kBytes; at += length) {
      io.put_off({.command = Command::write, .offset = at, .length = length}, std::span(bytes_).subspan(at, length));
    }
    int times = 0;
    std::size_t done = 0;
    io.execute(
        [&](const Request& request, const IoResult& result) {
          EXPECT_TRUE(result);
          EXPECT_EQ(request.offset, done * length);
          ++done;
        },
        [&] { ++times; });
    EXPECT_EQ(done, kBytes / length);
    return times;
  }

  const Bytes bytes_ = testing::compressible(kBytes, 1);
};

TEST_F(SharedIoTest, LetsItsThreadReceiveBetweenPiecesOfLongWrites) {
  make(kBytes);
  Crew crew;
  crew.start(1);
  SharedIo io(*device_, crew);
  // Once and after each piece of this thread's, which may have none where the helper is fast.
  constexpr int kMost = 1 + kBytes / kPageSize;
  int times = 0;
  for (int round = 0; times < 2 && round < 1000; ++round) {
    times = times_meanwhile(io, SharedIo::kWorthSharing);
    ASSERT_GE(times, 1);
    ASSERT_LE(times, kMost);
  }
  EXPECT_GE(times, 2);
  EXPECT_EQ(read(0, kBytes), bytes_);
}

TEST_F(SharedIoTest, LetsItsThreadReceiveOnceBesideShortWrites) {
  make(kBytes);
  Crew crew;
  crew.start(1);
  SharedIo io(*device_, crew);
  for (int round = 0; round < 20; ++round) ASSERT_EQ(times_meanwhile(io, 4 * kPageSize), 1);
  EXPECT_EQ(read(0, kBytes), bytes_);
}

TEST_F(SharedIoTest, DoesNothingElseAlone) {
  make(kBytes);
  Crew crew;
  SharedIo io(*device_, crew);
  EXPECT_EQ(times_meanwhile(io, kBytes), 0);
  EXPECT_EQ(read(0, kBytes), bytes_);
}

}  // namespace
}  // namespace uzram::nbd
