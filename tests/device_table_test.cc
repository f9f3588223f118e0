#include "blockdev/device_table.h"

#include <gtest/gtest.h>

#include <array>
#include <thread>

namespace uzram {
namespace {

DeviceOptions options(const std::string& name) {
  DeviceOptions o;
  o.name = name;
  o.size = 1 << 20;
  return o;
}

class DeviceTableTest : public testing::Test {
 protected:
  PageArena arena_{PageArena::Options{}};
  DeviceTable table_{arena_};

  void make(const std::string& name) { ASSERT_TRUE(table_.create(options(name))); }
  void write_page(const std::string& name) {
    const auto device = table_.find(name);
    ASSERT_TRUE(device);
    const auto stream = (*device)->make_stream();
    std::array<std::byte, kPageSize> page;
    for (std::size_t i = 0; i < page.size(); ++i) page[i] = static_cast<std::byte>(i * i);
    ASSERT_TRUE((*device)->write(*stream, ByteOffset{0}, page));
  }
};

template <class T>
int code(const Result<T>& result) {
  return result ? 0 : result.error().code;
}

TEST_F(DeviceTableTest, NamesComeInTheOrderOfCreation) {
  make("b");
  make("a");
  make("c");
  ASSERT_TRUE(table_.remove("a"));
  make("a");
  EXPECT_EQ(table_.names(), (std::vector<std::string>{"b", "c", "a"}));
}

TEST_F(DeviceTableTest, NameIsTakenOnce) {
  make("a");
  const auto again = table_.create(options("a"));
  EXPECT_EQ(code(again), EEXIST);
  EXPECT_EQ(again.error().message, "device 'a' exists already");
}

TEST_F(DeviceTableTest, NameHoldsNothingThatNeedsQuoting) {
  for (const std::string& name :
       {std::string(), std::string("a b"), std::string("a/b"), std::string("a\"b"), std::string("a\nb"),
        std::string("\xc3\xa9"), std::string(256, 'a'), std::string("a\0b", 3)}) {
    EXPECT_EQ(code(table_.create(options(name))), EINVAL) << name;
  }
  make(std::string(255, 'a'));
  make("Zram-0_x.y");
}

TEST_F(DeviceTableTest, WrongSizeMakesNoDevice) {
  DeviceOptions o = options("a");
  o.size = 0;
  EXPECT_EQ(code(table_.create(o)), EINVAL);
  EXPECT_TRUE(table_.names().empty());
}

TEST_F(DeviceTableTest, EmptyNameOpensTheFirstDeviceOnly) {
  EXPECT_EQ(code(table_.open("")), ENODEV);
  make("a");
  make("b");
  const auto opened = table_.open("");
  ASSERT_TRUE(opened);
  EXPECT_EQ((*opened)->options().name, "a");
  EXPECT_EQ(code(table_.remove("")), ENODEV);
  EXPECT_EQ(code(table_.reset("")), ENODEV);
}

TEST_F(DeviceTableTest, UnknownNameIsNoDevice) {
  make("a");
  EXPECT_EQ(code(table_.open("x")), ENODEV);
  EXPECT_EQ(code(table_.find("x")), ENODEV);
  EXPECT_EQ(code(table_.remove("x")), ENODEV);
  EXPECT_EQ(code(table_.reset("x")), ENODEV);
  EXPECT_EQ(table_.openers("x"), 0);
  EXPECT_EQ(table_.find("x").error().message, "no device 'x'");
}

TEST_F(DeviceTableTest, OpenDeviceIsNeitherRemovedNorReset) {
  make("a");
  {
    auto first = table_.open("a");
    ASSERT_TRUE(first);
    const OpenDevice moved = std::move(*first);
    const auto second = table_.open("");
    EXPECT_EQ(table_.openers("a"), 2);
    EXPECT_EQ(code(table_.remove("a")), EBUSY);
    EXPECT_EQ(code(table_.reset("a")), EBUSY);
  }
  EXPECT_EQ(table_.openers("a"), 0);
  EXPECT_TRUE(table_.reset("a"));
  EXPECT_TRUE(table_.remove("a"));
}

TEST_F(DeviceTableTest, ResetEmptiesTheDeviceAndKeepsItsOptions) {
  DeviceOptions o = options("a");
  o.codec.algorithm = Algorithm::zstd;
  o.mem_limit = 1 << 20;
  ASSERT_TRUE(table_.create(o));
  make("b");
  write_page("a");
  ASSERT_NE((*table_.find("a"))->stats().orig_data_size, 0U);
  ASSERT_TRUE(table_.reset("a"));
  const auto device = *table_.find("a");
  EXPECT_EQ(device->stats().orig_data_size, 0U);
  EXPECT_EQ(device->stats().mem_used_max, 0U);
  EXPECT_EQ(device->stats().mem_limit, 1U << 20);
  EXPECT_EQ(device->options().codec.algorithm, Algorithm::zstd);
  EXPECT_EQ(table_.names(), (std::vector<std::string>{"a", "b"}));
}

TEST_F(DeviceTableTest, ObserverOutlivesTheRemovalOfWhatItLooksAt) {
  make("a");
  const auto seen = *table_.find("a");
  ASSERT_TRUE(table_.remove("a"));
  EXPECT_EQ(seen->stats().orig_data_size, 0U);
  make("a");
  EXPECT_NE(seen, *table_.find("a"));
}

TEST_F(DeviceTableTest, NoDeviceIsRemovedUnderAClientThatRacesToOpenIt) {
  std::atomic<bool> end{false};
  std::thread client([&] {
    while (!end) {
      const auto opened = table_.open("a");
      EXPECT_TRUE(!opened || table_.openers("a") > 0);
    }
  });
  for (int i = 0; i < 300; ++i) {
    make("a");
    while (!table_.remove("a")) std::this_thread::yield();
  }
  end = true;
  client.join();
  EXPECT_TRUE(table_.names().empty());
}

}  // namespace
}  // namespace uzram
