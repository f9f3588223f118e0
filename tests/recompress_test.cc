// Recompression of a device: which pages it takes, what it makes of them, and that no byte changes.

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "blockdev/backing_file.h"
#include "tests/device_fixture.h"
#include "tests/device_load.h"

namespace uzram::testing {
namespace {

constexpr std::uint64_t kPages = 64;

// Bytes of 16 values, which LZ4 can hardly compress, and zstd to about half.
Bytes digits(std::size_t size, std::uint64_t seed) {
  Bytes bytes = incompressible(size, seed);
  for (std::byte& b : bytes) b &= std::byte{0x0f};
  return bytes;
}

class Recompress : public DeviceTest {
 protected:
  // Pages 0..15 are noise, 16..31 digits, 32..47 smaller with any algorithm, 48..55 of one word, the others empty.
  void fill(const DeviceOptions& options = {.size = kPages * kPageSize}) {
    make(options);
    expected_ = incompressible(16 * kPageSize, 1);
    for (const Bytes& part : {digits(16 * kPageSize, 2), compressible(16 * kPageSize, 3), repeated(0x12345, 8)}) {
      expected_.insert(expected_.end(), part.begin(), part.end());
    }
    ASSERT_TRUE(write(0, expected_));
    ASSERT_EQ(device_->stats().huge_pages, 32U);
    ASSERT_TRUE(device_->set_recompression(1, {Algorithm::zstd, 3}));
  }
  void expect_all() {
    EXPECT_EQ(read(0, expected_.size()), expected_);
    EXPECT_EQ(device_->scrub().damaged, 0U);
    device_->check_invariants();
  }
  [[nodiscard]] std::uint64_t huge() const { return device_->stats().huge_pages; }
  [[nodiscard]] std::uint64_t bytes() const { return device_->stats().compr_data_size; }

