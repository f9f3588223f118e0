#include "blockdev/recovery.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "blockdev/device_record.h"
#include "blockdev/device_table.h"
#include "blockdev/slot_table.h"

namespace uzram {
namespace {

using Bytes = std::vector<std::byte>;
constexpr std::uint64_t kMiB = 1 << 20;

// A page that says which one it is and of which version, and compresses to a size that varies.
Bytes page_of_version(std::uint64_t page, std::uint64_t version) {
  std::mt19937_64 random(page * 0x9e3779b97f4a7c15 + version);
  Bytes bytes(kPageSize);
  const std::size_t noise = version % 7 == 0 ? kPageSize : 100 + random() % 3000;
  for (std::size_t i = 16; i < noise; ++i) bytes[i] = static_cast<std::byte>(random());
  std::memcpy(&bytes[0], &page, sizeof page);
  std::memcpy(&bytes[8], &version, sizeof version);
  return bytes;
}

class RecoveryTest : public testing::Test {
 protected:
  RecoveryTest() : fd_(memfd_create("recovery-test", MFD_CLOEXEC)) {}
  ~RecoveryTest() override { close(fd_); }

  // What a process does at its start: maps the state, makes a device or takes over those that are there.
  struct Process {
    explicit Process(int fd) : arena({.capacity = 512 * kMiB, .fd = fd}) {}
    PageArena arena;
    std::vector<std::unique_ptr<Device>> devices;
    RecoveryReport report;
  };
  std::unique_ptr<Process> start(const DeviceOptions& options = {.size = 64 * kMiB}) {
    auto process = std::make_unique<Process>(fd_);
    if (!process->arena.holds_state()) {
      process->devices.push_back(std::move(*Device::create(process->arena, options)));
      process->devices.back()->publish();
      return process;
    }
    auto recovered = recover(process->arena);
    EXPECT_TRUE(recovered) << recovered.error().message;
    if (!recovered) return nullptr;
    process->devices = std::move(recovered->devices);
    process->report = recovered->report;
    return process;
  }

  static void write(Device& device, std::uint64_t page, const Bytes& bytes) {
    const StreamPtr stream = device.make_stream();
    ASSERT_TRUE(device.write(*stream, ByteOffset{page * kPageSize}, bytes));
  }
  static Bytes read(Device& device, std::uint64_t page) {
    const StreamPtr stream = device.make_stream();
    Bytes bytes(kPageSize);
    EXPECT_TRUE(device.read(*stream, ByteOffset{page * kPageSize}, bytes)) << page;
    return bytes;
  }

