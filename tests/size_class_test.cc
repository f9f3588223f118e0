// The golden geometry of zsmalloc: what the kernel's code computes for these rules and chains.

#include "allocator/size_class.h"

#include <gtest/gtest.h>

#include <tuple>
#include <vector>

namespace uzram {
namespace {

constexpr Geometry kDocumented{.rule = ChainRule::documented, .chain = 4};
constexpr Geometry kKernel4{.rule = ChainRule::kernel, .chain = 4};
constexpr Geometry kKernel8{.rule = ChainRule::kernel, .chain = 8};

unsigned distinct(const SizeClasses& classes) {
  unsigned n = 0;
  for (unsigned i = 0; i < kClasses; ++i) n += classes.exists(i) ? 1 : 0;
  return n;
}

unsigned last_below_huge(const SizeClasses& classes) {
  unsigned last = kHugeClass - 1;
  while (!classes.exists(last)) --last;
  return last;
}

struct Row {
  unsigned index, size, frames, objects;
};

void expect_rows(const SizeClasses& classes, const std::vector<Row>& rows) {
  for (const Row& row : rows) {
    EXPECT_TRUE(classes.exists(row.index)) << row.index;
    EXPECT_EQ(classes[row.index].size, row.size) << row.index;
    EXPECT_EQ(classes[row.index].frames, row.frames) << row.index;
    EXPECT_EQ(classes[row.index].objects, row.objects) << row.index;
  }
}

TEST(SizeClasses, ThereAre255StepsOf16From32To4096) {
  EXPECT_EQ(kClasses, 255U);
  EXPECT_EQ(class_size(0), 32U);
  EXPECT_EQ(class_size(254), 4096U);
}

TEST(Divisor, IsExactAroundEveryMultiple) {
  for (std::uint64_t d = 1; d <= kFrameSize; ++d) {
    const Divisor by(d);
    for (std::uint64_t n = d; n < 1 << 16; n += d) {
      ASSERT_EQ(by.quotient(n - 1), n / d - 1) << d;
      ASSERT_EQ(by.quotient(n), n / d) << d;
    }
    ASSERT_EQ(by.quotient((1 << 16) - 1), ((1 << 16) - 1) / d) << d;
  }
}

TEST(SizeClasses, ARequestIsServedWithItsHeader) {
  EXPECT_EQ(class_of(0), 0U);
  EXPECT_EQ(class_of(24), 0U);
  EXPECT_EQ(class_of(25), 1U);
  EXPECT_EQ(class_of(40), 1U);
  EXPECT_EQ(class_of(41), 2U);
  EXPECT_EQ(class_of(4072), 253U);
  EXPECT_EQ(class_of(4073), 254U);
  EXPECT_EQ(class_of(4096), 254U);
}

TEST(SizeClasses, DocumentedRuleMatchesTheGoldenValues) {
  const SizeClasses classes(kDocumented);
  EXPECT_EQ(distinct(classes), 69U);
  EXPECT_EQ(last_below_huge(classes), 202U);
  EXPECT_EQ(classes.huge_class_size(), 3257U);
  expect_rows(classes, {{9, 176, 4, 93}, {10, 192, 3, 64}, {11, 208, 2, 39}, {12, 224, 4, 73}, {254, 4096, 1, 1}});
  EXPECT_EQ(classes[202].size, 3264U);
}

TEST(SizeClasses, KernelRuleAtChain4MatchesTheGoldenValues) {
  const SizeClasses classes(kKernel4);
  EXPECT_EQ(distinct(classes), 69U);
  expect_rows(classes, {{11, 208, 3, 59}});
}

TEST(SizeClasses, KernelRuleAtChain8MatchesTheGoldenValues) {
  const SizeClasses classes(kKernel8);
  EXPECT_EQ(distinct(classes), 119U);
  EXPECT_EQ(last_below_huge(classes), 225U);
  EXPECT_EQ(classes.huge_class_size(), 3625U);
  expect_rows(classes, {{0, 32, 1, 128},
                        {1, 48, 3, 256},
                        {3, 80, 5, 256},
                        {11, 208, 3, 59},
                        {49, 816, 1, 5},
                        {100, 1632, 2, 5},
                        {134, 2176, 8, 15},
                        {202, 3264, 4, 5},
                        {211, 3408, 5, 6},
                        {217, 3504, 6, 7},
                        {222, 3584, 7, 8},
                        {225, 3632, 8, 9},
                        {254, 4096, 1, 1}});
  EXPECT_FALSE(classes.exists(48)) << "as many pages and objects as class 49";
  EXPECT_EQ(classes.index_for(class_size(48) - kHeaderSize), 49U);
}

class EveryGeometry : public testing::TestWithParam<std::tuple<ChainRule, unsigned>> {};

TEST_P(EveryGeometry, EveryRequestFitsItsClass) {
  const Geometry geometry{.rule = std::get<0>(GetParam()), .chain = std::get<1>(GetParam())};
  const SizeClasses classes(geometry);
  unsigned previous = 0;
  for (std::size_t size = 1; size <= kFrameSize; ++size) {
    const unsigned index = classes.index_for(size);
    ASSERT_TRUE(classes.exists(index));
    ASSERT_GE(index, previous) << "classes grow with requests";
    ASSERT_GE(classes[index].size + (index == kHugeClass ? kHeaderSize : 0), size + kHeaderSize);
    ASSERT_LE(classes[index].frames, geometry.chain);
    ASSERT_LE(std::size_t{classes[index].objects} * classes[index].size, classes[index].frames * kFrameSize);
    ASSERT_EQ(index == kHugeClass, size >= classes.huge_class_size()) << size;
    previous = index;
  }
}

INSTANTIATE_TEST_SUITE_P(Rules, EveryGeometry,
                         testing::Combine(testing::Values(ChainRule::documented, ChainRule::kernel),
                                          testing::Range(4U, kMaxChain + 1)));

}  // namespace
}  // namespace uzram