  Bytes expected_;
};

TEST_F(Recompress, EveryPageThatGetsSmallerIsKeptSo) {
  fill();
  const DeviceStats before = device_->stats();
  ASSERT_TRUE(device_->recompress({}));
  const DeviceStats after = device_->stats();
  EXPECT_EQ(after.huge_pages, 16U) << "the noise";
  EXPECT_EQ(after.huge_pages_since, before.huge_pages_since);
  EXPECT_EQ(after.orig_data_size, before.orig_data_size);
  EXPECT_LT(after.compr_data_size + 16 * 1500, before.compr_data_size);
  EXPECT_EQ(device_->page_extent_at(ByteOffset{16 * kPageSize}, kPageSize).kind, PageState::compressed);
  expect_all();
  EXPECT_EQ(read(20 * kPageSize + 100, 300),
            Bytes(expected_.begin() + 20 * kPageSize + 100, expected_.begin() + 20 * kPageSize + 400));
}

TEST_F(Recompress, MemoryIsFree) {
  make({.size = 4 * kMiB});
  expected_ = digits(4 * kMiB, 4);
  ASSERT_TRUE(write(0, expected_));
  ASSERT_TRUE(device_->set_recompression(1, {Algorithm::zstd, 3}));
  EXPECT_EQ(device_->stats().mem_used_total, 4 * kMiB);
  ASSERT_TRUE(device_->recompress({}));
  EXPECT_LT(device_->stats().mem_used_total, 4 * kMiB * 6 / 10);
  expect_all();
}

TEST_F(Recompress, PartsAreWrittenAndWhatIsWrittenHasTheFirstAlgorithmAgain) {
  fill();
  ASSERT_TRUE(device_->recompress({}));
  const Bytes patch = incompressible(5000, 9);
  ASSERT_TRUE(write(20 * kPageSize + 100, patch));
  std::copy(patch.begin(), patch.end(), expected_.begin() + 20 * kPageSize + 100);
  EXPECT_EQ(huge(), 18U);
  expect_all();
}

TEST_F(Recompress, TypesAreHugeAndIdleAndBoth) {
  fill();
  device_->mark_idle();
  (void)read(16 * kPageSize, 4 * kPageSize);  // pages 16..19 are not idle any more, nor is page 32
  (void)read(32 * kPageSize, 1);
  ASSERT_TRUE(device_->recompress({.huge = true, .idle = true}));
  EXPECT_EQ(huge(), 20U);
  const std::uint64_t left = bytes();
  ASSERT_TRUE(device_->recompress({.idle = true}));
  EXPECT_EQ(huge(), 20U);
  EXPECT_LT(bytes(), left);
  ASSERT_TRUE(device_->recompress({.huge = true}));
  EXPECT_EQ(huge(), 16U);
  expect_all();
}

TEST_F(Recompress, IdleMarkGoesWithTheAttempt) {
  fill();
  device_->mark_idle();
  ASSERT_TRUE(device_->recompress({.idle = true, .max_pages = 20}));  // the 16 of noise are among the largest, too
  ASSERT_TRUE(device_->recompress({.idle = true}));
  const std::uint64_t all = bytes();
  ASSERT_TRUE(device_->recompress({.idle = true}));
  EXPECT_EQ(bytes(), all);
  EXPECT_EQ(huge(), 16U);
  expect_all();
}

TEST_F(Recompress, LargestGoFirstAndAttemptsAreCounted) {
  fill();
  const std::uint64_t before = bytes();
  ASSERT_TRUE(device_->recompress({.max_pages = 32}));  // every huge page
  EXPECT_EQ(huge(), 16U);
  const std::uint64_t after = bytes();
  EXPECT_LT(after, before);
  // The noise is known to be incompressible, and is not tried again: this one is a smaller page.
  ASSERT_TRUE(device_->recompress({.max_pages = 1}));
  EXPECT_LT(bytes(), after);
  expect_all();
}

TEST_F(Recompress, WhatIsIncompressibleIsTriedAgainWhenItIsWrittenAnew) {
  fill();
  ASSERT_TRUE(device_->recompress({}));
  ASSERT_EQ(huge(), 16U);
  const Bytes fresh = digits(kPageSize, 7);
  ASSERT_TRUE(write(3 * kPageSize, fresh));
  std::copy(fresh.begin(), fresh.end(), expected_.begin() + 3 * kPageSize);
  ASSERT_TRUE(device_->recompress({.huge = true, .max_pages = 1}));
  EXPECT_EQ(huge(), 15U);
  expect_all();
}

TEST_F(Recompress, HigherPriorityTakesWhatALowerOneMadeAndNotTheOtherWayRound) {
  fill();
  ASSERT_TRUE(device_->set_recompression(2, {Algorithm::zstd, 19}));
  ASSERT_TRUE(device_->set_recompression(3, {Algorithm::lz4hc, 9}));
  ASSERT_TRUE(device_->recompress({.priority = 2}));
  const std::uint64_t made = bytes();
  ASSERT_TRUE(device_->recompress({.priority = 1}));
  EXPECT_EQ(bytes(), made);
  ASSERT_TRUE(device_->recompress({.priority = 3}));
  EXPECT_LE(bytes(), made);
  expect_all();
}

TEST_F(Recompress, OnlyTheHighestPriorityGivesUpForGood) {
  fill();
  ASSERT_TRUE(device_->set_recompression(2, {Algorithm::zstd, 19}));
  ASSERT_TRUE(device_->recompress({.huge = true, .priority = 1}));
  // The noise may still be tried: 16 attempts come to an end with it.
  const std::uint64_t before = bytes();
  ASSERT_TRUE(device_->recompress({.priority = 2, .max_pages = 16}));
  EXPECT_EQ(bytes(), before);
  ASSERT_TRUE(device_->recompress({.priority = 2, .max_pages = 16}));
  EXPECT_LE(bytes(), before);
  expect_all();
}

TEST_F(Recompress, ThresholdIsForWhatIsTakenAndForWhatBecomesOfIt) {
  fill();
  const std::uint64_t before = bytes();
  ASSERT_TRUE(device_->recompress({.threshold = 1000}));  // digits become 2 KiB and more
  EXPECT_EQ(huge(), 32U);
  EXPECT_EQ(bytes(), before);
  ASSERT_TRUE(device_->recompress({.threshold = 3000}));  // and the others are smaller
  EXPECT_EQ(huge(), 16U);
  const std::uint64_t after = bytes();
  EXPECT_LT(after, before);
  ASSERT_TRUE(device_->recompress({}));
  EXPECT_LT(bytes(), after);
  expect_all();
}

TEST_F(Recompress, WhatIsNotThereIsRefused) {
  fill();
  EXPECT_EQ(device_->recompress({.priority = 0}).error().code, EINVAL);
  EXPECT_EQ(device_->recompress({.priority = 2}).error().message, "no algorithm of priority 2 has been set");
  EXPECT_EQ(device_->recompress({.priority = 4}).error().code, EINVAL);
  const std::size_t most = device_->pool().classes().huge_class_size();
  EXPECT_EQ(device_->recompress({.threshold = most}).error().code, EINVAL);
  EXPECT_TRUE(device_->recompress({.threshold = most - 1}));
  for (const unsigned priority : {0U, 4U, ~0U}) {
    EXPECT_EQ(device_->set_recompression(priority, {}).error().code, EINVAL);
  }
  EXPECT_TRUE(device_->set_recompression(1, {Algorithm::zstd, 3}));
  const auto other = device_->set_recompression(1, {Algorithm::zstd, 4});
  ASSERT_FALSE(other);
  EXPECT_EQ(other.error().code, EBUSY);
  EXPECT_EQ(other.error().message, "priority 1 is zstd until the device is reset");
  expect_all();
}

TEST_F(Recompress, PassOfADeviceThatEndsIsCancelled) {
  fill();
  device_->end_passes();
  EXPECT_EQ(device_->recompress({}).error().code, ECANCELED);
  EXPECT_EQ(huge(), 32U);
  expect_all();
  device_->erase();
  EXPECT_TRUE(device_->recompress({})) << "finds it empty";
  EXPECT_TRUE(device_->set_recompression(2, {}));
}

TEST_F(Recompress, WithoutMemoryForWhatAPageBecomesItStaysAsItWas) {
  fill();
  device_->set_mem_limit(kPageSize);
  const auto done = device_->recompress({});
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code, ENOSPC);
  EXPECT_GT(huge(), 16U) << "some may have found room in zspages that there are";
  expect_all();
  device_->set_mem_limit(0);
  ASSERT_TRUE(device_->recompress({}));
  EXPECT_EQ(huge(), 16U);
  expect_all();
}

TEST_F(Recompress, DamagedPagesStayAsTheyAre) {
  fill();
  // Of every object behind the first frames a byte of the payload.
  auto* const arena = arena_.bytes(FrameNumber{1});
  std::size_t damaged = 0;
  for (std::size_t at = 0; at < 40 * kFrameSize; at += 8) {
    if (std::memcmp(arena + at, &expected_[17 * kPageSize + 64], 64) != 0) continue;
    arena[at] ^= std::byte{1};
    ++damaged;
  }
  ASSERT_EQ(damaged, 1U);
  ASSERT_TRUE(device_->recompress({}));
  EXPECT_EQ(device_->scrub().named, std::vector<PageIndex>{PageIndex{17}});
  Bytes page(kPageSize);
  EXPECT_FALSE(device_->read(*stream_, ByteOffset{17 * kPageSize}, page));
  ASSERT_TRUE(write(17 * kPageSize, Bytes(&expected_[17 * kPageSize], &expected_[18 * kPageSize])));
  expect_all();
}

TEST_F(Recompress, ZstdMayBeTheFirstAndLz4TheSecond) {
  make({.size = kPages * kPageSize, .codec = {Algorithm::zstd, -50}});
  expected_ = compressible(16 * kPageSize, 3);
  ASSERT_TRUE(write(0, expected_));
  ASSERT_TRUE(device_->set_recompression(1, {Algorithm::lz4hc, 12}));
  const std::uint64_t before = bytes();
  ASSERT_TRUE(device_->recompress({}));
  EXPECT_LT(bytes(), before);
  expect_all();
}

TEST_F(Recompress, IncompressiblePagesAreWrittenBackByTheirName) {
  namespace fs = std::filesystem;
  char name[] = "/var/tmp/uzram-recompress-XXXXXX";
  const fs::path folder = ::mkdtemp(name);
  {
    auto file = BackingFile::open(folder / "backing", 2 * kPages * kPageSize);
    ASSERT_TRUE(file) << file.error().message;
    fill({.size = kPages * kPageSize, .backing = file->get()});
    ASSERT_TRUE(device_->write_back({.incompressible = true}));
    EXPECT_EQ(device_->stats().bd_count, 0U) << "nothing has been recompressed yet";
    ASSERT_TRUE(device_->recompress({.huge = true}));
    ASSERT_TRUE(device_->write_back({.incompressible = true}));
    EXPECT_EQ(device_->stats().bd_count, 16U);
    ASSERT_TRUE(device_->recompress({}));  // written-back pages stay where they are
    EXPECT_EQ(device_->stats().bd_count, 16U);
    expect_all();
    stream_.reset();
    device_.reset();  // before the file
  }
  fs::remove_all(folder);
}

TEST_F(Recompress, BesideReadersAndWritersNothingIsLost) {
  fill();
  ASSERT_TRUE(device_->set_recompression(2, {Algorithm::zstd, 9}));
  unsigned passes = 0;
  unsigned useful = 0;
  const auto draw = [](std::size_t size, std::mt19937_64& random) {
    return random() % 4 == 0 ? incompressible(size, random()) : digits(size, random());
  };
  beside_load(*device_, kPages, draw, [&] {
    const std::uint64_t before = huge();
    device_->mark_idle();
    ASSERT_TRUE(device_->recompress({.idle = ++passes % 2 == 0, .priority = 1}));
    ASSERT_TRUE(device_->recompress({.priority = 2}));
    if (huge() < before) ++useful;
    device_->compact();
  });
  EXPECT_GT(useful, 0U);
}

}  // namespace
}  // namespace uzram::testing
