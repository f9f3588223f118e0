#include "allocator/page_arena.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <set>
#include <system_error>
#include <thread>
#include <vector>

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
