#include "allocator/zs_pool.h"
#include "allocator/mapped_object.h"

#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "blockdev/classes_table.h"

namespace uzram {
namespace {

// Owners of objects without a device: a table of locations, each with a lock.
class TestOwners final : public OwnerTable {
 public:
  explicit TestOwners(std::size_t n) : entries_(n) {}

  struct Entry {
    SpinLock lock;
    Location location = Location::none;
    std::size_t size = 0;
  };
  Entry& operator[](std::size_t i) { return entries_[i]; }

  bool relocate(Owner owner, Location from, const std::function<std::optional<Location>()>& move) override {
    Entry& entry = entries_.at(raw(owner));
    const std::scoped_lock lock(entry.lock);
    if (entry.location != from) return false;
    const auto to = move();
    if (to) entry.location = *to;
    return to.has_value();
  }

 private:
  std::vector<Entry> entries_;
};

std::vector<std::byte> pattern(std::size_t size, std::uint64_t seed) {
  std::vector<std::byte> bytes(size);
  std::mt19937_64 random(seed);
  for (std::byte& b : bytes) b = static_cast<std::byte>(random());
  return bytes;
}

std::vector<std::byte> contents(const ZsPool& pool, Location object, std::size_t size) {
  std::array<std::byte, kFrameSize> scratch;
  const auto bytes = pool.read(object, size, scratch);
  return {bytes.begin(), bytes.end()};
}

class Pool : public testing::Test {
 protected:
  PageArena arena_{{}};
};

TEST_F(Pool, EverySizeComesBackAsItWasWritten) {
  for (const Geometry& geometry : {Geometry{}, Geometry{.rule = ChainRule::kernel, .chain = 8},
                                   Geometry{.rule = ChainRule::kernel, .chain = 16}}) {
    ZsPool pool(arena_, geometry);
    std::vector<Location> objects;
    for (std::size_t size = 1; size <= kFrameSize; ++size) {
      const auto object = pool.malloc(size, {Owner{size}, static_cast<std::uint32_t>(size)});
      ASSERT_TRUE(object);
      pool.write(*object, pattern(size, size));
      objects.push_back(*object);
    }
    pool.check_invariants();
    for (std::size_t size = 1; size <= kFrameSize; ++size) {
      const Location object = objects[size - 1];
      ASSERT_EQ(contents(pool, object, size), pattern(size, size)) << size;
      ASSERT_EQ(pool.header(object, size).owner, Owner{size});
      ASSERT_EQ(pool.header(object, size).check, size);
    }
    for (const Location object : objects) pool.free(object);
    pool.check_invariants();
    EXPECT_EQ(pool.stats().pages, 0U);
  }
}

TEST_F(Pool, RefusesSizesOutsideItsRange) {
  ZsPool pool(arena_, {});
  EXPECT_FALSE(pool.malloc(0, {}));
  EXPECT_FALSE(pool.malloc(kFrameSize + 1, {}));
  EXPECT_EQ(pool.stats().pages, 0U);
}

TEST_F(Pool, MappedObjectsStraddleFrames) {
  ZsPool pool(arena_, {});
  // 5 objects of 3264 bytes in 4 frames: all but the first and the last straddle.
  std::vector<Location> objects;
  for (unsigned i = 0; i < 5; ++i) objects.push_back(*pool.malloc(3256, {Owner{i}, 0}));
  for (unsigned i = 0; i < 5; ++i) {
    const auto mapped = pool.map(objects[i], MapMode::write_only);
    ASSERT_EQ(mapped.bytes().size(), 3256U);
    const auto bytes = pattern(3256, i);
    std::copy(bytes.begin(), bytes.end(), mapped.bytes().begin());
  }
  for (unsigned i = 0; i < 5; ++i) {
    const auto mapped = pool.map(objects[i], MapMode::read_write);
    ASSERT_EQ(std::vector(mapped.bytes().begin(), mapped.bytes().end()), pattern(3256, i));
    mapped.bytes()[2000] ^= std::byte{1};
  }
  for (unsigned i = 0; i < 5; ++i) {
    auto expected = pattern(3256, i);
    expected[2000] ^= std::byte{1};
    const auto mapped = pool.map(objects[i], MapMode::read_only);
    ASSERT_EQ(std::vector(mapped.bytes().begin(), mapped.bytes().end()), expected);
  }
  for (const Location object : objects) pool.free(object);
}

TEST_F(Pool, AMappedAsIsPageHasItsWholeFrame) {
  ZsPool pool(arena_, {});
  const Location object = *pool.malloc(kFrameSize, {Owner{3}, 7});
  EXPECT_EQ(pool.map(object, MapMode::read_write).bytes().size(), kFrameSize);
  EXPECT_EQ(pool.header(object, kFrameSize).check, 7U);
  pool.free(object);
}

TEST_F(Pool, LimitIsHonouredInsideMalloc) {
  ZsPool pool(arena_, {});
  pool.set_page_limit(10);
  std::vector<Location> objects;
  while (const auto object = pool.malloc(kFrameSize, {})) objects.push_back(*object);
  EXPECT_EQ(objects.size(), 10U);
  EXPECT_EQ(pool.stats().pages, 10U);
  EXPECT_EQ(pool.stats().max_pages, 10U);
  EXPECT_FALSE(pool.malloc(168, {})) << "four frames more";
  pool.free(objects.back());
  EXPECT_TRUE(pool.malloc(4000, {}).has_value()) << "one frame is free again";
  objects.pop_back();
  pool.set_page_limit(0);
  const auto beyond = pool.malloc(168, {});
  EXPECT_TRUE(beyond);
  EXPECT_EQ(pool.stats().pages, 14U);
  for (const Location object : objects) pool.free(object);
  pool.free(*beyond);
  pool.check_invariants([&](Location object, ObjectHeader) { objects = {object}; });
  pool.free(objects[0]);
}

TEST_F(Pool, AnExhaustedArenaFailsMallocAndChargesNothing) {
  PageArena small({.reserve = 1 << 20, .grow = false});
  ZsPool pool(small, {});
  std::vector<Location> objects;
  while (const auto object = pool.malloc(kFrameSize, {})) objects.push_back(*object);
  EXPECT_EQ(objects.size(), PageArena::kChunkFrames - 1);
  EXPECT_EQ(pool.stats().pages, objects.size());
  EXPECT_EQ(pool.stats().max_pages, objects.size());
  pool.check_invariants();
  for (const Location object : objects) pool.free(object);
  EXPECT_EQ(pool.stats().pages, 0U);
}

TEST_F(Pool, AllocationFillsTheFullestZspageFirst) {
  ZsPool pool(arena_, {});
  const std::size_t size = 168;  // 93 objects in a zspage
  std::vector<std::vector<Location>> zspages(3);
  for (auto& zspage : zspages) {
    for (unsigned i = 0; i < 93; ++i) zspage.push_back(*pool.malloc(size, {Owner{0}, 0}));
  }
  for (unsigned i = 0; i < 80; ++i) pool.free(zspages[0][i]);
  for (unsigned i = 0; i < 10; ++i) pool.free(zspages[1][i]);
  for (unsigned i = 0; i < 60; ++i) pool.free(zspages[2][i]);
  // Ten fit into the second, which is the fullest.
  for (unsigned i = 0; i < 10; ++i) zspages[1][i] = *pool.malloc(size, {Owner{0}, 0});
  EXPECT_EQ(pool.class_stats(9).full, 1U);
  for (unsigned i = 80; i < 93; ++i) pool.free(zspages[0][i]);
  EXPECT_EQ(pool.stats().pages, 8U) << "the emptiest was left to drain, and was given back";
  for (unsigned i = 60; i < 93; ++i) pool.free(zspages[2][i]);
  for (const Location object : zspages[1]) pool.free(object);
  pool.check_invariants();
  EXPECT_EQ(pool.stats().pages, 0U);
}

// Fills `zspages` zspages of a class and frees objects of the last one until `left` are in use there.
std::vector<Location> fill(ZsPool& pool, unsigned index, unsigned zspages, unsigned left) {
  const SizeClass& geometry = pool.classes()[index];
  std::vector<Location> objects;
  for (unsigned i = 0; i < zspages * geometry.objects; ++i) {
    objects.push_back(*pool.malloc(geometry.size - kHeaderSize, {Owner{i}, 0}));
  }
  while (objects.size() > (zspages - 1) * geometry.objects + left) {
    pool.free(objects.back());
    objects.pop_back();
  }
  return objects;
}

TEST_F(Pool, SampleRowsOfTheDocumentationUnderTheThreeQuarterRule) {
  ZsPool pool(arena_, {.threshold_numerator = 3, .threshold_denominator = 4});
  std::vector<Location> all;
  const auto add = [&](std::vector<Location> some) { all.insert(all.end(), some.begin(), some.end()); };
  add(fill(pool, 9, 2, 36));
  add(fill(pool, 10, 45, 56));
  add(fill(pool, 11, 21, 15));
  add(fill(pool, 12, 3, 13));
  const std::string table = format_classes(class_rows(pool), TableForm::documented);
  EXPECT_NE(table.find(" class  size almost_full almost_empty obj_allocated   obj_used pages_used pages_per_zspage\n"),
            std::string::npos)
      << table;
  EXPECT_NE(table.find("     9   176           0            1           186        129          8                4\n"
                       "    10   192           1            0          2880       2872        135                3\n"
                       "    11   208           0            1           819        795         42                2\n"
                       "    12   224           0            1           219        159         12                4\n"),
            std::string::npos)
      << table;
  for (const Location object : all) pool.free(object);
}

TEST_F(Pool, TheTextsRuleHoldsAtItsEdges) {
  ZsPool pool(arena_, {});
  const auto groups = [&](unsigned index) {
    const ClassStats s = pool.class_stats(index);
    return std::tuple(s.almost_empty, s.almost_full, s.full);
  };
  // Class 10: N = 64, N/4 exactly is 16.
  auto objects = fill(pool, 10, 1, 17);
  EXPECT_EQ(groups(10), std::tuple(0U, 1U, 0U)) << "n = N/4 + 1";
  pool.free(objects.back());
  objects.pop_back();
  EXPECT_EQ(groups(10), std::tuple(1U, 0U, 0U)) << "n = N/4";
  for (const Location object : objects) pool.free(object);
  EXPECT_EQ(groups(10), std::tuple(0U, 0U, 0U)) << "n = 0";
  // Class 9: N = 93 is no multiple of 4; 23 <= 93/4 < 24.
  objects = fill(pool, 9, 1, 24);
  EXPECT_EQ(groups(9), std::tuple(0U, 1U, 0U));
  pool.free(objects.back());
  objects.pop_back();
  EXPECT_EQ(groups(9), std::tuple(1U, 0U, 0U));
  while (objects.size() < 93) objects.push_back(*pool.malloc(168, {Owner{0}, 0}));
  EXPECT_EQ(groups(9), std::tuple(0U, 0U, 1U)) << "n = N";
  for (const Location object : objects) pool.free(object);
}

TEST_F(Pool, CompactionFreesWhatCanBeFreedAndKeepsEveryByte) {
  ZsPool pool(arena_, {});
  constexpr std::size_t kObjects = 20000;
  TestOwners owners(kObjects);
  std::mt19937_64 random(1);
  for (std::size_t i = 0; i < kObjects; ++i) {
    const std::size_t size = 1 + random() % 3000;
    owners[i].location = *pool.malloc(size, {Owner{i}, 0}, static_cast<unsigned>(i / 100));
    owners[i].size = size;
    pool.write(owners[i].location, pattern(size, i));
  }
  for (std::size_t i = 0; i < kObjects; ++i) {
    if (random() % 2 == 0) continue;
    pool.free(owners[i].location, static_cast<unsigned>(i));
    owners[i].location = Location::none;
  }
  std::uint64_t freeable = 0;
  for (const ClassStats& row : class_rows(pool)) freeable += row.freeable();
  const std::uint64_t before = pool.stats().pages;
  const std::uint64_t freed = pool.compact(owners);
  EXPECT_EQ(freed, freeable) << "at rest, all that can be freed is";
  EXPECT_GT(freed, before / 4);
  EXPECT_EQ(pool.stats().pages, before - freed);
  EXPECT_EQ(pool.stats().pages_compacted, freed);
  EXPECT_EQ(pool.compact(owners), 0U);
  pool.check_invariants(
      [&](Location object, ObjectHeader header) { ASSERT_EQ(owners[raw(header.owner)].location, object); });
  for (std::size_t i = 0; i < kObjects; ++i) {
    if (owners[i].location == Location::none) continue;
    ASSERT_EQ(contents(pool, owners[i].location, owners[i].size), pattern(owners[i].size, i));
    pool.free(owners[i].location);
  }
  EXPECT_EQ(pool.stats().pages, 0U);
}

TEST_F(Pool, CompactionLeavesWritesInFlightAlone) {
  ZsPool pool(arena_, {});
  TestOwners owners(1000);
  std::vector<Location> in_flight;
  for (std::size_t i = 0; i < 300; ++i) {
    const auto object = pool.malloc(168, {Owner{i}, 0});
    if (i % 10 == 0) in_flight.push_back(*object);  // no owner points at it
    if (i % 10 != 0) pool.free(*object);
  }
  EXPECT_EQ(pool.compact(owners), 0U);
  for (const Location object : in_flight) pool.free(object);
  pool.check_invariants();
  EXPECT_EQ(pool.stats().pages, 0U);
}

// One worker's part of the model test: its own owners, in a pool that all workers share while one compacts.
void model(ZsPool& pool, TestOwners& owners, unsigned worker, std::size_t count, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  const std::size_t first = worker * count;
  std::map<std::size_t, std::vector<std::byte>> expected;
  for (unsigned step = 0; step < 20000; ++step) {
    const std::size_t i = first + random() % count;
    auto& owner = owners[i];
    switch (random() % 3) {
      case 0: {  // replace: allocate, write, exchange, free
        const std::size_t size = random() % 4 == 0 ? 1 + random() % kFrameSize : 1 + random() % 400;
        const auto object = pool.malloc(size, {Owner{i}, 0}, worker);
        if (!object) break;
        auto bytes = pattern(size, random());
        pool.write(*object, bytes);
        Location old;
        {
          const std::scoped_lock lock(owner.lock);
          old = std::exchange(owner.location, *object);
          owner.size = size;
        }
        if (old != Location::none) pool.free(old, worker);
        expected[i] = std::move(bytes);
        break;
      }
      case 1: {  // free
        Location old;
        {
          const std::scoped_lock lock(owner.lock);
          old = std::exchange(owner.location, Location::none);
        }
        if (old != Location::none) pool.free(old, worker);
        expected.erase(i);
        break;
      }
      default: {  // read
        const std::scoped_lock lock(owner.lock);
        ASSERT_EQ(owner.location != Location::none, expected.contains(i));
        if (owner.location != Location::none) {
          ASSERT_EQ(contents(pool, owner.location, owner.size), expected[i]);
        }
      }
    }
  }
}

TEST_F(Pool, BehavesAsTheModelFromManyThreadsWhileItCompacts) {
  const auto seed = std::random_device{}();
  std::printf("seed %u\n", seed);
  for (const Geometry& geometry : {Geometry{}, Geometry{.rule = ChainRule::kernel, .chain = 8}}) {
    ZsPool pool(arena_, geometry);
    constexpr std::size_t kPerThread = 700;
    TestOwners owners(3 * kPerThread);
    pool.set_page_limit(600);
    std::vector<std::thread> threads;
    std::atomic<bool> stop{false};
    for (unsigned t = 0; t < 3; ++t) {
      threads.emplace_back([&, t] { model(pool, owners, t, kPerThread, seed + t); });
    }
    std::uint64_t compacted = 0;
    std::thread compactor([&] {
      while (!stop) compacted += pool.compact(owners);
    });
    for (std::thread& thread : threads) thread.join();
    stop = true;
    compactor.join();
    EXPECT_GT(compacted, 0U);
    std::size_t live = 0;
    pool.check_invariants([&](Location object, ObjectHeader header) {
      ASSERT_EQ(owners[raw(header.owner)].location, object);
      ++live;
    });
    for (std::size_t i = 0; i < 3 * kPerThread; ++i) {
      if (owners[i].location == Location::none) continue;
      pool.free(owners[i].location);
      --live;
    }
    EXPECT_EQ(live, 0U);
    EXPECT_EQ(pool.stats().pages, 0U);
  }
}

}  // namespace
}  // namespace uzram
