#pragma once
// Readers and writers at work on a device, for what has to lose nothing beside them.

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <random>
#include <thread>
#include <vector>

#include "tests/device_fixture.h"

namespace uzram::testing {

// One of several threads: it has every `of`th page, from the `mine`th on, and knows what is there.
class DeviceLoad {
 public:
  using Draw = std::function<Bytes(std::size_t size, std::mt19937_64& random)>;

  DeviceLoad(Device& device, std::uint64_t pages, unsigned mine, unsigned of, const Draw& draw)
      : device_(device), random_(mine), draw_(draw) {
    for (std::uint64_t page = mine; page < pages; page += of) {
      pages_.push_back({page * kPageSize, read(page * kPageSize)});
    }
  }

  void step() {
    Page& page = pages_[random_() % pages_.size()];
    switch (random_() % 8) {
      case 0:
        page.bytes = draw_(kPageSize, random_);
        write(page.at, page.bytes);
        break;
      case 1: {
        const Bytes patch = draw_(1 + random_() % 300, random_);
        const std::size_t in_page = random_() % (kPageSize - patch.size());
        std::copy(patch.begin(), patch.end(), page.bytes.begin() + static_cast<std::ptrdiff_t>(in_page));
        write(page.at + in_page, patch);
        break;
      }
      case 2:
        if (random_() % 8 != 0) break;
        device_.discard(ByteOffset{page.at}, kPageSize);
        page.bytes.assign(kPageSize, std::byte{0});
        break;
      default:
        verify(page);
    }
  }
  void verify_all() {
    for (const Page& page : pages_) verify(page);
  }

 private:
  struct Page {
    std::uint64_t at = 0;
    Bytes bytes{};
  };

  Bytes read(std::uint64_t at) {
    Bytes bytes(kPageSize);
    EXPECT_TRUE(device_.read(*stream_, ByteOffset{at}, bytes)) << at;
    return bytes;
  }
  void write(std::uint64_t at, const Bytes& bytes) {
    EXPECT_TRUE(device_.write(*stream_, ByteOffset{at}, bytes)) << at;
  }
  void verify(const Page& page) { EXPECT_TRUE(read(page.at) == page.bytes) << page.at; }

  Device& device_;
  const StreamPtr stream_ = device_.make_stream();
  std::mt19937_64 random_;
  const Draw& draw_;
  std::vector<Page> pages_;
};

// Calls `pass` again and again for two seconds, beside four threads of load on the first `pages` pages.
inline void beside_load(Device& device, std::uint64_t pages, const DeviceLoad::Draw& draw,
                        const std::function<void()>& pass) {
  constexpr unsigned kThreads = 4;
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (unsigned mine = 0; mine < kThreads; ++mine) {
    threads.emplace_back([&, mine] {
      DeviceLoad load(device, pages, mine, kThreads, draw);
      while (!stop && !::testing::Test::HasFailure()) load.step();
      load.verify_all();
    });
  }
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(2);
  while (std::chrono::steady_clock::now() < end) pass();
  stop = true;
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(device.stats().check_failures, 0U);
  device.check_invariants();
}

}  // namespace uzram::testing
