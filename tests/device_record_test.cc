// What is recorded of a device in its state, undamaged and damaged, seen by the process that comes after.

#include "blockdev/device_record.h"

#define XXH_INLINE_ALL
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>
#include <xxhash.h>

#include <cstddef>
#include <cstring>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "blockdev/recovery.h"

namespace uzram {
namespace {

constexpr std::uint64_t kMiB = 1 << 20;

class DeviceRecordTest : public testing::Test {
 protected:
  DeviceRecordTest() : fd_(memfd_create("record-test", MFD_CLOEXEC)) {
    PageArena arena(options());
    const auto device = std::move(*Device::create(
        arena, {.name = "swap", .size = 8 * kMiB, .codec = {Algorithm::zstd, 3}, .mem_limit = 5 * kMiB}));
    device->publish();
    EXPECT_TRUE(device->set_recompression(2, {Algorithm::lz4hc, 9}));
    for (std::uint32_t f = 1; f < PageArena::kChunkFrames; ++f) {
      if (arena.entry(FrameNumber{f}).link().kind == FrameKind::device) at_ = f * kFrameSize;
    }
  }
  ~DeviceRecordTest() override { close(fd_); }

  [[nodiscard]] PageArena::Options options() const { return {.capacity = 16 * kMiB, .fd = fd_}; }

  [[nodiscard]] DeviceRecord& edit(std::vector<std::byte>& frame) const {
    frame.resize(kFrameSize);
    EXPECT_EQ(pread(fd_, frame.data(), kFrameSize, at_), static_cast<ssize_t>(kFrameSize));
    return *reinterpret_cast<DeviceRecord*>(frame.data());
  }
  void put(const std::vector<std::byte>& frame) const {
    ASSERT_EQ(pwrite(fd_, frame.data(), kFrameSize, at_), static_cast<ssize_t>(kFrameSize));
  }

  // What the next process says: why it refuses, or nothing.
  [[nodiscard]] std::string refusal() const {
    PageArena arena(options());
    const auto recovered = recover(arena);
    return recovered ? "" : recovered.error().message;
  }
  [[nodiscard]] std::uint64_t recovered_limit() const {
    PageArena arena(options());
    const auto recovered = recover(arena);
    return recovered ? recovered->devices.at(0)->stats().mem_limit : ~std::uint64_t{0};
  }
  [[nodiscard]] std::vector<std::byte> state() const {
    std::vector<std::byte> bytes(static_cast<std::size_t>(lseek(fd_, 0, SEEK_END)));
    EXPECT_EQ(pread(fd_, bytes.data(), bytes.size(), 0), static_cast<ssize_t>(bytes.size()));
    return bytes;
  }

