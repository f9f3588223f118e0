#include "blockdev/nbd/crew.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

namespace uzram::nbd {
namespace {

// How often each part was done, by whichever worker.
std::vector<int> done_by(Crew& crew, std::size_t parts) {
  std::vector<std::vector<int>> done(crew.workers(), std::vector<int>(parts));
  crew.run(parts, [&](std::size_t part, unsigned worker) { ++done[worker][part]; });
  std::vector<int> sum(parts);
  for (const auto& of_worker : done) {
    for (std::size_t part = 0; part < parts; ++part) sum[part] += of_worker[part];
  }
  return sum;
}

TEST(Crew, EachPartIsDoneOnceBeforeRunReturns) {
  for (const unsigned helpers : {0U, 1U, Crew::kMostHelpers}) {
    Crew crew;
    crew.start(helpers);
    EXPECT_EQ(crew.workers(), helpers + 1);
    for (std::size_t parts = 0; parts < 300; ++parts) {
      ASSERT_EQ(done_by(crew, parts), std::vector<int>(parts, 1)) << helpers << " helpers";
    }
  }
}

TEST(Crew, HelpersTakePartInLongWork) {
  Crew crew;
  crew.start(1);
  std::vector<std::thread::id> by(2);
  // Neither part ends before the other has begun, so that one thread alone would never end.
  std::atomic<int> begun{0};
  crew.run(2, [&](std::size_t part, unsigned) {
    by[part] = std::this_thread::get_id();
    for (++begun; begun < 2;) std::this_thread::yield();
  });
  EXPECT_NE(by[0], by[1]);
}

TEST(Crew, HelpersWorkMeanwhile) {
  Crew crew;
  crew.start(1);
  // Goes on only once a helper has begun, and the parts only once this is over: were it called after a part of this
  // thread's, or without a helper, it would never end.
  std::atomic<bool> begun{false};
  std::atomic<bool> over{false};
  int calls = 0;
  const bool shared = crew.share(
      2,
      [&](std::size_t, unsigned) {
        for (begun = true; !over;) std::this_thread::yield();
      },
      [&] {
        for (++calls; !begun;) std::this_thread::yield();
        over = true;
      });
  EXPECT_TRUE(shared);
  EXPECT_EQ(calls, 1);
}

TEST(Crew, NothingIsSharedWithoutIdleHelpersOrOfOnePart) {
  const auto nothing_of = [](Crew& crew, std::size_t parts) {
    int calls = 0;
    const bool shared = crew.share(
        parts, [&](std::size_t, unsigned) { ++calls; }, [&] { ++calls; });
    return !shared && calls == 0;
  };
  Crew alone;
  EXPECT_TRUE(nothing_of(alone, 2));
  Crew crew;
  crew.start(1);
  EXPECT_TRUE(nothing_of(crew, 1));
  bool while_busy = false;
  ASSERT_TRUE(crew.share(
      2, [](std::size_t, unsigned) {}, [&] { std::thread([&] { while_busy = nothing_of(crew, 2); }).join(); }));
  EXPECT_TRUE(while_busy);
}

TEST(Crew, ManyCallersAtOnceAreAllServed) {
  Crew crew;
  crew.start(2);
  std::vector<std::thread> callers;
  for (int i = 0; i < 4; ++i) {
    callers.emplace_back([&crew] {
      for (int round = 0; round < 500; ++round) ASSERT_EQ(done_by(crew, 20), std::vector<int>(20, 1));
    });
  }
  for (std::thread& caller : callers) caller.join();
}

}  // namespace
}  // namespace uzram::nbd
