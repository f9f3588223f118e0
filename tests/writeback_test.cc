// Written-back pages of a device: which go, how they are read and freed, and what happens when the file fails.

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <thread>

#include "blockdev/backing_file.h"
#include "tests/device_fixture.h"
#include "tests/device_load.h"

namespace uzram::testing {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kPages = 64;

const WritebackRequest kHuge{.huge = true, .idle = false, .pages = {}};
const WritebackRequest kIdle{.huge = false, .idle = true, .pages = {}};
const WritebackRequest kHugeIdle{.huge = true, .idle = true, .pages = {}};

class Writeback : public DeviceTest {
 protected:
  Writeback() {
    char name[] = "/var/tmp/uzram-writeback-XXXXXX";
    folder_ = ::mkdtemp(name);
    path_ = folder_ / "backing";
  }
  ~Writeback() override {
    stream_.reset();
    device_.reset();
    fs::remove_all(folder_);
  }

  // A device of kPages pages: 0..15 incompressible, 16..31 compressible, 32..47 of one word, the others empty.
  void fill(std::uint64_t blocks = 2 * kPages, bool check = true) {
    stream_.reset();
    device_.reset();  // before the file that it writes back to
    auto file = BackingFile::open(path_, blocks * kPageSize);
    ASSERT_TRUE(file) << file.error().message;
    backing_ = std::move(*file);
    make({.size = kPages * kPageSize, .check = check, .backing = backing_.get()});
    expected_ = incompressible(16 * kPageSize, 1);
    for (const Bytes& part : {compressible(16 * kPageSize, 2), repeated(0x1234567812345678, 16), repeated(0, 16)}) {
      expected_.insert(expected_.end(), part.begin(), part.end());
    }
    ASSERT_TRUE(write(0, Bytes(expected_.begin(), expected_.begin() + 48 * kPageSize)));
  }
  Result<void> write_back(const WritebackRequest& request) { return device_->write_back(request); }
  void limit(std::uint64_t pages) {
    device_->writeback_limit().pages = pages;
    device_->writeback_limit().enabled = true;
  }
  [[nodiscard]] std::uint64_t away() const { return device_->stats().bd_count; }
  [[nodiscard]] PageState state(std::uint64_t page) const {
    return device_->page_extent_at(ByteOffset{page * kPageSize}, kPageSize).kind;
  }
  void expect_all() {
    EXPECT_EQ(read(0, expected_.size()), expected_);
    device_->check_invariants();
  }
  static WritebackRequest pages(std::uint64_t first, std::uint64_t last) {
    return {.huge = false, .idle = false, .pages = {{PageIndex{first}, PageIndex{last}}}};
  }
  // Takes them all.
  [[nodiscard]] std::uint64_t free_blocks() const {
    std::uint64_t all = 0;
    for (BackingFile::Run run = backing_->allocate(1000); run.count != 0; run = backing_->allocate(1000)) {
      all += run.count;
    }
    return all;
  }
  // Changes a byte of every block behind the device's back.
  void damage_file() const {
    std::fstream file(path_, std::ios::binary | std::ios::in | std::ios::out);
    for (std::uint64_t at = kPageSize + 100; at < fs::file_size(path_); at += kPageSize) {
      file.seekg(static_cast<std::streamoff>(at));
      const char byte = static_cast<char>(file.get() ^ 1);
      file.seekp(static_cast<std::streamoff>(at));
      file.put(byte);
    }
    ASSERT_TRUE(file.flush());
  }

