#include "blockdev/device.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "blockdev/same_filled.h"

namespace uzram {
namespace {

using Bytes = std::vector<std::byte>;

constexpr std::uint64_t kMiB = 1 << 20;

// Bytes that compress to about half: runs of a few values with noise between.
Bytes compressible(std::size_t size, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  Bytes bytes(size);
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(i % 64 < 24 ? random() : 0x20 + i % 7);
  return bytes;
}

Bytes incompressible(std::size_t size, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  Bytes bytes(size);
  for (std::byte& b : bytes) b = static_cast<std::byte>(random());
  return bytes;
}

Bytes repeated(std::uint64_t word, std::size_t pages = 1) {
  Bytes bytes(pages * kPageSize);
  for (std::size_t at = 0; at < bytes.size(); at += 8) std::memcpy(&bytes[at], &word, 8);
  return bytes;
}

class DeviceTest : public testing::Test {
 protected:
  void make(const DeviceOptions& options) {
    stream_.reset();
    device_.reset();
    auto made = Device::create(arena_, options);
    ASSERT_TRUE(made) << made.error().message;
    device_ = std::move(*made);
    stream_ = device_->make_stream();
  }
  void make(std::uint64_t size) { make({.size = size}); }

  IoResult write(std::uint64_t offset, const Bytes& bytes) {
    return device_->write(*stream_, ByteOffset{offset}, bytes);
  }
  Bytes read(std::uint64_t offset, std::size_t size) {
    Bytes bytes(size, std::byte{0xee});
    EXPECT_TRUE(device_->read(*stream_, ByteOffset{offset}, bytes));
    return bytes;
  }

