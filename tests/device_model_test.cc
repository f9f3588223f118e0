// The device against a plain array, and under several threads.

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstring>
#include <random>
#include <thread>
#include <vector>

#include "tests/device_fixture.h"

namespace uzram::testing {
namespace {

using DeviceModel = DeviceTest;

// Random operations against a plain array.
TEST_F(DeviceModel, BehavesAsAPlainArray) {
  const auto seed = std::random_device{}();
  std::printf("seed %u\n", seed);
  std::mt19937_64 random(seed);
  for (const Geometry& geometry : {Geometry{}, Geometry{.rule = ChainRule::kernel, .chain = 8}}) {
    make({.size = 2 * kMiB,
          .codec = *CodecSpec::parse(random() % 2 == 0 ? "lz4" : "zstd(level=1)"),
          .geometry = geometry});
    ASSERT_TRUE(device_->set_recompression(1, {Algorithm::lz4hc, 9}));
    ASSERT_TRUE(device_->set_recompression(3, {Algorithm::zstd, 9}));
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
          if (step % 64 == 21) {
            ASSERT_TRUE(device_->recompress({.priority = random() % 2 == 0 ? 1U : 3U}));
          }
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

TEST_F(DeviceModel, EachPageIsOldOrNewToEveryReader) {
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

TEST_F(DeviceModel, TwoWritersOfOnePagesPartsBothSurvive) {
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
TEST_F(DeviceModel, ManyThreadsKeepTheirBytesWhileItCompacts) {
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
}  // namespace uzram::testing
