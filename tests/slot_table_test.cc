#include "blockdev/slot_table.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

namespace uzram {
namespace {

// Sets a slot's value; what it held is of no object here.
void put(Slot& slot, SlotValue value) {
  SlotGuard guard(slot);
  (void)guard.exchange(value).word();
}

TEST(SlotValue, KeepsAnObject) {
  const Location location{(std::uint64_t{1} << kLocationBits) - 1};
  const SlotValue value = SlotValue::object(location, kPageSize, kCodecAsIs);
  EXPECT_EQ(value.kind(), SlotKind::object);
  EXPECT_EQ(value.location(), location);
  EXPECT_EQ(value.length(), kPageSize);
  EXPECT_EQ(value.codec(), kCodecAsIs);
  const SlotValue moved = SlotValue::object(location, 1, kCodecPattern).moved_to(Location{5});
  EXPECT_EQ(moved.location(), Location{5});
  EXPECT_EQ(moved.length(), 1U);
  EXPECT_EQ(moved.codec(), kCodecPattern);
}

TEST(SlotValue, KeepsTheWordsThatFit) {
  for (const std::uint64_t word :
       {std::uint64_t{0}, ~std::uint64_t{0}, std::uint64_t{0x4141414141414141}, std::uint64_t{0xdeadbeefdeadbeef},
        std::uint64_t{1}, (std::uint64_t{1} << 51) - 1, ~std::uint64_t{0} << 51}) {
    const auto value = SlotValue::same(word);
    ASSERT_TRUE(value) << word;
    EXPECT_EQ(value->kind(), SlotKind::same);
    EXPECT_EQ(value->same_word(), word);
  }
  for (const std::uint64_t word :
       {std::uint64_t{1} << 51, ~(std::uint64_t{1} << 51), std::uint64_t{0x0102030405060708}}) {
    EXPECT_FALSE(SlotValue::same(word)) << word;
  }
}

TEST(SlotTable, IsEmptyUntilASlotIsMade) {
  PageArena arena({});
  const SlotTable table(arena, std::uint64_t{1} << 32, 0);
  EXPECT_EQ(table.find(PageIndex{0}), nullptr);
  EXPECT_EQ(table.find(PageIndex{(std::uint64_t{1} << 32) - 1}), nullptr);
  EXPECT_EQ(table.next_present(PageIndex{0}, PageIndex{std::uint64_t{1} << 32}), PageIndex{std::uint64_t{1} << 32});
  EXPECT_EQ(arena.stats().committed_frames, 0U);
}

TEST(SlotTable, EverySlotIsItsOwn) {
  PageArena arena({});
  SlotTable table(arena, std::uint64_t{1} << 32, 0);
  std::vector<std::uint64_t> pages;
  for (unsigned bit = 0; bit < 32; ++bit) pages.push_back(std::uint64_t{1} << bit);
  pages.push_back((std::uint64_t{1} << 32) - 1);
  for (const std::uint64_t page : pages) put(*table.find_or_make(PageIndex{page}), *SlotValue::same(page));
  for (const std::uint64_t page : pages) {
    EXPECT_EQ(SlotValue(table.find(PageIndex{page})->load()).same_word(), page);
  }
}

TEST(SlotTable, SkipsAbsentSubtrees) {
  PageArena arena({});
  SlotTable table(arena, std::uint64_t{1} << 32, 0);
  const PageIndex end{std::uint64_t{1} << 32};
  ASSERT_NE(table.find_or_make(PageIndex{1000}), nullptr);
  ASSERT_NE(table.find_or_make(PageIndex{std::uint64_t{3} << 30}), nullptr);
  EXPECT_EQ(table.next_present(PageIndex{0}, end), PageIndex{512});
  EXPECT_EQ(table.next_present(PageIndex{600}, end), PageIndex{600});
  EXPECT_EQ(table.next_present(PageIndex{1024}, end), PageIndex{std::uint64_t{3} << 30});
  EXPECT_EQ(table.next_present(PageIndex{1024}, PageIndex{2000}), PageIndex{2000});
}

TEST(SlotTable, ThereIsNoSlotWithoutMemory) {
  PageArena arena({.reserve = 1 << 20, .grow = false});
  std::vector<FrameNumber> all(arena.stats().free_frames - 3);
  ASSERT_TRUE(arena.allocate(all));
  {
    SlotTable table(arena, 1 << 20, 0);
    EXPECT_NE(table.find_or_make(PageIndex{0}), nullptr) << "two nodes and a leaf";
    EXPECT_EQ(table.find_or_make(PageIndex{512}), nullptr);
    EXPECT_EQ(table.frames(), 3U);
    table.clear();
    EXPECT_EQ(table.frames(), 0U);
  }
  EXPECT_EQ(arena.stats().free_frames, 3U) << "the table gives back what it took";
  arena.free(all);
}

TEST(SlotTable, ThreadsThatMakeOneSlotGetOneSlot) {
  PageArena arena({});
  for (unsigned round = 0; round < 50; ++round) {
    SlotTable table(arena, 1 << 20, 0);
    std::vector<Slot*> made(3);
    std::vector<std::thread> threads;
    for (Slot*& slot : made) threads.emplace_back([&] { slot = table.find_or_make(PageIndex{777}); });
    for (std::thread& t : threads) t.join();
    EXPECT_EQ(made[0], made[1]);
    EXPECT_EQ(made[0], made[2]);
    EXPECT_EQ(table.frames(), 3U);
  }
}

TEST(SlotGuard, ExcludesOthers) {
  Slot slot{0};
  const auto count = [&slot] {
    for (unsigned i = 0; i < 20000; ++i) {
      SlotGuard guard(slot);
      const std::uint64_t word = guard.value().same_word();
      (void)guard.exchange(*SlotValue::same(word + 1)).word();
    }
  };
  put(slot, *SlotValue::same(0));
  std::thread a(count);
  std::thread b(count);
  a.join();
  b.join();
  EXPECT_EQ(SlotValue(slot.load()).same_word(), 40000U);
}

TEST(SlotGuard, WithoutAnExchangeTheSlotIsAsBefore) {
  Slot slot{SlotValue::same(7)->word()};
  {
    const SlotGuard guard(slot);
    EXPECT_NE(slot.load() & SlotValue::kLock, 0U);
  }
  EXPECT_EQ(slot.load(), SlotValue::same(7)->word());
}

}  // namespace
}  // namespace uzram
