#include "cli/size_expression.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <random>
#include <string>

namespace uzram {
namespace {

constexpr std::uint64_t kGiB = std::uint64_t{1} << 30;
constexpr std::uint64_t kRam = 16 * kGiB + 12345;

std::uint64_t value(const std::string& text) {
  const auto bytes = evaluate_size(text, kRam);
  if (!bytes) ADD_FAILURE() << bytes.error().message;
  return bytes.value_or(0);
}
std::string why(const std::string& text) {
  const auto bytes = evaluate_size(text, kRam);
  return bytes ? "no error" : bytes.error().message;
}

TEST(SizeExpression, KnowsTheMachinesMemory) {
  EXPECT_EQ(value("ram"), kRam);
  EXPECT_EQ(value("ram / 2"), kRam / 2);
  EXPECT_EQ(value(" ram*3/4 "), kRam * 3 / 4);
  EXPECT_EQ(value("ram - 12345"), 16 * kGiB);
  EXPECT_EQ(value("2 * ram + 1G"), 2 * kRam + kGiB);
}

TEST(SizeExpression, HasMinAndMaxOfAnyNumber) {
  EXPECT_EQ(value("min(ram / 2, 4G)"), 4 * kGiB);
  EXPECT_EQ(value("max(ram / 2, 4G)"), kRam / 2);
  EXPECT_EQ(value("min(ram, 3G, 1G, 2G)"), kGiB);
  EXPECT_EQ(value("max(min(ram, 2G), 1G) + min(5)"), 2 * kGiB + 5);
}

TEST(SizeExpression, BindsAsArithmeticDoes) {
  EXPECT_EQ(value("1 + 2 * 3"), 7U);
  EXPECT_EQ(value("(1 + 2) * 3"), 9U);
  EXPECT_EQ(value("20 - 5 - 5"), 10U);
  EXPECT_EQ(value("100 / 10 / 5"), 2U);
  EXPECT_EQ(value("7 / 2 * 2"), 6U);
  EXPECT_EQ(value("0x10K + 010"), 16392U);
}

TEST(SizeExpression, SaysWhatIsWrong) {
  EXPECT_EQ(why(""), "'' has its end where a size should be");
  EXPECT_EQ(why("ram /"), "'ram /' has its end where a size should be");
  EXPECT_EQ(why("ram ram"), "'ram ram' has 'ram' where an operator or the end should be");
  EXPECT_EQ(why("ram * * 2"), "'ram * * 2' has '*' where a size should be");
  EXPECT_EQ(why("min ram"), "'min ram' has 'ram' where '(' should be");
  EXPECT_EQ(why("min(ram, 4G"), "'min(ram, 4G' has its end where ',' or ')' should be");
  EXPECT_EQ(why("(ram, 4G)"), "'(ram, 4G)' has ',' where ')' should be");
  EXPECT_EQ(why("ram)"), "'ram)' has ')' where an operator or the end should be");
  EXPECT_EQ(why("ram % 2"), "'ram % 2' has '%' where an operator or the end should be");
  EXPECT_EQ(why("ram / 0"), "'ram / 0' divides by zero");
  EXPECT_EQ(why("1G - ram"), "'1G - ram' is less than nothing");
  EXPECT_EQ(why("ram * 0.5"), "'0.5' is not a number of bytes, with K, M, G or T behind it if need be");
  EXPECT_EQ(why("Ram / 2"), "'Ram' is not a number of bytes, with K, M, G or T behind it if need be");
}

TEST(SizeExpression, RefusesWhatDoesNotFitIn64Bits) {
  EXPECT_EQ(why("15E + 1E"), "'15E + 1E' is too large");
  EXPECT_EQ(why("ram * 4G"), "'ram * 4G' is too large");
  EXPECT_EQ(value("15E + 1023P"), (std::uint64_t{15} << 60) + (std::uint64_t{1023} << 50));
}

TEST(SizeExpression, RefusesEndlessNesting) {
  const auto nested = [](std::size_t n) { return std::string(n, '(') + "ram" + std::string(n, ')'); };
  EXPECT_EQ(value(nested(32)), kRam);
  EXPECT_EQ(why(nested(100000)), "'" + nested(100000) + "' has too many parentheses");
}

TEST(SizeExpression, OfRandomBytesEndsInAValueOrOneLine) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  constexpr std::string_view kPieces[] = {"ram", "min", "max", "(", ")", ",", "+", "-", "*", "/", " ", "4G", "0", "9"};
  for (int i = 0; i < 20000; ++i) {
    std::string text;
    for (auto n = random() % 12; n > 0; --n) text += kPieces[random() % std::size(kPieces)];
    const auto bytes = evaluate_size(text, kRam);
    EXPECT_TRUE(bytes || bytes.error().message.find('\n') == std::string::npos) << text;
  }
}

TEST(SizeExpression, OfThisMachineIsItsMemoryAndKeepsTheLimitsOfDevices) {
  const auto ram =
      static_cast<std::uint64_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
  EXPECT_EQ(read_size("ram"), ram);
  EXPECT_EQ(read_device_size("min(ram, 5000)"), 8192U);
  EXPECT_EQ(read_size("512M"), 512U << 20);
  EXPECT_EQ(read_device_size("17T").error().message, "'17T' is more than 16 TiB, the largest device");
  EXPECT_EQ(read_size("-1").error().message, "'-1' is negative");
  EXPECT_FALSE(read_device_size("ram - ram"));
  EXPECT_EQ(read_size("").error().message, "a size is missing");
}

}  // namespace
}  // namespace uzram