  fs::path folder_;
  fs::path path_;
  std::unique_ptr<BackingFile> backing_;
  Bytes expected_;
};

TEST_F(Writeback, HugePagesGoAndAreReadBack) {
  fill();
  const std::uint64_t before = device_->stats().mem_used_total;
  ASSERT_TRUE(write_back(kHuge));
  const DeviceStats stats = device_->stats();
  EXPECT_EQ(stats.bd_count, 16U);
  EXPECT_EQ(stats.bd_writes, 16U);
  EXPECT_EQ(stats.bd_reads, 0U);
  EXPECT_EQ(stats.huge_pages, 0U);
  EXPECT_EQ(stats.orig_data_size, 48 * kPageSize);
  EXPECT_EQ(before - stats.mem_used_total, 16 * kPageSize);
  EXPECT_EQ(state(0), PageState::written_back);
  EXPECT_EQ(state(16), PageState::compressed);
  EXPECT_EQ(device_->extent_at(ByteOffset{0}, kPageSize).kind, ExtentKind::data);
  expect_all();
  EXPECT_EQ(device_->stats().bd_reads, 16U);
  EXPECT_EQ(away(), 16U);  // reading does not bring them back
}

TEST_F(Writeback, IdleIsWhatNobodyTouchesAfterTheMark) {
  fill();
  ASSERT_TRUE(write_back(kIdle));
  EXPECT_EQ(away(), 0U);
  device_->mark_idle();
  device_->check_invariants();
  (void)read(0, 4 * kPageSize);  // pages 0..3 are read,
  ASSERT_TRUE(write(4 * kPageSize, Bytes(expected_.begin() + 4 * kPageSize, expected_.begin() + 6 * kPageSize)));
  (void)read(16 * kPageSize + 5, 10);  // a part of page 16 is,
  ASSERT_TRUE(
      write(17 * kPageSize + 7, Bytes(expected_.begin() + 17 * kPageSize + 7, expected_.begin() + 17 * kPageSize + 9)));
  ASSERT_TRUE(write_back(kHugeIdle));
  EXPECT_EQ(away(), 10U);
  ASSERT_TRUE(write_back(kIdle));
  EXPECT_EQ(away(), 24U);
  for (const std::uint64_t page : {0U, 3U, 4U, 5U}) EXPECT_EQ(state(page), PageState::huge) << page;
  for (const std::uint64_t page : {16U, 17U}) EXPECT_EQ(state(page), PageState::compressed) << page;
  for (const std::uint64_t page : {32U, 47U}) EXPECT_EQ(state(page), PageState::same_filled) << page;
  expect_all();
}

TEST_F(Writeback, CompactionAndScrubKeepTheMark) {
  fill();
  device_->mark_idle();
  device_->discard(ByteOffset{16 * kPageSize}, 8 * kPageSize);
  std::fill_n(expected_.begin() + 16 * kPageSize, 8 * kPageSize, std::byte{0});
  device_->compact();
  EXPECT_EQ(device_->scrub().damaged, 0U);
  ASSERT_TRUE(write_back(kIdle));
  EXPECT_EQ(away(), 24U);
  expect_all();
}

TEST_F(Writeback, NamedPagesGoWhateverTheyAre) {
  fill();
  ASSERT_TRUE(write_back(pages(15, 17)));
  EXPECT_EQ(away(), 3U);
  EXPECT_EQ(state(14), PageState::huge);
  EXPECT_EQ(state(15), PageState::written_back);
  EXPECT_EQ(state(17), PageState::written_back);
  ASSERT_TRUE(write_back(pages(30, 63)));  // same-filled and empty ones stay
  EXPECT_EQ(away(), 5U);
  expect_all();
}

TEST_F(Writeback, PagesThatDoNotExistAreRefused) {
  fill();
  EXPECT_EQ(write_back(pages(0, kPages)).error().code, ERANGE);
  EXPECT_EQ(write_back(pages(0, ~std::uint64_t{0})).error().code, ERANGE);
  EXPECT_EQ(write_back(pages(2, 1)).error().code, ERANGE);
  EXPECT_EQ(away(), 0U);
  expect_all();
}

TEST_F(Writeback, WithoutAFileThereIsNone) {
  make(kPages * kPageSize);
  const auto done = write_back(kHuge);
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code, ENODEV);
}

