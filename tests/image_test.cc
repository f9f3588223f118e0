// What a process knows beside its shared state, read by one that takes over from it without recovery.

#include "allocator/image.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "blockdev/device_table.h"

namespace uzram {
namespace {

using Bytes = std::vector<std::byte>;
constexpr std::uint64_t kPages = 400;  // of each device

Bytes page_of(std::uint64_t n) {
  std::mt19937_64 random(n);
  Bytes page(kPageSize, static_cast<std::byte>(n));
  const std::size_t noise = n % 5 == 0 ? 0 : n * 131 % kPageSize;
  for (std::size_t i = 0; i < noise; ++i) page[i] = static_cast<std::byte>(random());
  return page;
}

class Image : public testing::Test {
 protected:
  Image() : fd_(memfd_create("image-test", MFD_CLOEXEC)) {}
  ~Image() override { close(fd_); }

  struct Process {
    explicit Process(int fd) : arena({.capacity = 64 << 20, .fd = fd}), table(arena) {}

    [[nodiscard]] bool load(std::span<const std::byte> bytes) {
      ImageReader image(bytes);
      return arena.load(image) && table.load(image);
    }
    [[nodiscard]] Bytes image() const {
      ImageWriter image;
      arena.save(image);
      table.save(image);
      return {image.bytes().begin(), image.bytes().end()};
    }

    PageArena arena;
    DeviceTable table;
  };

  // A process that has written, discarded and compacted.
  void use(Process& process) {
    for (const char* name : {"a", "b"}) {
      ASSERT_TRUE(process.table.create({.name = name, .size = kPages * kPageSize, .mem_limit = 32 << 20}));
      Device& device = **process.table.find(name);
      const StreamPtr streams[] = {device.make_stream(), device.make_stream()};
      for (std::uint64_t n = 0; n < kPages; ++n) {
        ASSERT_TRUE(device.write(*streams[n % 2], ByteOffset{n * kPageSize}, page_of(n)));
      }
      device.discard(ByteOffset{0}, kPages / 4 * kPageSize);
      device.compact();
    }
  }
  static void expect_contents(Device& device) {
    const StreamPtr stream = device.make_stream();
    Bytes bytes(kPageSize);
    for (std::uint64_t n = 0; n < kPages; ++n) {
      ASSERT_TRUE(device.read(*stream, ByteOffset{n * kPageSize}, bytes)) << n;
      ASSERT_EQ(bytes, n < kPages / 4 ? Bytes(kPageSize) : page_of(n)) << n;
    }
  }

  const int fd_;
};

TEST_F(Image, WhatItHoldsIsServedOnWithoutRecovery) {
  Bytes image;
  DeviceStats before;
  {
    Process process(fd_);
    use(process);
    image = process.image();
    before = (*process.table.find("b"))->stats();
  }
  Process next(fd_);
  ASSERT_TRUE(next.load(image));
  EXPECT_EQ(next.table.names(), (std::vector<std::string>{"a", "b"}));
  for (const char* name : {"a", "b"}) {
    Device& device = **next.table.find(name);
    device.check_invariants();
    expect_contents(device);
  }
  const DeviceStats after = (*next.table.find("b"))->stats();
  EXPECT_EQ(after.orig_data_size, before.orig_data_size);
  EXPECT_EQ(after.compr_data_size, before.compr_data_size);
  EXPECT_EQ(after.mem_used_total, before.mem_used_total);
  EXPECT_EQ(after.mem_limit, before.mem_limit);
  EXPECT_EQ(after.pages_compacted, before.pages_compacted);
  // It goes on: more is written, a device comes, one goes, and yet another process takes over.
  ASSERT_TRUE(next.table.create({.name = "c", .size = kPageSize}));
  ASSERT_TRUE(next.table.remove("a"));
  const Bytes second = next.image();
  Process last(fd_);
  ASSERT_TRUE(last.load(second));
  EXPECT_EQ(last.table.names(), (std::vector<std::string>{"b", "c"}));
  (*last.table.find("b"))->check_invariants();
  expect_contents(**last.table.find("b"));
}

TEST_F(Image, OneThatIsCutShortIsRefused) {
  Bytes image;
  {
    Process process(fd_);
    use(process);
    image = process.image();
  }
  for (std::size_t size = 0; size < image.size(); size += size < 100 || image.size() - size < 100 ? 1 : 97) {
    Process next(fd_);
    ASSERT_FALSE(next.load(std::span(image).first(size))) << size << " of " << image.size();
  }
  Process next(fd_);
  EXPECT_TRUE(next.load(image)) << "nothing was changed";
}

TEST(ImageReader, GivesZeroesBeyondTheEndAndIsNotGoodAnyMore) {
  ImageWriter writer;
  writer.put(std::uint32_t{7});
  writer.put_text("seven");
  writer.put(std::uint32_t{100});  // a text that is longer than what follows
  ImageReader reader(writer.bytes());
  EXPECT_EQ(reader.get<std::uint32_t>(), 7U);
  EXPECT_EQ(reader.text(), "seven");
  EXPECT_TRUE(reader.good());
  EXPECT_EQ(reader.text(), "");
  EXPECT_FALSE(reader.good());
  EXPECT_EQ(reader.get<std::uint64_t>(), 0U);
  EXPECT_TRUE(reader.view(1).empty());
}

}  // namespace
}  // namespace uzram
