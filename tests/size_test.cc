#include "blockdev/size.h"

#include <gtest/gtest.h>

namespace uzram {
namespace {

constexpr std::uint64_t kGiB = std::uint64_t{1} << 30;

std::string why(const Result<std::uint64_t>& size) { return size ? "no error" : size.error().message; }

TEST(Size, IsReadAsMemparseReadsIt) {
  EXPECT_EQ(parse_size("0"), 0U);
  EXPECT_EQ(parse_size("4096"), 4096U);
  EXPECT_EQ(parse_size("1K"), 1024U);
  EXPECT_EQ(parse_size("3m"), 3U << 20);
  EXPECT_EQ(parse_size("1G"), kGiB);
  EXPECT_EQ(parse_size("2t"), 2048 * kGiB);
  EXPECT_EQ(parse_size("1P"), kGiB << 20);
  EXPECT_EQ(parse_size("15E"), std::uint64_t{15} << 60);
  EXPECT_EQ(parse_size("0x10"), 16U);
  EXPECT_EQ(parse_size("0X1fK"), 31U * 1024);
  EXPECT_EQ(parse_size("010"), 8U);
  EXPECT_EQ(parse_size("18446744073709551615"), ~std::uint64_t{0});
}

TEST(Size, MayCarryIecSuffixAndTheNewlineOfEcho) {
  EXPECT_EQ(parse_size("1GiB"), kGiB);
  EXPECT_EQ(parse_size("1G\n"), kGiB);
  EXPECT_EQ(parse_size("  512M "), kGiB / 2);
}

TEST(Size, ErrorNamesTheTextAndWhatIsWrong) {
  EXPECT_EQ(why(parse_size("")), "a size is missing");
  EXPECT_EQ(why(parse_size(" \n")), "a size is missing");
  EXPECT_EQ(why(parse_size("-1")), "'-1' is negative");
  EXPECT_EQ(why(parse_size("16E")), "'16E' is too large");
  EXPECT_EQ(why(parse_size("18446744073709551616")), "'18446744073709551616' is too large");
  for (const char* text : {"abc", "G", "1X", "1GG", "1 G", "1.5G", "1GB", "+1", "0x", "0xg", "09", "1G1"}) {
    EXPECT_EQ(why(parse_size(text)),
              "'" + std::string(text) + "' is not a number of bytes, with K, M, G or T behind it if need be");
  }
}

TEST(Size, OfDeviceIsRoundedUpToPages) {
  EXPECT_EQ(parse_device_size("1"), kPageSize);
  EXPECT_EQ(parse_device_size("4096"), kPageSize);
  EXPECT_EQ(parse_device_size("4097"), 2 * kPageSize);
  EXPECT_EQ(parse_device_size("16T"), kMaxDeviceBytes);
}

TEST(Size, OfDeviceIsNeitherNothingNorOver16TiB) {
  EXPECT_EQ(why(parse_device_size("0")), "'0' is no size for a device: it holds at least one page");
  EXPECT_EQ(why(parse_device_size("17T")), "'17T' is more than 16 TiB, the largest device");
  EXPECT_EQ(why(parse_device_size("17592186044417")), "'17592186044417' is more than 16 TiB, the largest device");
  EXPECT_EQ(why(parse_device_size("-4096")), "'-4096' is negative");
}

TEST(Size, IsPrintedAsZramctlPrintsIt) {
  EXPECT_EQ(human_size(0), "0B");
  EXPECT_EQ(human_size(74), "74B");
  EXPECT_EQ(human_size(1023), "1023B");
  EXPECT_EQ(human_size(4096), "4K");
  EXPECT_EQ(human_size(12 * 1024 + 512), "12.5K");
  EXPECT_EQ(human_size(109969408), "104.9M");
  EXPECT_EQ(human_size(kGiB), "1G");
  EXPECT_EQ(human_size(kGiB - 1), "1024M");  // as zramctl: the carry keeps its letter
  EXPECT_EQ(human_size(kMaxDeviceBytes), "16T");
}

}  // namespace
}  // namespace uzram
