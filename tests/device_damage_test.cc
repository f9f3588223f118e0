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

// Each bit of a slot of every kind, but for its lock: the page fails, whatever is done beside, until it is written
// anew; no other page is touched.
TEST_F(DeviceTest, OneFlippedBitOfAnySlotIsAnErrorUntilThePageIsWrittenAnew) {
  for (unsigned bit = 0; bit < 63; ++bit) {
    make(2 * kMiB);
    for (std::uint64_t page = 0; page < 16; ++page) {
      ASSERT_TRUE(write(page * kPageSize, page % 4 == 0   ? compressible(kPageSize, page)
                                          : page % 4 == 1 ? repeated(1)
                                          : page % 4 == 2 ? repeated(0)
                                                          : incompressible(kPageSize, page)));
    }
    const Bytes all = read(0, 16 * kPageSize);
    auto* const slots = this->slots();
    ASSERT_NE(slots, nullptr);
    for (std::uint64_t page = 4; page < 8; ++page) slots[page] ^= std::uint64_t{1} << bit;
    device_->mark_idle();
    device_->compact();
    Bytes out(kPageSize);
    for (std::uint64_t page = 4; page < 8; ++page) {
      EXPECT_EQ(device_->extent_at(ByteOffset{page * kPageSize}, kPageSize).kind, ExtentKind::data)
          << page << " " << bit;
      EXPECT_EQ(device_->read(*stream_, ByteOffset{page * kPageSize}, out).error(), IoError::io) << page << " " << bit;
    }
    for (std::uint64_t page = 4; page < 8; ++page) {
      const Bytes same(all.begin() + static_cast<std::ptrdiff_t>(page * kPageSize),
                       all.begin() + static_cast<std::ptrdiff_t>((page + 1) * kPageSize));
      ASSERT_TRUE(write(page * kPageSize, same));
    }
    device_->compact();
    EXPECT_EQ(read(0, all.size()), all) << bit;
  }
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