TEST_F(Writeback, OverwriteDiscardAndZeroesFreeTheBlock) {
  fill();
  ASSERT_TRUE(write_back(pages(0, 31)));
  ASSERT_EQ(away(), 32U);
  const Bytes other = incompressible(kPageSize, 9);
  ASSERT_TRUE(write(0, other));
  std::copy(other.begin(), other.end(), expected_.begin());
  device_->discard(ByteOffset{kPageSize}, 2 * kPageSize);
  ASSERT_TRUE(device_->write_zeroes(*stream_, ByteOffset{3 * kPageSize}, kPageSize));
  std::fill_n(expected_.begin() + kPageSize, 3 * kPageSize, std::byte{0});
  EXPECT_EQ(away(), 28U);
  expect_all();
  device_->discard(ByteOffset{0}, kPages * kPageSize);
  EXPECT_EQ(away(), 0U);
  EXPECT_EQ(free_blocks(), 2 * kPages - 1);
}

TEST_F(Writeback, RemovedDeviceFreesItsBlocks) {
  fill();
  ASSERT_TRUE(write_back(pages(0, 31)));
  device_->erase();
  EXPECT_EQ(free_blocks(), 2 * kPages - 1);
  EXPECT_TRUE(write_back(pages(0, 31)));  // finds it empty
  device_->mark_idle();
}

TEST_F(Writeback, PartsOfAWrittenBackPageAreRead) {
  fill();
  ASSERT_TRUE(write_back(pages(0, 31)));
  EXPECT_EQ(read(kPageSize - 3, 7), Bytes(expected_.begin() + kPageSize - 3, expected_.begin() + kPageSize + 4));
}

TEST_F(Writeback, PartsOfAWrittenBackPageAreWritten) {
  fill();
  ASSERT_TRUE(write_back(pages(0, 31)));
  const Bytes patch = incompressible(6000, 11);
  ASSERT_TRUE(write(15 * kPageSize + 1000, patch));
  std::copy(patch.begin(), patch.end(), expected_.begin() + 15 * kPageSize + 1000);
  EXPECT_EQ(away(), 30U);
  expect_all();
}

TEST_F(Writeback, FullFileKeepsTheRestInMemory) {
  fill(8);  // a header and seven pages
  const auto done = write_back(kHuge);
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code, ENOSPC);
  EXPECT_EQ(away(), 7U);
  expect_all();
  // The others have not kept the mark of a pass that failed.
  ASSERT_FALSE(write_back(kHuge));
  EXPECT_EQ(away(), 7U);
  expect_all();
}

TEST_F(Writeback, LimitIsCountedDownAndHolds) {
  fill();
  limit(20);
  ASSERT_TRUE(write_back(kHuge));
  EXPECT_EQ(device_->writeback_limit().pages, 4U);
  const auto done = write_back(pages(0, 31));
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code, EIO);
  EXPECT_EQ(away(), 20U);
  EXPECT_EQ(device_->writeback_limit().pages, 0U);
  device_->writeback_limit().enabled = false;
  ASSERT_TRUE(write_back(pages(0, 31)));
  EXPECT_EQ(away(), 32U);
  expect_all();
}

TEST_F(Writeback, FullFileDoesNotCostTheLimit) {
  fill(8);
  limit(20);
  EXPECT_EQ(write_back(kHuge).error().code, ENOSPC);
  EXPECT_EQ(device_->writeback_limit().pages, 13U);
}

TEST_F(Writeback, LargestObjectsGoFirst) {
  fill();
  limit(16);
  EXPECT_EQ(write_back(pages(0, 63)).error().code, EIO);
  for (std::uint64_t page = 0; page < 16; ++page) EXPECT_EQ(state(page), PageState::written_back) << page;
  for (std::uint64_t page = 16; page < 32; ++page) EXPECT_EQ(state(page), PageState::compressed) << page;
}

