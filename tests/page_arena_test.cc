#include "allocator/page_arena.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <set>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

namespace {

// How the kernel takes one call for many ranges: as it does, not at all, or the first range only.
enum class AtOnce { whole, refused, partly };
AtOnce at_once = AtOnce::whole;
std::atomic<unsigned> calls_at_once = 0;

}  // namespace

// In place of the C library's.
extern "C" ssize_t process_madvise(int process, const iovec* ranges, std::size_t count, int advice,
                                   unsigned flags) noexcept {
  ++calls_at_once;
  if (at_once == AtOnce::refused) {
    errno = EBADF;
    return -1;
  }
  return syscall(SYS_process_madvise, process, ranges, at_once == AtOnce::partly ? 1 : count, advice, flags);
}

namespace uzram {
namespace {

constexpr std::uint64_t kMiB = 1 << 20;

std::vector<FrameNumber> allocate(PageArena& arena, std::size_t n) {
  std::vector<FrameNumber> frames(n);
  EXPECT_TRUE(arena.allocate(frames));
  return frames;
}

bool is_resident(const PageArena& arena, FrameNumber frame) {
  unsigned char resident = 0;
  EXPECT_EQ(mincore(arena.bytes(frame), kFrameSize, &resident), 0);
  return (resident & 1) != 0;
}

TEST(PageArena, HandsOutEachFrameOnce) {
  PageArena arena({});
  const auto frames = allocate(arena, 3000);
  EXPECT_EQ(std::set<FrameNumber>(frames.begin(), frames.end()).size(), frames.size());
  for (const FrameNumber f : frames) {
    EXPECT_NE(raw(f) % PageArena::kChunkFrames, 0U) << "that frame holds entries";
    std::memset(arena.bytes(f), 0xab, kFrameSize);
  }
  for (const FrameNumber f : frames) EXPECT_EQ(arena.entry(f).link().kind, FrameKind::free);
}

TEST(PageArena, CommitsNothingUntilAFrameIsAskedFor) {
  PageArena arena({});
  EXPECT_EQ(arena.stats().committed_frames, 0U);
  allocate(arena, 1);
  EXPECT_EQ(arena.stats().committed_frames, PageArena::kChunkFrames);
}

TEST(PageArena, FramesOfOneChunkAscend) {
  PageArena arena({});
  const auto frames = allocate(arena, 100);
  EXPECT_TRUE(std::is_sorted(frames.begin(), frames.end()));
}

TEST(PageArena, TakesAllOrNothing) {
  PageArena arena({.reserve = kMiB, .grow = false});
  std::vector<FrameNumber> frames(PageArena::kChunkFrames);
  EXPECT_FALSE(arena.allocate(frames));
  EXPECT_EQ(arena.stats().free_frames, PageArena::kChunkFrames - 1);
  frames.resize(PageArena::kChunkFrames - 1);
  EXPECT_TRUE(arena.allocate(frames));
  EXPECT_EQ(arena.stats().free_frames, 0U);
}

TEST(PageArena, GrowsAheadInAThreadOfItsOwnAndNeverInAnAllocation) {
  PageArena arena({.reserve = kMiB, .grow = false, .lock = true, .ahead = kMiB / 2});
  std::thread grower([&arena] {
    while (arena.wait_until_low()) EXPECT_TRUE(arena.grow_ahead());
  });
  std::vector<FrameNumber> frames(100);
  std::size_t taken = 0;
  for (int tries = 0; taken < 20 * frames.size() && tries < 20000; ++tries) {
    if (arena.allocate(frames)) {
      taken += frames.size();
      EXPECT_TRUE(is_resident(arena, frames.front()) && is_resident(arena, frames.back()));
    } else {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }
  arena.stop_ahead();
  grower.join();
  EXPECT_EQ(taken, 20 * frames.size());
  const std::uint64_t committed = arena.stats().committed_frames;
  while (arena.allocate(frames)) {
  }
  EXPECT_EQ(arena.stats().committed_frames, committed);
}

TEST(PageArena, GivesBackWhatItGrewBeyondWhatIsKeptAhead) {
  PageArena arena({.reserve = kMiB, .grow = false, .lock = true, .ahead = kMiB});
  std::vector<FrameNumber> frames(4096);
  while (!arena.allocate(frames)) ASSERT_TRUE(arena.grow_ahead());
  arena.free(frames);
  for (int i = 0; i < 20; ++i) arena.free({});
  EXPECT_GE(arena.stats().released_frames, 4096 - 2 * PageArena::kReleaseBatch - 3 * PageArena::kChunkFrames);
  EXPECT_FALSE(is_resident(arena, frames.front()) && is_resident(arena, frames[2000]));
  ASSERT_TRUE(arena.allocate(std::span(frames).first(200)));
  EXPECT_TRUE(is_resident(arena, frames[0]));
}

TEST(PageArena, EndsAtItsCapacity) {
  PageArena arena({.capacity = 2 * kMiB});
  std::vector<FrameNumber> frames(2 * PageArena::kChunkFrames - 2);
  EXPECT_TRUE(arena.allocate(frames));
  EXPECT_FALSE(arena.allocate(std::span(frames).first(1)));
}

TEST(PageArena, GivesFreeFramesBackInBoundedBatches) {
  PageArena arena({});
  const auto frames = allocate(arena, 4096);
  for (const FrameNumber f : frames) std::memset(arena.bytes(f), 0xab, kFrameSize);
  for (const FrameNumber f : frames) arena.free({&f, 1});
  const auto stats = arena.stats();
  EXPECT_LT(stats.free_frames, 2 * PageArena::kReleaseBatch);
  EXPECT_GE(stats.released_frames, frames.size() - 2 * PageArena::kReleaseBatch);
  EXPECT_EQ(static_cast<std::uint64_t>(
                std::count_if(frames.begin(), frames.end(), [&](FrameNumber f) { return !is_resident(arena, f); })),
            stats.released_frames);
}

// Bytes of huge pages in the mappings of the arena's committed frames.
std::uint64_t huge_bytes(const PageArena& arena) {
  const auto begin = reinterpret_cast<std::uintptr_t>(arena.bytes(FrameNumber{0}));
  const auto end = reinterpret_cast<std::uintptr_t>(arena.bytes(arena.end()));
  std::ifstream smaps("/proc/self/smaps");
  std::uint64_t kib = 0;
  bool ours = false;
  for (std::string line; std::getline(smaps, line);) {
    std::uintptr_t from = 0;
    std::uintptr_t to = 0;
    std::uint64_t n = 0;
    if (std::sscanf(line.c_str(), "%" SCNxPTR "-%" SCNxPTR " ", &from, &to) == 2) ours = from < end && to > begin;
    if (ours && std::sscanf(line.c_str(), "AnonHugePages: %" SCNu64, &n) == 1) kib += n;
  }
  return kib * 1024;
}

// What the kernel has counted since it was booted.
std::uint64_t huge_pages_split() {
  std::ifstream vmstat("/proc/vmstat");
  std::string name;
  std::uint64_t count = 0;
  while (vmstat >> name >> count && name != "thp_split_page") continue;
  return name == "thp_split_page" ? count : 0;
}

TEST(PageArena, TakesHugePagesWhereThereIsMuchAndGivesPartsOfThemBack) {
  std::ifstream file("/sys/kernel/mm/transparent_hugepage/enabled");
  std::string enabled;
  std::getline(file, enabled);
  const bool has_huge_pages = !enabled.empty() && enabled.find("[never]") == std::string::npos;

  PageArena small({});
  (void)allocate(small, 4096);
  EXPECT_EQ(huge_bytes(small), 0U);

  PageArena arena({.huge_from = 4 * kMiB});
  const auto frames = allocate(arena, 4096);
  const std::uint64_t huge = huge_bytes(arena);
  EXPECT_LE(huge, 14 * kMiB);
  EXPECT_EQ(huge >= 8 * kMiB, has_huge_pages) << huge << " bytes of huge pages; " << enabled;

  const std::uint64_t split = huge_pages_split();
  for (const FrameNumber f : frames) std::memset(arena.bytes(f), static_cast<int>(raw(f) % 251), kFrameSize);
  for (std::size_t i = 0; i < frames.size(); i += 2) arena.free({&frames[i], 1});
  EXPECT_GT(arena.stats().released_frames, 500U);
  EXPECT_EQ(huge_pages_split() > split, has_huge_pages);
  for (std::size_t i = 1; i < frames.size(); i += 2) {
    EXPECT_EQ(std::to_integer<unsigned>(arena.bytes(frames[i])[17]), raw(frames[i]) % 251);
  }
  const FrameNumber end = arena.end();
  (void)allocate(arena, 2000);
  EXPECT_EQ(arena.end(), end);
}

TEST(PageArena, UsesWhatItGaveBackBeforeItGrows) {
  PageArena arena({});
  auto frames = allocate(arena, 4096);
  const FrameNumber end = arena.end();
  for (const FrameNumber f : frames) arena.free({&f, 1});
  EXPECT_GT(arena.stats().released_frames, 2000U);
  frames = allocate(arena, 4096);
  EXPECT_EQ(arena.end(), end);
  EXPECT_EQ(std::set<FrameNumber>(frames.begin(), frames.end()).size(), frames.size());
  for (const FrameNumber f : frames) EXPECT_TRUE(is_resident(arena, f));
}

TEST(PageArena, GivesBackWithOneCallOrManyWhateverTheKernelCanDo) {
  for (const bool lock : {false, true}) {
    for (const AtOnce how : {AtOnce::whole, AtOnce::refused, AtOnce::partly}) {
      at_once = how;
      calls_at_once = 0;
      PageArena arena({.lock = lock});
      const auto frames = allocate(arena, 4096);
      for (const FrameNumber f : frames) std::memset(arena.bytes(f), static_cast<int>(raw(f) % 251), kFrameSize);
      for (std::size_t i = 0; i < frames.size(); i += 2) arena.free({&frames[i], 1});
      EXPECT_GT(calls_at_once, 0U);
      const std::uint64_t released = arena.stats().released_frames;
      EXPECT_GE(released, PageArena::kReleaseBatch);
      std::uint64_t gone = 0;
      for (std::size_t i = 0; i < frames.size(); i += 2) gone += is_resident(arena, frames[i]) ? 0 : 1;
      EXPECT_EQ(gone, released);
      for (std::size_t i = 1; i < frames.size(); i += 2) {
        ASSERT_EQ(std::to_integer<unsigned>(arena.bytes(frames[i])[17]), raw(frames[i]) % 251);
      }
    }
  }
  at_once = AtOnce::whole;
}

TEST(PageArena, KeepsItsReserve) {
  PageArena arena({.reserve = 16 * kMiB});
  const auto reserve = arena.stats().committed_frames;
  EXPECT_EQ(reserve, 16 * PageArena::kChunkFrames);
  const auto frames = allocate(arena, 8000);
  for (const FrameNumber f : frames) arena.free({&f, 1});
  EXPECT_GE(arena.stats().committed_frames, reserve);
  EXPECT_LT(arena.stats().committed_frames, reserve + 2 * PageArena::kReleaseBatch);
}

TEST(PageArena, ReserveIsResident) {
  PageArena arena({.reserve = 2 * kMiB, .grow = false});
  for (std::uint32_t f = 0; f < 2 * PageArena::kChunkFrames; ++f) EXPECT_TRUE(is_resident(arena, FrameNumber{f})) << f;
}

TEST(PageArena, SaysWhyItCannotBe) { EXPECT_THROW(PageArena({.reserve = std::uint64_t{1} << 43}), std::system_error); }

TEST(PageArena, ThreadsShareIt) {
  PageArena arena({});
  const auto work = [&](unsigned seed) {
    std::vector<FrameNumber> mine;
    for (unsigned i = 0; i < 2000; ++i) {
      std::vector<FrameNumber> some(1 + (i * 7 + seed) % 4);
      ASSERT_TRUE(arena.allocate(some));
      for (const FrameNumber f : some) {
        std::memset(arena.bytes(f), static_cast<int>(seed), kFrameSize);
        mine.push_back(f);
      }
      if (i % 3 == 0 && mine.size() > 1500) {
        for (const FrameNumber f : mine) {
          ASSERT_EQ(std::to_integer<unsigned>(arena.bytes(f)[17]), seed);
          arena.free({&f, 1});
        }
        mine.clear();
      }
    }
    arena.free(mine);
  };
  std::thread a(work, 1);
  std::thread b(work, 2);
  a.join();
  b.join();
  const auto stats = arena.stats();
  EXPECT_EQ(stats.committed_frames - stats.free_frames, raw(arena.end()) / PageArena::kChunkFrames)
      << "only the frames of the entries are in use: one a chunk";
}

}  // namespace
}  // namespace uzram
