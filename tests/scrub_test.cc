// What a scrub finds, and that it finds everything.

#include <array>
#include <atomic>
#include <thread>

#include "compress/codec.h"
#include "tests/device_fixture.h"

namespace uzram::testing {
namespace {

class ScrubTest : public DeviceTest {
 protected:
  // Pages of every kind: as they are, of one word in its slot and in an object, and of many compressed lengths.
  static Bytes page(std::uint64_t n) {
    if (n == 0) return incompressible(kPageSize, 1);
    if (n == 1) return repeated(0x0123456789abcdef);
    if (n == 2) return repeated(7);
    Bytes bytes(kPageSize);
    const Bytes noise = incompressible(n * 73 % kPageSize, n);
    std::copy(noise.begin(), noise.end(), bytes.begin());
    return bytes;
  }

  // The bytes that the object of page n takes, in order, its header first.
  std::vector<std::byte*> bytes_of(std::uint64_t n, Location at) {
    const FrameNumber frame = frame_of(at);
    const bool as_is = arena_.entry(frame).link().size_class == kHugeClass;
    std::vector<std::byte*> bytes;
    for (std::size_t i = 0; as_is && i < sizeof(std::uint64_t); ++i) {
      bytes.push_back(reinterpret_cast<std::byte*>(&arena_.entry(frame).tag) + i);
    }
    const std::size_t size = as_is ? kPageSize : sizeof(std::uint64_t) + stored_length(n);
    const std::size_t room = kFrameSize - offset_in_frame(at);
    for (std::size_t i = 0; i < std::min(size, room); ++i) bytes.push_back(arena_.bytes(at) + i);
    for (std::size_t i = room; i < size; ++i) {
      bytes.push_back(arena_.bytes(arena_.entry(frame).link().next) + (i - room));
    }
    return bytes;
  }
  static std::size_t stored_length(std::uint64_t n) {
    if (n == 1) return sizeof(std::uint64_t);
    const Bytes in = page(n);
    return make_compressor({})->compress(in, kPageSize).size();
  }
};

TEST_F(ScrubTest, AWholeDeviceHasNoDamage) {
  make(kMiB);
  for (std::uint64_t n = 0; n < 100; ++n) ASSERT_TRUE(write(n * kPageSize, page(n)));
  device_->discard(ByteOffset{50 * kPageSize}, kPageSize);
  const ScrubReport report = device_->scrub();
  EXPECT_EQ(report.pages, 99U);
  EXPECT_EQ(report.objects, 98U) << "one is in its slot";
  EXPECT_EQ(report.damaged, 0U);
  EXPECT_TRUE(report.named.empty());
}

// Every bit of every object, one after the other.
TEST_F(ScrubTest, AnyFlippedBitOfAnyObjectIsFound) {
  constexpr std::uint64_t kPages = 28;
  make(kMiB);
  std::vector<Location> objects(kPages, Location::none);
  for (std::uint64_t n = 0; n < kPages; ++n) ASSERT_TRUE(write(n * kPageSize, page(n)));
  device_->pool().check_invariants([&](Location at, ObjectHeader header) { objects.at(raw(header.owner)) = at; });
  std::uint64_t flips = 0;
  std::uint64_t missed = 0;
  for (std::uint64_t n = 0; n < kPages; ++n) {
    if (objects[n] == Location::none) continue;
    for (std::byte* const at : bytes_of(n, objects[n])) {
      for (unsigned bit = 0; bit < 8; ++bit, ++flips) {
        *at ^= std::byte{1} << bit;
        const ScrubReport report = device_->scrub();
        *at ^= std::byte{1} << bit;
        if (report.damaged == 0) ++missed;
        ASSERT_TRUE(report.damaged == 0 || report.named == std::vector{PageIndex{n}}) << "page " << n;
      }
    }
  }
  std::printf("%llu bits flipped, %llu missed\n", static_cast<unsigned long long>(flips),
              static_cast<unsigned long long>(missed));
  EXPECT_GT(flips, 200'000U);
  EXPECT_LE(missed, 1U) << "1 in 2^24 is the check's to miss";
  EXPECT_EQ(device_->stats().scrub_failures, flips - missed);
  EXPECT_EQ(device_->scrub().damaged, 0U);
}

TEST_F(ScrubTest, AnyFlippedBitOfASlotIsFound) {
  make(2 * kMiB);
  for (std::uint64_t n = 0; n < 10; ++n) ASSERT_TRUE(write(n * kPageSize, page(n)));
  auto* const slots = this->slots();
  ASSERT_NE(slots, nullptr);
  for (std::uint64_t n = 0; n < 12; ++n) {     // two of them are empty
    for (unsigned bit = 0; bit < 63; ++bit) {  // 63 is the lock
      slots[n] ^= std::uint64_t{1} << bit;
      const ScrubReport report = device_->scrub();
      slots[n] ^= std::uint64_t{1} << bit;
      ASSERT_EQ(report.named, std::vector{PageIndex{n}}) << "bit " << bit;
    }
  }
}

TEST_F(ScrubTest, OnlyTheFirstDamagedPagesAreNamed) {
  make(kMiB);
  for (std::uint64_t n = 3; n < 60; ++n) ASSERT_TRUE(write(n * kPageSize, page(n)));
  device_->pool().check_invariants([&](Location at, ObjectHeader) { arena_.bytes(at)[9] ^= std::byte{1}; });
  const ScrubReport report = device_->scrub();
  EXPECT_EQ(report.damaged, 57U);
  ASSERT_EQ(report.named.size(), ScrubReport::kNamed);
  EXPECT_EQ(report.named.front(), PageIndex{3});
  EXPECT_TRUE(std::is_sorted(report.named.begin(), report.named.end()));
}

TEST_F(ScrubTest, RunsBesideWritersAndCompaction) {
  make(4 * kMiB);
  std::atomic<bool> stop{false};
  std::atomic<unsigned> writes{0};
  const auto work = [&](std::uint64_t first) {
    const StreamPtr stream = device_->make_stream();
    std::mt19937_64 random(first);
    while (!stop) {
      const std::uint64_t n = first + random() % 256;
      if (random() % 4 == 0) {
        device_->discard(ByteOffset{n * kPageSize}, kPageSize);
      } else {
        ASSERT_TRUE(device_->write(*stream, ByteOffset{n * kPageSize}, page(random() % 1000)));
        ++writes;
      }
    }
  };
  {
    std::jthread low(work, 0);
    std::jthread high(work, 256);
    std::jthread compactor([&] {
      while (!stop) device_->compact();
    });
    while (writes < 20'000) EXPECT_EQ(device_->scrub().damaged, 0U);
    stop = true;
  }
  device_->check_invariants();
}

TEST_F(ScrubTest, AnErasedDeviceIsEmpty) {
  make(kMiB);
  ASSERT_TRUE(write(0, page(0)));
  device_->erase();
  EXPECT_EQ(device_->scrub().pages, 0U);
}

}  // namespace
}  // namespace uzram::testing