  PageArena arena_{{}};
  std::unique_ptr<Device> device_;
  StreamPtr stream_;
};

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

// Random operations against a plain array.
TEST_F(DeviceTest, BehavesAsAPlainArray) {
  const auto seed = std::random_device{}();
  std::printf("seed %u\n", seed);
  std::mt19937_64 random(seed);
  for (const Geometry& geometry : {Geometry{}, Geometry{.rule = ChainRule::kernel, .chain = 8}}) {
    make({.size = 2 * kMiB,
          .codec = *CodecSpec::parse(random() % 2 == 0 ? "lz4" : "zstd(level=1)"),
          .geometry = geometry});
    Bytes model(2 * kMiB);
    for (unsigned step = 0; step < 4000; ++step) {
      const std::size_t offset = random() % model.size();
      const std::size_t size =
          std::min(model.size() - offset, std::size_t{1 + random() % (random() % 2 == 0 ? 100 : 40000)});
      const auto at = model.begin() + static_cast<std::ptrdiff_t>(offset);
      switch (random() % 8) {
        case 0:
        case 1:
        case 2: {
          Bytes bytes = random() % 3 == 0 ? incompressible(size, random()) : compressible(size, random());
          if (random() % 5 == 0) std::fill(bytes.begin(), bytes.end(), static_cast<std::byte>(random()));
          ASSERT_TRUE(write(offset, bytes));
          std::copy(bytes.begin(), bytes.end(), at);
          break;
        }
        case 3: {
          device_->discard(ByteOffset{offset}, size);
          const std::size_t first = (offset + kPageSize - 1) / kPageSize * kPageSize;
          const std::size_t end = (offset + size) / kPageSize * kPageSize;
          if (first < end)
            std::fill(model.begin() + static_cast<std::ptrdiff_t>(first),
                      model.begin() + static_cast<std::ptrdiff_t>(end), std::byte{0});
          break;
        }
        case 4:
          ASSERT_TRUE(device_->write_zeroes(*stream_, ByteOffset{offset}, size));
          std::fill_n(at, size, std::byte{0});
          break;
        case 5:
          if (step % 64 == 5) device_->compact();
          break;
        default:
          ASSERT_EQ(read(offset, size), Bytes(at, at + static_cast<std::ptrdiff_t>(size)));
      }
      if (step % 500 == 499) device_->check_invariants();
    }
    ASSERT_EQ(read(0, model.size()), model);
  }
}

// Every page always holds one whole version: its bytes say which page and which version they are.
Bytes version(std::uint64_t page, std::uint64_t n) {
  Bytes bytes = compressible(kPageSize, page * 1000 + n);
  std::memcpy(&bytes[0], &n, sizeof n);
  std::memcpy(&bytes[kPageSize - 8], &n, sizeof n);
  return bytes;
}

TEST_F(DeviceTest, EachPageIsOldOrNewToEveryReader) {
  make(kMiB);
  constexpr std::uint64_t kPages = 4;
  constexpr unsigned kVersions = 16;
  std::vector<std::vector<Bytes>> versions(kPages);
  for (std::uint64_t page = 0; page < kPages; ++page) {
    for (unsigned n = 0; n < kVersions; ++n) versions[page].push_back(version(page, n));
    ASSERT_TRUE(write(page * kPageSize, versions[page][0]));
  }
  std::atomic<unsigned> running{2};
  const auto writer = [&](unsigned seed) {
    std::mt19937 random(seed);
    const StreamPtr stream = device_->make_stream();
    for (unsigned i = 0; i < 3000; ++i) {
      const std::uint64_t page = random() % kPages;
      ASSERT_TRUE(device_->write(*stream, ByteOffset{page * kPageSize}, versions[page][random() % kVersions]));
    }
    --running;
  };
  const auto reader = [&] {
    const StreamPtr stream = device_->make_stream();
    Bytes out(kPages * kPageSize);
    while (running != 0) {
      ASSERT_TRUE(device_->read(*stream, ByteOffset{0}, out));
      for (std::uint64_t page = 0; page < kPages; ++page) {
        std::uint64_t n = 0;
        std::memcpy(&n, &out[page * kPageSize], sizeof n);
        ASSERT_LT(n, kVersions);
        ASSERT_EQ(std::memcmp(&out[page * kPageSize], versions[page][n].data(), kPageSize), 0);
      }
      device_->compact();
    }
  };
  std::vector<std::thread> threads;
  threads.emplace_back(writer, 1);
  threads.emplace_back(writer, 2);
  threads.emplace_back(reader);
  for (std::thread& t : threads) t.join();
  device_->check_invariants();
}

TEST_F(DeviceTest, TwoWritersOfOnePagesPartsBothSurvive) {
  make(kMiB);
  ASSERT_TRUE(write(0, compressible(kPageSize, 16)));
  const auto writer = [&](std::size_t half) {
    const StreamPtr stream = device_->make_stream();
    for (unsigned i = 0; i < 1000; ++i) {
      const Bytes bytes(2048, static_cast<std::byte>(i));
      ASSERT_TRUE(device_->write(*stream, ByteOffset{half * 2048}, bytes));
      Bytes out(2048);
      ASSERT_TRUE(device_->read(*stream, ByteOffset{half * 2048}, out));
      ASSERT_EQ(out, bytes);
    }
  };
  std::thread a(writer, 0);
  std::thread b(writer, 1);
  a.join();
  b.join();
  device_->check_invariants();
}

// Several threads on regions of their own, and one region that all of them write, with compaction beside.
TEST_F(DeviceTest, ManyThreadsKeepTheirBytesWhileItCompacts) {
  make(16 * kMiB);
  const auto seed = std::random_device{}();
  std::printf("seed %u\n", seed);
  std::atomic<unsigned> running{3};
  const auto work = [&](unsigned thread) {
    std::mt19937_64 random(seed + thread);
    const StreamPtr stream = device_->make_stream();
    const std::uint64_t base = thread * 4 * kMiB;
    Bytes model(kMiB);
    for (unsigned step = 0; step < 1500; ++step) {
      const std::size_t offset = random() % (model.size() - 20000);
      const std::size_t size = 1 + random() % 20000;
      const auto at = model.begin() + static_cast<std::ptrdiff_t>(offset);
      if (random() % 3 == 0) {
        ASSERT_TRUE(device_->write_zeroes(*stream, ByteOffset{base + offset}, size));
        std::fill_n(at, size, std::byte{0});
      } else {
        const Bytes bytes = compressible(size, random());
        ASSERT_TRUE(device_->write(*stream, ByteOffset{base + offset}, bytes));
        std::copy(bytes.begin(), bytes.end(), at);
      }
      Bytes out(size);
      ASSERT_TRUE(device_->read(*stream, ByteOffset{base + offset}, out));
      ASSERT_TRUE(std::equal(out.begin(), out.end(), at));
      ASSERT_TRUE(
          device_->write(*stream, ByteOffset{13 * kMiB + random() % 64 * kPageSize}, compressible(kPageSize, step)));
    }
    --running;
  };
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < 3; ++t) threads.emplace_back(work, t);
  while (running != 0) {
    device_->compact();
    (void)device_->stats();
  }
  for (std::thread& t : threads) t.join();
  device_->check_invariants();
}

}  // namespace
}  // namespace uzram
