// The lanes of a class, in which workers are out of each other's way.

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <functional>
#include <optional>
#include <random>
#include <thread>
#include <vector>

#include "allocator/zs_pool.h"

namespace uzram {
namespace {

constexpr std::size_t kSize = 168;  // 93 objects in a zspage of 4 frames
constexpr std::size_t kObjects = 93;

class Lanes : public testing::Test {
 protected:
  PageArena arena_{{}};
  ZsPool pool_{arena_, {}};

  std::vector<Location> allocate(std::size_t n, unsigned worker) {
    std::vector<Location> objects;
    for (std::size_t i = 0; i < n; ++i) objects.push_back(*pool_.malloc(kSize, {Owner{i}, 0}, worker));
    return objects;
  }
};

TEST_F(Lanes, AFullZspageGoesToWhoeverMakesRoomInIt) {
  const auto a = allocate(kObjects, 0);
  const auto b = allocate(kObjects, 0);
  for (int round = 0; round < 3; ++round) {
    pool_.free(a[0], 1);
    pool_.free(b[0], 0);
    pool_.check_invariants();
    EXPECT_EQ(allocate(1, 1)[0], a[0]);
    EXPECT_EQ(allocate(1, 0)[0], b[0]);
    // The other way round, so that it is not the order in a list.
    pool_.free(b[0], 0);
    pool_.free(a[0], 1);
    EXPECT_EQ(allocate(1, 0)[0], b[0]);
    EXPECT_EQ(allocate(1, 1)[0], a[0]);
  }
}

TEST_F(Lanes, AZspageWithRoomStaysWithWhoeverFillsIt) {
  const auto a = allocate(kObjects, 0);
  const auto b = allocate(kObjects, 1);
  pool_.free(a[0], 0);
  pool_.free(b[0], 1);
  pool_.free(a[1], 1);
  EXPECT_EQ(allocate(1, 1)[0], b[0]);
  EXPECT_EQ(allocate(1, 0)[0], a[1]);
  pool_.check_invariants();
}

TEST_F(Lanes, CostNoMemory) {
  for (unsigned worker = 0; worker < 8; ++worker) (void)allocate(kObjects / 8, worker);
  EXPECT_EQ(pool_.stats().pages, 4U) << "what has room is used before there is a new zspage, whosever it is";
  (void)allocate(kObjects % 8, 5);
  EXPECT_EQ(pool_.stats().pages, 4U);
  (void)allocate(1, 5);
  EXPECT_EQ(pool_.stats().pages, 8U);
  pool_.check_invariants();
}

// Owners that never point back, so that compaction isolates zspages, and puts them back as they are.
class NoOwners final : public OwnerTable {
 public:
  bool relocate(Owner, Location, const std::function<std::optional<Location>()>&) override {
    ++asked;
    return false;
  }
  std::uint64_t asked = 0;
};

// Every worker frees objects of all others, so that zspages change their lanes at all times.
TEST_F(Lanes, ChangeWhileOthersAreInThem) {
  constexpr std::size_t kSlots = 2000;
  std::array<std::atomic<std::uint64_t>, kSlots> slots{};
  std::atomic<unsigned> at_work{4};
  const auto work = [&](unsigned worker) {
    std::mt19937 random(worker);
    for (int i = 0; i < 100'000; ++i) {
      Location mine = Location::none;
      if (random() % 2 == 0) mine = *pool_.malloc(1300, {Owner{worker}, 0}, worker);  // 3 in a zspage
      const Location old{slots[random() % kSlots].exchange(raw(mine))};
      if (old != Location::none) pool_.free(old, worker);
    }
    --at_work;
  };
  NoOwners owners;
  {
    std::vector<std::jthread> threads;
    for (unsigned worker = 0; worker < 4; ++worker) threads.emplace_back(work, worker);
    while (at_work != 0) (void)pool_.compact(owners);
  }
  EXPECT_GT(owners.asked, 0U) << "a zspage was isolated";
  pool_.check_invariants();
  for (auto& slot : slots) {
    const Location object{slot.load()};
    if (object != Location::none) pool_.free(object);
  }
  pool_.check_invariants();
  EXPECT_EQ(pool_.stats().pages, 0U);
}

}  // namespace
}  // namespace uzram
