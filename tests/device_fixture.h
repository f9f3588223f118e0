#pragma once
// What the device's tests share: a device on an arena of its own, and bytes to put there.

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "blockdev/device.h"

namespace uzram::testing {

using Bytes = std::vector<std::byte>;

inline constexpr std::uint64_t kMiB = 1 << 20;

// Bytes that compress to about half: runs of a few values with noise between.
inline Bytes compressible(std::size_t size, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  Bytes bytes(size);
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(i % 64 < 24 ? random() : 0x20 + i % 7);
  return bytes;
}

inline Bytes incompressible(std::size_t size, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  Bytes bytes(size);
  for (std::byte& b : bytes) b = static_cast<std::byte>(random());
  return bytes;
}

inline Bytes repeated(std::uint64_t word, std::size_t pages = 1) {
  Bytes bytes(pages * kPageSize);
  for (std::size_t at = 0; at < bytes.size(); at += 8) std::memcpy(&bytes[at], &word, 8);
  return bytes;
}

class DeviceTest : public ::testing::Test {
 protected:
  void make(const DeviceOptions& options) {
    stream_.reset();
    device_.reset();
    auto made = Device::create(arena_, options);
    ASSERT_TRUE(made) << made.error().message;
    device_ = std::move(*made);
    stream_ = device_->make_stream();
  }
  void make(std::uint64_t size) { make({.size = size}); }

  IoResult write(std::uint64_t offset, const Bytes& bytes) {
    return device_->write(*stream_, ByteOffset{offset}, bytes);
  }
  Bytes read(std::uint64_t offset, std::size_t size) {
    Bytes bytes(size, std::byte{0xee});
    EXPECT_TRUE(device_->read(*stream_, ByteOffset{offset}, bytes));
    return bytes;
  }

  // The slots of the first 2 MiB, some of which have been written.
  std::uint64_t* slots() {
    for (std::uint32_t f = 1; f < PageArena::kChunkFrames; ++f) {
      const FrameNumber frame{f};
      if (arena_.entry(frame).link().kind != FrameKind::leaf) continue;
      if (LeafTag::unpack(arena_.entry(frame).tag)->index == 0)
        return reinterpret_cast<std::uint64_t*>(arena_.bytes(frame));
    }
    ADD_FAILURE() << "there is no leaf";
    return nullptr;
  }

  PageArena arena_{{}};
  std::unique_ptr<Device> device_;
  StreamPtr stream_;
};

}  // namespace uzram::testing
