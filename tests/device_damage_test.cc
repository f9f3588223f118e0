// What a device does when its memory is damaged, and how much of it pages that do not compress can take.

#include <set>

#include "tests/device_fixture.h"

namespace uzram {
namespace {

using testing::Bytes;
using testing::compressible;
using testing::DeviceTest;
using testing::incompressible;
using testing::kMiB;
using testing::repeated;

class DeviceDamage : public DeviceTest, public ::testing::WithParamInterface<const char*> {};

// Each bit of an object's header, and some of its payload's, of objects of every kind: packed, as they are, a pattern.
TEST_P(DeviceDamage, OneFlippedBitOfAnyObjectIsAnErrorThatIsCounted) {
  make({.size = 4 * kMiB, .codec = *CodecSpec::parse(GetParam())});
  ASSERT_TRUE(write(0, compressible(64 * kPageSize, 1)));
  ASSERT_TRUE(write(kMiB, incompressible(16 * kPageSize, 2)));
  ASSERT_TRUE(write(2 * kMiB, repeated(0x0123456789abcdef, 16)));
  std::vector<std::pair<Location, std::uint64_t>> objects;
  device_->pool().check_invariants([&](Location object, ObjectHeader header) {
    objects.emplace_back(object, static_cast<std::uint64_t>(header.owner) % (1ULL << 32));
  });
  ASSERT_EQ(objects.size(), 96u);
  std::mt19937_64 random(3);
  Bytes out(kPageSize);
  std::uint64_t flips = 0;
  for (const auto& [object, page] : objects) {
    const bool as_is = page >= kMiB / kPageSize && page < 2 * kMiB / kPageSize;
    const Bytes before = read(page * kPageSize, kPageSize);
    for (unsigned bit = 0; bit < 72; ++bit, ++flips) {
      const std::size_t at = as_is ? random() % kPageSize : bit / 8;
      arena_.bytes(object)[at] ^= std::byte{1} << bit % 8;
      EXPECT_EQ(device_->read(*stream_, ByteOffset{page * kPageSize}, out).error(), IoError::io);
      arena_.bytes(object)[at] ^= std::byte{1} << bit % 8;
    }
    EXPECT_EQ(read(page * kPageSize, kPageSize), before);
  }
  EXPECT_EQ(device_->stats().check_failures, flips);
  EXPECT_EQ(device_->stats().failed_reads, flips);
}

INSTANTIATE_TEST_SUITE_P(Codecs, DeviceDamage, ::testing::Values("lz4", "zstd"));

TEST_F(DeviceTest, IncompressiblePagesTakeNoMoreThanTheyAreHoweverOftenTheyAreWritten) {
  constexpr std::uint64_t kSize = 32 * kMiB;
  make(kSize);
  std::mt19937_64 random(4);
  for (unsigned round = 0; round < 4; ++round) {
    for (std::uint64_t at = 0; at < kSize; at += kMiB) ASSERT_TRUE(write(at, incompressible(kMiB, random())));
    EXPECT_EQ(device_->stats().mem_used_total, kSize);
    // The frames' entries are one frame in 256, the slots one in 512, and a batch of free frames is kept.
    const auto frames = arena_.stats().committed_frames;
    EXPECT_LE(frames, kSize / kFrameSize * 102 / 100 + 2 * PageArena::kReleaseBatch);
  }
}

}  // namespace
}  // namespace uzram