  const int fd_;
};

TEST_F(RecoveryTest, EverythingIsThereAgain) {
  constexpr std::uint64_t kPages = 3000;
  DeviceStats before;
  {
    const auto process =
        start({.name = "swap", .size = 64 * kMiB, .codec = {Algorithm::zstd, 1}, .mem_limit = 32 * kMiB});
    Device& device = *process->devices[0];
    for (std::uint64_t page = 0; page < kPages; ++page) write(device, page, page_of_version(page, page));
    write(device, 5000, Bytes(kPageSize, std::byte{0x55}));
    write(device, 5001, Bytes(kPageSize));
    device.discard(ByteOffset{0}, 100 * kPageSize);
    device.compact();
    before = device.stats();
  }
  const auto process = start();
  ASSERT_EQ(process->devices.size(), 1U);
  Device& device = *process->devices[0];
  device.check_invariants();
  EXPECT_EQ(device.options().name, "swap");
  EXPECT_EQ(device.options().codec, (CodecSpec{Algorithm::zstd, 1}));
  EXPECT_EQ(device.stats().mem_limit, 32 * kMiB);
  EXPECT_EQ(device.stats().orig_data_size, before.orig_data_size);
  EXPECT_EQ(device.stats().compr_data_size, before.compr_data_size);
  EXPECT_EQ(device.stats().mem_used_total, before.mem_used_total) << "no memory leaked";
  EXPECT_EQ(device.stats().same_pages, before.same_pages);
  EXPECT_EQ(device.stats().huge_pages, before.huge_pages);
  EXPECT_EQ(process->report.damaged_pages, 0U);
  for (std::uint64_t page = 0; page < 100; ++page) EXPECT_EQ(read(device, page), Bytes(kPageSize));
  for (std::uint64_t page = 100; page < kPages; ++page) ASSERT_EQ(read(device, page), page_of_version(page, page));
  EXPECT_EQ(read(device, 5000), Bytes(kPageSize, std::byte{0x55}));
  write(device, 7, page_of_version(7, 1));
  EXPECT_EQ(read(device, 7), page_of_version(7, 1));
  device.check_invariants();
}

TEST_F(RecoveryTest, ItCanBeDoneAgainAndAgain) {
  for (std::uint64_t round = 0; round < 10; ++round) {
    const auto process = start();
    Device& device = *process->devices[0];
    device.check_invariants();
    for (std::uint64_t page = 0; page < 300; ++page) {
      ASSERT_EQ(read(device, page), round == 0 ? Bytes(kPageSize) : page_of_version(page, round - 1));
      write(device, page, page_of_version(page, round));
    }
  }
}

TEST_F(RecoveryTest, SeveralDevicesKeepTheirOwn) {
  {
    auto process = start({.name = "a", .size = 8 * kMiB});
    process->devices.push_back(std::move(*Device::create(process->arena, {.name = "b", .size = 8 * kMiB}, {1, 1})));
    process->devices[1]->publish();
    for (std::uint64_t page = 0; page < 500; ++page) {
      write(*process->devices[0], page, page_of_version(page, 1));
      write(*process->devices[1], page, page_of_version(page, 2));
    }
  }
  const auto process = start();
  ASSERT_EQ(process->devices.size(), 2U);
  EXPECT_EQ(process->devices[0]->options().name, "a");
  EXPECT_EQ(process->devices[1]->options().name, "b");
  process->devices[0]->check_invariants();
  process->devices[1]->check_invariants();
  for (std::uint64_t page = 0; page < 500; ++page) {
    ASSERT_EQ(read(*process->devices[0], page), page_of_version(page, 1));
    ASSERT_EQ(read(*process->devices[1], page), page_of_version(page, 2));
  }
}

TEST_F(RecoveryTest, AnErasedDeviceIsGoneAndItsMemoryIsFree) {
  std::uint64_t committed = 0;
  {
    auto process = start({.name = "a", .size = 8 * kMiB});
    process->devices.push_back(std::move(*Device::create(process->arena, {.name = "b", .size = 8 * kMiB}, {1, 1})));
    process->devices[1]->publish();
    for (std::uint64_t page = 0; page < 500; ++page) write(*process->devices[1], page, page_of_version(page, 7));
    process->devices[1]->erase();
    committed = process->arena.stats().committed_frames - process->arena.stats().free_frames;
  }
  const auto process = start();
  ASSERT_EQ(process->devices.size(), 1U);
  const auto stats = process->arena.stats();
  EXPECT_EQ(stats.committed_frames - stats.free_frames, committed);
}

TEST_F(RecoveryTest, FramesThatWereGivenBackStayGivenBack) {
  {
    const auto process = start();
    for (std::uint64_t page = 0; page < 4000; ++page) write(*process->devices[0], page, page_of_version(page, 7));
    process->devices[0]->discard(ByteOffset{0}, 64 * kMiB);
    ASSERT_GT(process->arena.stats().released_frames, 1000U);
  }
  const auto process = start();
  EXPECT_LT(process->arena.stats().committed_frames, 2 * PageArena::kReleaseBatch + 64);
  for (std::uint64_t page = 0; page < 4000; ++page) write(*process->devices[0], page, page_of_version(page, 7));
  for (std::uint64_t page = 0; page < 4000; ++page)
    ASSERT_EQ(read(*process->devices[0], page), page_of_version(page, 7));
}

TEST_F(RecoveryTest, AnotherVersionOrAForeignFileIsRefused) {
  start();
  const auto poke = [&](std::size_t at, std::uint8_t value) {
    EXPECT_EQ(pwrite(fd_, &value, 1, static_cast<off_t>(kFrameSize + at)), 1);
  };
  const auto why = [&]() -> std::string {
    try {
      const PageArena arena({.capacity = 64 * kMiB, .fd = fd_});
    } catch (const std::runtime_error& e) {
      return e.what();
    }
    return "";
  };
  poke(8, 99);
  EXPECT_NE(why().find("version 99"), std::string::npos) << why();
  poke(8, ArenaHeader::kVersion);
  EXPECT_EQ(why(), "");
  poke(0, 0);
  EXPECT_NE(why().find("does not begin"), std::string::npos) << why();
}

TEST_F(RecoveryTest, AnotherGeometryOrADamagedHeaderIsRefused) {
  start();
  const auto why = [&](std::size_t at) -> std::string {
    std::uint8_t was = 0;
    EXPECT_EQ(pread(fd_, &was, 1, static_cast<off_t>(kFrameSize + at)), 1);
    const std::uint8_t is = was ^ 0x10;
    EXPECT_EQ(pwrite(fd_, &is, 1, static_cast<off_t>(kFrameSize + at)), 1);
    std::string what;
    try {
      const PageArena arena({.capacity = 64 * kMiB, .fd = fd_});
    } catch (const std::runtime_error& e) {
      what = e.what();
    }
    EXPECT_EQ(pwrite(fd_, &was, 1, static_cast<off_t>(kFrameSize + at)), 1);
    return what;
  };
  for (const std::size_t at : {12U, 16U, 20U}) {  // the frame's size, the chunk's, the header's
    EXPECT_NE(why(at).find("another geometry"), std::string::npos) << at;
  }
  EXPECT_NE(why(24).find("damaged"), std::string::npos) << "chunks";
  EXPECT_NE(start(), nullptr) << "it was not changed";
}

// Slots past the device's end are no page's: damage there is not counted as one.
TEST_F(RecoveryTest, SlotsPastTheEndAreNotPages) {
  {
    const auto process = start({.size = 100 * kPageSize});
    write(*process->devices[0], 3, page_of_version(3, 1));
    for (std::uint32_t f = 1; f < PageArena::kChunkFrames; ++f) {
      if (process->arena.entry(FrameNumber{f}).link().kind != FrameKind::leaf) continue;
      reinterpret_cast<Slot*>(process->arena.bytes(FrameNumber{f}))[200].store(0x1234567);
    }
  }
  const auto process = start();
  ASSERT_NE(process, nullptr);
  EXPECT_EQ(process->report.damaged_pages, 0U);
  EXPECT_EQ(process->devices[0]->stats().orig_data_size, kPageSize);
  process->devices[0]->check_invariants();
}

// The tree's nodes are made anew, of the frames that the old ones leave.
TEST_F(RecoveryTest, ItTakesNoMemoryThatWasNotThere) {
  std::uint64_t written = 0;
  {
    PageArena arena({.capacity = 4 * kMiB, .fd = fd_});
    const auto device = std::move(*Device::create(arena, {.size = std::uint64_t{1} << 40}));
    device->publish();
    const StreamPtr stream = device->make_stream();
    // Far apart: each page takes a leaf and two nodes.
    while (device->write(*stream, ByteOffset{written << 31}, page_of_version(written, 7))) ++written;
    ASSERT_GT(written, 100U);
    const auto memory = arena.stats();
    ASSERT_LT(memory.free_frames, 4U) << "nothing is left";
  }
  PageArena arena({.capacity = 4 * kMiB, .grow = false, .fd = fd_});
  const auto recovered = recover(arena);
  ASSERT_TRUE(recovered) << recovered.error().message;
  Device& device = *recovered->devices[0];
  device.check_invariants();
  const StreamPtr stream = device.make_stream();
  for (std::uint64_t n = 0; n < written; ++n) {
    Bytes bytes(kPageSize);
    ASSERT_TRUE(device.read(*stream, ByteOffset{n << 31}, bytes));
    ASSERT_EQ(bytes, page_of_version(n, 7));
  }
}

TEST_F(RecoveryTest, ATruncatedFileIsRefused) {
  {
    const auto process = start();
    for (std::uint64_t page = 0; page < 2000; ++page) write(*process->devices[0], page, page_of_version(page, 7));
  }
  // From large to small, so that what is left each time is as it was written.
  const off_t whole = lseek(fd_, 0, SEEK_END);
  for (const off_t size : {whole - 1, off_t{2 * kMiB + 77}, off_t{kMiB}, off_t{8192}, off_t{5000}, off_t{1}}) {
    ASSERT_EQ(ftruncate(fd_, size), 0);
    try {
      const PageArena arena({.capacity = 64 * kMiB, .fd = fd_});
      ADD_FAILURE() << "served with " << size << " bytes";
    } catch (const std::runtime_error& e) {
      EXPECT_NE(std::string(e.what()).find("cut short"), std::string::npos) << e.what();
    }
  }
}

// Whatever bit flips, wherever: the state is refused, or each page reads as it was written or fails.
TEST_F(RecoveryTest, OneFlippedBitNeverGivesWrongData) {
  constexpr std::uint64_t kPages = 60;
  std::vector<Bytes> expected;
  {
    const auto process = start({.size = 8 * kMiB});
    for (std::uint64_t page = 0; page < kPages; ++page) {
      expected.push_back(page % 10 == 3 ? Bytes(kPageSize, static_cast<std::byte>(page)) : page_of_version(page, page));
      write(*process->devices[0], page, expected.back());
    }
    // Chunks beyond the first, so that their number has more than one bit.
    for (std::uint64_t page = 512; page < 1500; ++page) write(*process->devices[0], page, page_of_version(page, 7));
  }
  Bytes state(static_cast<std::size_t>(lseek(fd_, 0, SEEK_END)));
  ASSERT_EQ(pread(fd_, state.data(), state.size(), 0), static_cast<ssize_t>(state.size()));
  const auto seed = std::random_device{}();
  std::printf("seed %u\n", seed);
  std::mt19937_64 random(seed);
  unsigned refused = 0;
  unsigned failed = 0;
  constexpr unsigned kHeaderBits = sizeof(ArenaHeader) * 8;
  for (unsigned round = 0; round < kHeaderBits + 700; ++round) {
    // Every bit of the header; of the others half in what is no payload: entries, records, slots.
    std::size_t at = random() % state.size();
    if (round % 2 == 0) at = random() % (16 * kFrameSize);
    unsigned bit = static_cast<unsigned>(random() % 8);
    if (round < kHeaderBits) at = kFrameSize + round / 8, bit = round % 8;
    const std::byte flipped = state[at] ^ static_cast<std::byte>(1U << bit);
    const int fd = memfd_create("flipped", MFD_CLOEXEC);
    ASSERT_EQ(pwrite(fd, state.data(), state.size(), 0), static_cast<ssize_t>(state.size()));
    ASSERT_EQ(pwrite(fd, &flipped, 1, static_cast<off_t>(at)), 1);
    try {
      PageArena arena({.capacity = 64 * kMiB, .fd = fd});
      const auto recovered = recover(arena);
      if (!recovered || recovered->devices.empty()) {
        EXPECT_FALSE(recovered && recovered->devices.empty()) << "a device vanished at byte " << at;
        ++refused;
      } else {
        Device& device = *recovered->devices[0];
        const StreamPtr stream = device.make_stream();
        for (std::uint64_t page = 0; page < kPages; ++page) {
          Bytes bytes(kPageSize);
          if (!device.read(*stream, ByteOffset{page * kPageSize}, bytes)) {
            ++failed;
          } else {
            ASSERT_EQ(bytes, expected[page]) << "byte " << at << " page " << page;
          }
        }
      }
    } catch (const std::runtime_error&) {
      ++refused;
    }
    close(fd);
  }
  EXPECT_GT(refused, 0U);
  EXPECT_GT(failed, 0U);
}

bool is_leaf(const Bytes& state, std::size_t frame) {
  const std::size_t entry = frame / PageArena::kChunkFrames * PageArena::kChunkFrames * kFrameSize +
                            frame % PageArena::kChunkFrames * sizeof(FrameEntry);
  return state[entry] == static_cast<std::byte>(FrameKind::leaf);
}

TEST_F(RecoveryTest, GarbageIsNeverServedNorCrashedOn) {
  {
    const auto process = start({.size = 8 * kMiB});
    for (std::uint64_t page = 0; page < 300; ++page) write(*process->devices[0], page, page_of_version(page, page));
  }
  Bytes state(static_cast<std::size_t>(lseek(fd_, 0, SEEK_END)));
  ASSERT_EQ(pread(fd_, state.data(), state.size(), 0), static_cast<ssize_t>(state.size()));
  const auto seed = std::random_device{}();
  std::printf("seed %u\n", seed);
  std::mt19937_64 random(seed);
  for (unsigned round = 0; round < 100; ++round) {
    Bytes damaged = state;
    for (unsigned i = 0; i < 200; ++i) {
      const std::size_t at = random() % (random() % 2 == 0 ? 16 * kFrameSize : damaged.size());
      // Not the slots: their parity tells one flipped bit, not garbage.
      if (at / kFrameSize == raw(kHeaderFrame) || is_leaf(state, at / kFrameSize)) continue;
      damaged[at] = static_cast<std::byte>(random());
    }
    const int fd = memfd_create("damaged", MFD_CLOEXEC);
    ASSERT_EQ(pwrite(fd, damaged.data(), damaged.size(), 0), static_cast<ssize_t>(damaged.size()));
    PageArena arena({.capacity = 64 * kMiB, .fd = fd});
    const auto recovered = recover(arena);
    if (recovered) {
      for (const auto& device : recovered->devices) {
        const StreamPtr stream = device->make_stream();
        Bytes bytes(kPageSize);
        for (std::uint64_t page = 0; page < 300; ++page) {
          if (device->read(*stream, ByteOffset{page * kPageSize}, bytes)) {
            ASSERT_TRUE(bytes == page_of_version(page, page) || bytes == Bytes(kPageSize)) << page;
          }
          (void)device->write(*stream, ByteOffset{page * kPageSize}, page_of_version(page, 1));
        }
        device->check_invariants();
      }
    }
    close(fd);
  }
}

// A child writes, discards and compacts from two threads, and is killed at a moment that nobody chose. What it said it
// had written is there; what it was at is old or new.
TEST_F(RecoveryTest, WhatWasAcknowledgedSurvivesKill) {
  constexpr std::uint64_t kPages = 256;  // a thread
  constexpr unsigned kThreads = 2;
  struct Progress {
    std::atomic<std::uint64_t> started[kThreads][kPages];
    std::atomic<std::uint64_t> done[kThreads][kPages];
  };
  void* const shared = mmap(nullptr, sizeof(Progress), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(shared, MAP_FAILED);
  auto* const progress = new (shared) Progress;
  const auto version_bytes = [](std::uint64_t page, std::uint64_t version) {
    return version % 5 == 4 || version == 0 ? Bytes(kPageSize) : page_of_version(page, version);
  };
  const auto seed = std::random_device{}();
  std::printf("seed %u\n", seed);
  std::mt19937_64 random(seed);
  start();  // the device is there before the first child
  for (unsigned round = 0; round < 30; ++round) {
    const pid_t child = fork();
    if (child == 0) {
      const auto process = start();
      if (process == nullptr) _exit(1);
      Device& device = *process->devices[0];
      const auto work = [&](unsigned thread) {
        std::mt19937_64 mine(seed + round * 10 + thread);
        const StreamPtr stream = device.make_stream();
        for (;;) {
          const std::uint64_t page = mine() % kPages;
          const std::uint64_t version = progress->started[thread][page].load() + 1;
          const ByteOffset at{(thread * kPages + page) * kPageSize};
          progress->started[thread][page].store(version);
          if (version % 5 == 4) {
            device.discard(at, kPageSize);
          } else if (!device.write(*stream, at, version_bytes(page, version))) {
            _exit(2);
          }
          progress->done[thread][page].store(version);
        }
      };
      std::thread a(work, 0);
      std::thread b(work, 1);
      for (;;) device.compact();
    }
    std::this_thread::sleep_for(std::chrono::microseconds(20000 + random() % 60000));
    kill(child, SIGKILL);
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status)) << WEXITSTATUS(status);
    const auto process = start();
    ASSERT_NE(process, nullptr);
    ASSERT_EQ(process->report.damaged_pages, 0U);
    Device& device = *process->devices[0];
    device.check_invariants();
    for (unsigned thread = 0; thread < kThreads; ++thread) {
      for (std::uint64_t page = 0; page < kPages; ++page) {
        const std::uint64_t started = progress->started[thread][page];
        const std::uint64_t done = progress->done[thread][page];
        const Bytes found = read(device, thread * kPages + page);
        ASSERT_TRUE(found == version_bytes(page, done) || found == version_bytes(page, started))
            << "round " << round << " page " << page << ": neither version " << done << " nor " << started;
        progress->started[thread][page] = progress->done[thread][page] =
            found == version_bytes(page, started) ? started : done;
      }
    }
  }
  munmap(shared, sizeof(Progress));
}

}  // namespace
}  // namespace uzram