TEST_F(Writeback, FileThatCannotBeWrittenLosesNothing) {
  fill();
  // A limit on the size of files, which ends before the first page.
  struct rlimit before {};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  struct rlimit none = before;
  none.rlim_cur = kPageSize;
  struct sigaction ignore {};
  struct sigaction old {};
  ignore.sa_handler = SIG_IGN;
  ASSERT_EQ(::sigaction(SIGXFSZ, &ignore, &old), 0);
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &none), 0);
  limit(100);
  const auto done = write_back(kHuge);
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  ASSERT_EQ(::sigaction(SIGXFSZ, &old, nullptr), 0);
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code, EFBIG);
  EXPECT_EQ(done.error().message, "cannot write to " + path_.string() + ": File too large");
  EXPECT_EQ(away(), 0U);
  EXPECT_EQ(device_->writeback_limit().pages, 100U);
  expect_all();
  ASSERT_TRUE(write_back(kHuge));
  EXPECT_EQ(away(), 16U);
  expect_all();
}

TEST_F(Writeback, PassOfADeviceThatEndsIsCancelled) {
  fill();
  device_->end_passes();
  EXPECT_EQ(write_back(kHuge).error().code, ECANCELED);
  EXPECT_EQ(away(), 0U);
  expect_all();
}

TEST_F(Writeback, SecondPassBesideTheFirstIsRefused) {
  fill();
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  std::atomic<bool> refused{false};
  const auto pass = [&] {
    while (!refused && std::chrono::steady_clock::now() < end) {
      const auto done = write_back(pages(0, 31));
      if (done) continue;
      EXPECT_EQ(done.error().code, EAGAIN);
      refused = true;
    }
  };
  std::thread other(pass);
  pass();
  other.join();
  EXPECT_TRUE(refused);
  expect_all();
}

TEST_F(Writeback, DamagedBlockIsAnErrorAndFound) {
  for (const bool check : {true, false}) {
    fs::remove(path_);
    fill(2 * kPages, check);
    ASSERT_TRUE(write_back(pages(0, 31)));
    EXPECT_EQ(device_->scrub().damaged, 0U);
    damage_file();
    Bytes page(kPageSize);
    for (const std::uint64_t i : {0U, 15U, 16U, 31U}) {
      EXPECT_FALSE(device_->read(*stream_, ByteOffset{i * kPageSize}, page)) << i;
      EXPECT_FALSE(write(i * kPageSize + 1, {std::byte{1}})) << i;
    }
    EXPECT_EQ(device_->stats().check_failures, 8U);
    const ScrubReport report = device_->scrub();
    EXPECT_EQ(report.pages, 48U);
    EXPECT_EQ(report.objects, 0U);
    EXPECT_EQ(report.damaged, 32U);
    ASSERT_TRUE(write(0, Bytes(expected_.begin(), expected_.begin() + 32 * kPageSize)));  // written anew
    expect_all();
  }
}

TEST_F(Writeback, BlocksOfTwoPagesAreNotTakenForEachOther) {
  fill();
  ASSERT_TRUE(write_back(pages(0, 1)));
  Bytes blocks(2 * kPageSize);
  std::fstream file(path_, std::ios::binary | std::ios::in | std::ios::out);
  file.seekg(kPageSize);
  file.read(reinterpret_cast<char*>(blocks.data()), 2 * kPageSize);
  std::swap_ranges(blocks.begin(), blocks.begin() + kPageSize, blocks.begin() + kPageSize);
  file.seekp(kPageSize);
  file.write(reinterpret_cast<const char*>(blocks.data()), 2 * kPageSize);
  ASSERT_TRUE(file.flush());
  Bytes page(kPageSize);
  EXPECT_FALSE(device_->read(*stream_, ByteOffset{0}, page));
  EXPECT_FALSE(device_->read(*stream_, ByteOffset{kPageSize}, page));
}

// Readers and writers at work on the pages that are written back, and on their blocks that others get.
TEST_F(Writeback, BesideReadersAndWritersNothingIsLost) {
  fill(kPages);
  std::uint64_t most = 0;
  const auto draw = [](std::size_t size, std::mt19937_64& random) {
    return random() % 2 == 0 ? incompressible(size, random()) : compressible(size, random());
  };
  beside_load(*device_, 32, draw, [&] {
    ASSERT_TRUE(write_back(pages(0, 63)));
    most = std::max(most, away());
    device_->compact();
  });
  EXPECT_GT(most, 0U);
}

}  // namespace
}  // namespace uzram::testing