  const int fd_;
  off_t at_ = 0;
};

constexpr const char* kRefusal = "holds the record of a device, and it is damaged or of another version";

// Field by field, from where each begins to where the next does.
const std::pair<const char*, std::size_t> kFields[] = {
    {"version", offsetof(DeviceRecord, version)},
    {"number", offsetof(DeviceRecord, number)},
    {"sequence", offsetof(DeviceRecord, sequence)},
    {"size", offsetof(DeviceRecord, size)},
    {"level", offsetof(DeviceRecord, level)},
    {"algorithm", offsetof(DeviceRecord, algorithm)},
    {"rule", offsetof(DeviceRecord, rule)},
    {"check", offsetof(DeviceRecord, check)},
    {"chain", offsetof(DeviceRecord, chain)},
    {"numerator", offsetof(DeviceRecord, threshold_numerator)},
    {"denominator", offsetof(DeviceRecord, threshold_denominator)},
    {"uuid", offsetof(DeviceRecord, uuid)},
    {"name", offsetof(DeviceRecord, name)},
    {"checksum", offsetof(DeviceRecord, checksum)},
    {"limit", offsetof(DeviceRecord, limit)},
    {"recompression", offsetof(DeviceRecord, recompression)},
    {"the end", sizeof(DeviceRecord)},
};

TEST_F(DeviceRecordTest, AnyFlippedBitOfAnyFieldIsRefusedAndNothingIsChanged) {
  ASSERT_EQ(refusal(), "");
  std::vector<std::byte> frame;
  (void)edit(frame);
  for (std::size_t n = 0; n + 1 < std::size(kFields); ++n) {
    SCOPED_TRACE(kFields[n].first);
    std::vector<std::byte> damaged;
    for (std::size_t bit = 8 * kFields[n].second; bit < 8 * kFields[n + 1].second; ++bit) {
      frame[bit / 8] ^= static_cast<std::byte>(1U << bit % 8);
      put(frame);
      if (bit == 8 * kFields[n].second) damaged = state();
      ASSERT_NE(refusal().find(kRefusal), std::string::npos) << bit << ": " << refusal();
      EXPECT_TRUE(bit != 8 * kFields[n].second || state() == damaged) << "it was changed";
      frame[bit / 8] ^= static_cast<std::byte>(1U << bit % 8);
    }
  }
  put(frame);
  EXPECT_EQ(refusal(), "");
}

TEST_F(DeviceRecordTest, WhatCannotBeIsRefusedThoughItsChecksumIsRight) {
  const std::pair<const char*, std::function<void(DeviceRecord&)>> damages[] = {
      {"an older version", [](DeviceRecord& r) { --r.version; }},
      {"a newer version", [](DeviceRecord& r) { ++r.version; }},
      {"a number", [](DeviceRecord& r) { r.number = kMaxDevices; }},
      {"no size", [](DeviceRecord& r) { r.size = 0; }},
      {"part of a page", [](DeviceRecord& r) { ++r.size; }},
      {"a size", [](DeviceRecord& r) { r.size = kMaxDeviceBytes + kPageSize; }},
      {"an algorithm", [](DeviceRecord& r) { r.algorithm = Algorithm{3}; }},
      {"a rule", [](DeviceRecord& r) { r.rule = ChainRule{2}; }},
      {"a check", [](DeviceRecord& r) { r.check = 2; }},
      {"a short chain", [](DeviceRecord& r) { r.chain = 3; }},
      {"a long chain", [](DeviceRecord& r) { r.chain = kMaxChain + 1; }},
      {"a fraction of nothing", [](DeviceRecord& r) { r.threshold_numerator = r.threshold_denominator = 0; }},
      {"more than all", [](DeviceRecord& r) { r.threshold_numerator = r.threshold_denominator + 1; }},
      {"no name", [](DeviceRecord& r) { r.name.fill(0); }},
      {"a name without end", [](DeviceRecord& r) { r.name.fill('x'); }},
  };
  std::vector<std::byte> whole;
  (void)edit(whole);
  for (const auto& [what, damage] : damages) {
    std::vector<std::byte> frame;
    DeviceRecord& record = edit(frame);
    damage(record);
    record.checksum = XXH3_64bits(&record, offsetof(DeviceRecord, checksum));
    put(frame);
    EXPECT_NE(refusal().find(kRefusal), std::string::npos) << what << ": " << refusal();
    put(whole);
  }
  EXPECT_EQ(refusal(), "");
}

TEST_F(DeviceRecordTest, TheAlgorithmsOfRecompressionAreRecovered) {
  for (unsigned round = 0; round < 2; ++round) {
    PageArena arena(options());
    const auto recovered = recover(arena);
    ASSERT_TRUE(recovered);
    Device& device = *recovered->devices.at(0);
    EXPECT_EQ(device.codecs().at(0), (CodecSpec{Algorithm::zstd, 3}));
    EXPECT_EQ(device.codecs().at(1), round == 0 ? std::nullopt : std::optional(CodecSpec{Algorithm::zstd, -5}));
    EXPECT_EQ(device.codecs().at(2), (CodecSpec{Algorithm::lz4hc, 9}));
    EXPECT_EQ(device.codecs().at(3), std::nullopt);
    EXPECT_TRUE(device.set_recompression(1, {Algorithm::zstd, -5}));
  }
}

TEST_F(DeviceRecordTest, TheLimitThatWasSetLastIsRecovered) {
  EXPECT_EQ(recovered_limit(), 5 * kMiB);
  for (const auto& [set, is] : {std::pair{std::uint64_t{1}, std::uint64_t{4096}},
                                {4097, 8192},
                                {0, 0},
                                {~std::uint64_t{0}, kMaxLimitPages * kPageSize}}) {
    {
      PageArena arena(options());
      const auto recovered = recover(arena);
      ASSERT_TRUE(recovered);
      recovered->devices[0]->set_mem_limit(set);
      EXPECT_EQ(recovered->devices[0]->stats().mem_limit, is);
    }
    EXPECT_EQ(recovered_limit(), is);
  }
}

}  // namespace
}  // namespace uzram
