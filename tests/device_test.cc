// The device's semantics, one fact a test.

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <random>
#include <vector>

#include "tests/device_fixture.h"

namespace uzram::testing {
namespace {

TEST_F(DeviceTest, UnwrittenPagesReadAsZeroes) {
  make(kMiB);
  EXPECT_EQ(read(0, 3 * kPageSize), Bytes(3 * kPageSize));
  EXPECT_EQ(read(kMiB - 100, 100), Bytes(100));
  EXPECT_EQ(device_->stats().orig_data_size, 0U);
}

TEST_F(DeviceTest, WhatWasWrittenIsRead) {
  for (const char* algorithm : {"lz4", "lz4hc", "zstd", "zstd(level=1)"}) {
    make({.size = kMiB, .codec = *CodecSpec::parse(algorithm)});
    const Bytes bytes = compressible(64 * kPageSize, 1);
    ASSERT_TRUE(write(8 * kPageSize, bytes));
    EXPECT_EQ(read(8 * kPageSize, bytes.size()), bytes);
    const DeviceStats stats = device_->stats();
    EXPECT_EQ(stats.orig_data_size, bytes.size());
    EXPECT_LT(stats.compr_data_size, bytes.size() * 3 / 4);
    EXPECT_GE(stats.mem_used_total, stats.compr_data_size);
    device_->check_invariants();
  }
}

TEST_F(DeviceTest, IncompressiblePagesAreKeptAsTheyAre) {
  make(kMiB);
  const Bytes bytes = incompressible(16 * kPageSize, 2);
  ASSERT_TRUE(write(0, bytes));
  EXPECT_EQ(read(0, bytes.size()), bytes);
  EXPECT_EQ(device_->stats().huge_pages, 16U);
  EXPECT_EQ(device_->stats().compr_data_size, bytes.size());
  EXPECT_EQ(device_->stats().mem_used_total, bytes.size()) << "no growth beyond the pages themselves";
  ASSERT_TRUE(write(0, compressible(kPageSize, 3)));
  EXPECT_EQ(device_->stats().huge_pages, 15U);
  EXPECT_EQ(device_->stats().huge_pages_since, 16U);
}

TEST_F(DeviceTest, SameFilledPagesUseNoMemory) {
  make(kMiB);
  for (const std::uint64_t word : {std::uint64_t{0}, ~std::uint64_t{0}, std::uint64_t{0x4242424242424242}}) {
    ASSERT_TRUE(write(0, repeated(word)));
    EXPECT_EQ(read(0, kPageSize), repeated(word));
    EXPECT_EQ(device_->stats().same_pages, 1U);
    EXPECT_EQ(device_->stats().mem_used_total, 0U);
    EXPECT_EQ(device_->stats().orig_data_size, kPageSize);
  }
}

TEST_F(DeviceTest, AnyRepeatedWordIsSameFilled) {
  make(kMiB);
  const Bytes bytes = repeated(0x0123456789abcdef, 8);
  ASSERT_TRUE(write(0, bytes));
  EXPECT_EQ(read(0, bytes.size()), bytes);
  EXPECT_EQ(device_->stats().same_pages, 8U);
  EXPECT_EQ(device_->stats().compr_data_size, 8 * 8U) << "an object of the word's 8 bytes each";
  device_->check_invariants();
}

TEST_F(DeviceTest, PagesThatDifferInOneByteAreNotSameFilled) {
  make(kMiB);
  for (const std::size_t at : {std::size_t{0}, std::size_t{1}, std::size_t{2048}, kPageSize - 1}) {
    Bytes bytes = repeated(0x2020202020202020);
    bytes[at] = std::byte{0x21};
    ASSERT_TRUE(write(0, bytes));
    EXPECT_EQ(read(0, kPageSize), bytes);
    EXPECT_EQ(device_->stats().same_pages, 0U);
  }
}

TEST_F(DeviceTest, PartsOfPagesAreReadAndWrittenAtAnyOffset) {
  make(kMiB);
  Bytes expected = compressible(4 * kPageSize, 4);
  ASSERT_TRUE(write(0, expected));
  for (const auto& [offset, size] : {std::pair<std::size_t, std::size_t>{1, 1},
                                     {4095, 2},
                                     {4095, 4098},
                                     {100, 12000},
                                     {8191, 1},
                                     {4096, 100},
                                     {8000, 192}}) {
    const Bytes patch = incompressible(size, offset);
    ASSERT_TRUE(write(offset, patch));
    std::copy(patch.begin(), patch.end(), expected.begin() + static_cast<std::ptrdiff_t>(offset));
    EXPECT_EQ(read(offset, size), patch);
    EXPECT_EQ(read(0, expected.size()), expected);
  }
}

TEST_F(DeviceTest, DiscardFreesWholePagesOnly) {
  make(kMiB);
  Bytes expected = compressible(8 * kPageSize, 5);
  ASSERT_TRUE(write(0, expected));
  device_->discard(ByteOffset{kPageSize - 1}, 2 * kPageSize + 2);
  std::fill(expected.begin() + kPageSize, expected.begin() + 3 * kPageSize, std::byte{0});
  EXPECT_EQ(read(0, expected.size()), expected);
  EXPECT_EQ(device_->stats().notify_free, 2U);
  EXPECT_EQ(device_->stats().orig_data_size, 6 * kPageSize);
  device_->discard(ByteOffset{10}, 100);
  EXPECT_EQ(read(0, expected.size()), expected);
  device_->discard(ByteOffset{0}, kMiB);
  EXPECT_EQ(device_->stats().mem_used_total, 0U);
  device_->check_invariants();
}

TEST_F(DeviceTest, WriteZeroesReadsBackZeroAtAnyOffset) {
  make(kMiB);
  Bytes expected = compressible(8 * kPageSize, 6);
  for (const auto& [offset, size] :
       {std::pair<std::size_t, std::size_t>{10, 20}, {4095, 2}, {4095, 8194}, {4096, 8192}, {0, 8 * kPageSize}}) {
    ASSERT_TRUE(write(0, expected));
    ASSERT_TRUE(device_->write_zeroes(*stream_, ByteOffset{offset}, size));
    Bytes zeroed = expected;
    std::fill_n(zeroed.begin() + static_cast<std::ptrdiff_t>(offset), size, std::byte{0});
    EXPECT_EQ(read(0, zeroed.size()), zeroed);
  }
  EXPECT_EQ(device_->stats().mem_used_total, 0U);
}

TEST_F(DeviceTest, ZeroingWhatIsEmptyStoresNothing) {
  make(kMiB);
  ASSERT_TRUE(device_->write_zeroes(*stream_, ByteOffset{100}, 10000));
  EXPECT_EQ(device_->stats().orig_data_size, 0U);
}

TEST_F(DeviceTest, ExtentsTellHolesZeroesAndData) {
  make(16 * kMiB);
  ASSERT_TRUE(write(5 * kPageSize, compressible(2 * kPageSize, 7)));
  ASSERT_TRUE(write(7 * kPageSize, Bytes(kPageSize)));
  const auto extent = [&](std::uint64_t offset) {
    const Extent e = device_->extent_at(ByteOffset{offset}, 16 * kMiB - offset);
    return std::pair(e.kind, e.length);
  };
  EXPECT_EQ(extent(0), std::pair(ExtentKind::hole, 5 * kPageSize));
  EXPECT_EQ(extent(5 * kPageSize + 10), std::pair(ExtentKind::data, 2 * kPageSize - 10));
  EXPECT_EQ(extent(7 * kPageSize), std::pair(ExtentKind::zero, kPageSize));
  EXPECT_EQ(extent(8 * kPageSize), std::pair(ExtentKind::hole, 16 * kMiB - 8 * kPageSize));
  EXPECT_EQ(device_->extent_at(ByteOffset{5 * kPageSize}, 100).length, 100U);
}

TEST_F(DeviceTest, FailedWriteKeepsOldPage) {
  make({.size = kMiB, .mem_limit = 8 * kPageSize});
  const Bytes old = compressible(kPageSize, 8);
  ASSERT_TRUE(write(0, old));
  std::uint64_t stored = 1;
  while (write(stored * kPageSize, incompressible(kPageSize, stored))) ++stored;
  EXPECT_GT(stored, 3U);
  EXPECT_EQ(write(0, incompressible(kPageSize, 99)).error(), IoError::no_space);
  EXPECT_EQ(write(10, incompressible(4000, 99)).error(), IoError::no_space);
  EXPECT_EQ(read(0, kPageSize), old);
  EXPECT_EQ(device_->stats().failed_writes, 3U);
  EXPECT_LE(device_->stats().mem_used_max, 8 * kPageSize);
  device_->check_invariants();
  device_->discard(ByteOffset{kPageSize}, kPageSize);
  EXPECT_TRUE(write(0, incompressible(kPageSize, 99))) << "a trim makes room again";
}

TEST_F(DeviceTest, RaisingTheLimitLetsWritesThrough) {
  make({.size = kMiB, .mem_limit = kPageSize});
  ASSERT_TRUE(write(0, incompressible(kPageSize, 1)));
  ASSERT_FALSE(write(kPageSize, incompressible(kPageSize, 2)));
  EXPECT_TRUE(device_->can_run_full());
  device_->set_mem_limit(0);
  EXPECT_FALSE(device_->can_run_full());
  EXPECT_TRUE(write(kPageSize, incompressible(kPageSize, 2)));
  EXPECT_EQ(device_->stats().mem_used_max, 2 * kPageSize);
  device_->discard(ByteOffset{0}, kMiB);
  device_->reset_mem_used_max();
  EXPECT_EQ(device_->stats().mem_used_max, 0U);
}

TEST_F(DeviceTest, RefusesSizesOutOfRange) {
  EXPECT_EQ(Device::create(arena_, {.size = 0}).error().code, EINVAL);
  EXPECT_EQ(Device::create(arena_, {.size = kMaxDeviceBytes + 1}).error().code, EINVAL);
  EXPECT_EQ(Device::create(arena_, {.size = kMiB, .geometry = {.chain = 3}}).error().code, EINVAL);
  EXPECT_EQ(Device::create(arena_, {.size = kMiB, .geometry = {.chain = 17}}).error().code, EINVAL);
  make(1);
  EXPECT_EQ(device_->size(), kPageSize) << "rounded up to a page";
}

TEST_F(DeviceTest, TheLargestDeviceCostsNothingUntilItIsWritten) {
  const auto start = std::chrono::steady_clock::now();
  make(kMaxDeviceBytes);
  EXPECT_EQ(arena_.stats().committed_frames, PageArena::kChunkFrames) << "the least there is";
  const Bytes bytes = compressible(kPageSize, 9);
  ASSERT_TRUE(write(kMaxDeviceBytes - kPageSize, bytes));
  ASSERT_TRUE(write(kMaxDeviceBytes / 2, bytes));
  EXPECT_EQ(read(kMaxDeviceBytes - kPageSize, kPageSize), bytes);
  EXPECT_LE(device_->stats().table_memory, 6 * kFrameSize);
  device_->discard(ByteOffset{0}, kMaxDeviceBytes);
  EXPECT_EQ(device_->stats().orig_data_size, 0U);
  EXPECT_EQ(device_->extent_at(ByteOffset{0}, kMaxDeviceBytes).length, kMaxDeviceBytes);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(1)) << "not a walk over 2^32 pages";
}

TEST_F(DeviceTest, ADamagedObjectFailsItsPageOnly) {
  make(kMiB);
  const Bytes bytes = compressible(3 * kPageSize, 10);
  ASSERT_TRUE(write(0, bytes));
  // Find the objects, and flip one bit of the second page's.
  Location damaged = Location::none;
  device_->pool().check_invariants([&](Location object, ObjectHeader header) {
    if (header.owner == Owner{1}) damaged = object;
  });
  ASSERT_NE(damaged, Location::none);
  arena_.bytes(damaged)[100] ^= std::byte{4};
  Bytes out(kPageSize);
  EXPECT_EQ(device_->read(*stream_, ByteOffset{kPageSize}, out).error(), IoError::io);
  EXPECT_EQ(write(kPageSize + 5, Bytes(10)).error(), IoError::io) << "part of it cannot be replaced either";
  EXPECT_EQ(device_->stats().check_failures, 2U);
  EXPECT_EQ(device_->stats().failed_reads, 1U);
  EXPECT_EQ(read(0, kPageSize), Bytes(bytes.begin(), bytes.begin() + kPageSize));
  ASSERT_TRUE(write(kPageSize, bytes)) << "a whole new page heals it";
  EXPECT_EQ(read(kPageSize, kPageSize), Bytes(bytes.begin(), bytes.begin() + kPageSize));
}

TEST_F(DeviceTest, WithoutTheCheckDamageIsNeverReadOutOfBounds) {
  make({.size = 4 * kMiB, .check = false});
  std::mt19937_64 random(11);
  ASSERT_TRUE(write(0, compressible(512 * kPageSize, 11)));
  device_->pool().check_invariants([&](Location object, ObjectHeader) {
    for (unsigned i = 0; i < 4; ++i)
      arena_.bytes(object)[8 + random() % 64] ^= static_cast<std::byte>(1 + random() % 255);
  });
  Bytes out(kPageSize);
  for (unsigned page = 0; page < 512; ++page) {
    const IoResult result = device_->read(*stream_, ByteOffset{page * kPageSize}, out);
    EXPECT_TRUE(result || result.error() == IoError::io);
  }
}

TEST_F(DeviceTest, OverwritesReturnWhatTheyReplace) {
  make(64 * kMiB);
  std::mt19937_64 random(12);
  for (unsigned round = 0; round < 4; ++round) {
    for (std::uint64_t page = 0; page < 2000; ++page) {
      ASSERT_TRUE(write(page * kPageSize,
                        random() % 3 == 0 ? incompressible(kPageSize, random()) : compressible(kPageSize, random())));
    }
  }
  device_->check_invariants();
  EXPECT_EQ(device_->stats().orig_data_size, 2000 * kPageSize);
}

TEST_F(DeviceTest, MovedObjectsAreRead) {
  make(16 * kMiB);
  const Bytes bytes = compressible(4096 * kPageSize, 13);
  ASSERT_TRUE(write(0, bytes));
  for (std::uint64_t page = 0; page < 4096; page += 2) device_->discard(ByteOffset{page * kPageSize}, kPageSize);
  const std::uint64_t before = device_->stats().mem_used_total;
  EXPECT_GT(device_->compact(), 0U);
  EXPECT_LT(device_->stats().mem_used_total, before);
  EXPECT_GT(device_->stats().pages_compacted, 0U);
  device_->check_invariants();
  for (std::size_t page = 1; page < 4096; page += 2) {
    const auto* expected = &bytes[page * kPageSize];
    ASSERT_EQ(read(page * kPageSize, kPageSize), Bytes(expected, expected + kPageSize));
  }
}

TEST_F(DeviceTest, ADestroyedDeviceGivesItsMemoryBack) {
  make(64 * kMiB);
  const std::uint64_t free_before = arena_.stats().free_frames;
  ASSERT_TRUE(write(0, compressible(16 * kMiB, 14)));
  stream_.reset();
  device_.reset();
  const auto stats = arena_.stats();
  EXPECT_LT(stats.committed_frames, 2 * PageArena::kReleaseBatch + 64U) << free_before;
}

TEST_F(DeviceTest, BytesOfOneDeviceNeverShowOnAnother) {
  make(4 * kMiB);
  ASSERT_TRUE(write(0, repeated(0x5345435245545345, 512)));
  ASSERT_TRUE(write(0, incompressible(4 * kMiB, 15)));
  make(4 * kMiB);  // from the same arena: the frames come again
  EXPECT_EQ(read(0, 4 * kMiB), Bytes(4 * kMiB));
  ASSERT_TRUE(write(100, Bytes(1, std::byte{1})));
  Bytes expected(4 * kMiB);
  expected[100] = std::byte{1};
  EXPECT_EQ(read(0, 4 * kMiB), expected);
}

}  // namespace
}  // namespace uzram::testing
