#include "blockdev/attributes.h"

#include <gtest/gtest.h>

#include <array>
#include <random>

#include "blockdev/classes_table.h"

namespace uzram {
namespace {

class AttributesTest : public testing::Test {
 protected:
  AttributesTest() {
    DeviceOptions options;
    options.size = 1 << 20;
    EXPECT_TRUE(table_.create(options));
    device_ = *table_.find("zram0");
    stream_ = device_->make_stream();
  }

  std::string show(std::string_view attribute) {
    const auto text = show_attribute(*device_, attribute);
    return text ? *text : "errno " + std::to_string(text.error().code) + ": " + text.error().message;
  }
  std::string set(std::string_view attribute, std::string_view value, std::string_view device = "zram0") {
    const auto done = set_attribute(table_, device, attribute, value);
    return done ? "ok" : "errno " + std::to_string(done.error().code) + ": " + done.error().message;
  }
  static std::string error(int code, const std::string& message) {
    return "errno " + std::to_string(code) + ": " + message;
  }

  void write(std::uint64_t page, std::span<const std::byte> bytes) {
    ASSERT_TRUE(device_->write(*stream_, ByteOffset{page * kPageSize}, bytes));
  }
  static std::array<std::byte, kPageSize> noise() {
    std::mt19937_64 random(7);
    std::array<std::byte, kPageSize> page;
    for (std::byte& b : page) b = static_cast<std::byte>(random());
    return page;
  }

  PageArena arena_{PageArena::Options{}};
  DeviceTable table_{arena_};
  std::shared_ptr<Device> device_;
  StreamPtr stream_;
};

TEST_F(AttributesTest, FreshDeviceReadsAsFreshZram) {
  EXPECT_EQ(show("disksize"), "1048576\n");
  EXPECT_EQ(show("initstate"), "1\n");
  EXPECT_EQ(show("comp_algorithm"), "[lz4] lz4hc zstd \n");
  EXPECT_EQ(show("mem_limit"), "0\n");
  EXPECT_EQ(show("io_stat"), "       0        0 0        0\n");
  EXPECT_EQ(show("mm_stat"), "       0        0        0        0        0        0        0        0        0\n");
  EXPECT_EQ(show("bd_stat"), "       0        0        0\n");
  EXPECT_EQ(show("debug_stat"), "version: 1\n0        0\n");
}

TEST_F(AttributesTest, MmStatCountsSameAndHugePages) {
  const std::array<std::byte, 2 * kPageSize> same{};
  write(0, same);
  write(2, noise());
  EXPECT_EQ(show("mm_stat"), "   12288     4096     4096        0     4096        2        0        1        1\n");
  write(2, std::span(same).first(kPageSize));
  EXPECT_EQ(show("mm_stat"), "   12288        0        0        0     4096        3        0        0        1\n");
}

TEST_F(AttributesTest, IoStatCountsDiscardedPages) {
  write(0, noise());
  device_->discard(ByteOffset{0}, 2 * kPageSize);
  EXPECT_EQ(show("io_stat").substr(0, 20), "       0        0 0 ");
  EXPECT_EQ(show("mm_stat").substr(0, 9), "       0 ");
}

TEST_F(AttributesTest, SelectedAlgorithmStandsInBrackets) {
  DeviceOptions options;
  options.name = "z";
  options.size = kPageSize;
  options.codec = *CodecSpec::parse("zstd(level=3)");
  ASSERT_TRUE(table_.create(options));
  device_ = *table_.find("z");
  EXPECT_EQ(show("comp_algorithm"), "lz4 lz4hc [zstd] \n");
}

TEST_F(AttributesTest, UnknownAttributeIsNoEntry) {
  for (const char* name : {"", "foo", "mm_stat ", "max_comp_streams", "algorithm_params"}) {
    EXPECT_EQ(show(name), error(ENOENT, "zram0: no attribute '" + std::string(name) + "'"));
    EXPECT_EQ(set(name, "1"), error(ENOENT, "zram0: no attribute '" + std::string(name) + "'"));
  }
}

TEST_F(AttributesTest, WriteOnlyAttributeCannotBeRead) {
  for (const std::string name : {"reset", "compact", "mem_used_max", "idle", "writeback", "recompress"}) {
    EXPECT_EQ(show(name), error(EACCES, "zram0: " + name + " can only be written"));
  }
}

TEST_F(AttributesTest, ReadOnlyAttributeCannotBeWritten) {
  for (const std::string name : {"initstate", "mm_stat", "io_stat", "bd_stat", "debug_stat"}) {
    EXPECT_EQ(set(name, "1"), error(EACCES, "zram0: " + name + " can only be read"));
  }
}

TEST_F(AttributesTest, WritebackTakesZramsWordsAndNothingElse) {
  const std::string words =
      "one type=huge, idle, huge_idle or incompressible is written, or any number of page_index=N and "
      "page_indexes=LO-HI";
  const auto wrong = [&](const char* word) {
    return error(EINVAL, std::string("zram0: writeback: '").append(word).append("' is not right here: ").append(words));
  };
  for (const char* word : {"type=cold", "Huge", "page_index=", "page_index=x", "page_index=1-2", "page_indexes=1",
                           "page_indexes=-2", "page_indexes=1-", "page_index", "5", "page_index=-1"}) {
    EXPECT_EQ(set("writeback", word), wrong(word));
  }
  EXPECT_EQ(set("writeback", "huge idle"), wrong("huge"));
  EXPECT_EQ(set("writeback", " \n"), error(EINVAL, "zram0: writeback: " + words));
  const std::string none = "zram0: writeback: there is no backing file: uzramd has one with --backing FILE";
  for (const char* right :
       {"huge", "type=idle\n", "huge_idle", "type=incompressible", "page_index=3", "page_indexes=0-7 page_index=9"}) {
    EXPECT_EQ(set("writeback", right), error(ENODEV, none));
  }
}

TEST_F(AttributesTest, RecompressionAlgorithmsAreSetByPriority) {
  EXPECT_EQ(show("recomp_algorithm"), "");
  EXPECT_EQ(set("recomp_algorithm", "algo=zstd(level=9) priority=2\n"), "ok");
  EXPECT_EQ(show("recomp_algorithm"), "#2: lz4 lz4hc [zstd] \n");
  EXPECT_EQ(set("recomp_algorithm", "algo=lz4hc"), "ok");
  EXPECT_EQ(set("recomp_algorithm", "priority=1 algo=lz4hc"), "ok");
  EXPECT_EQ(show("recomp_algorithm"), "#1: lz4 [lz4hc] zstd \n#2: lz4 lz4hc [zstd] \n");
  EXPECT_EQ(set("recomp_algorithm", "algo=zstd priority=2"),
            error(EBUSY, "zram0: recomp_algorithm: priority 2 is zstd(level=9) until the device is reset"));
  const std::string words = "algo=NAME and priority=1, 2 or 3 are written";
  for (const char* word :
       {"priority=0", "priority=4", "priority=", "priority=-1", "zstd", "level=9", "algorithm=zstd"}) {
    EXPECT_EQ(set("recomp_algorithm", std::string("algo=zstd ") + word),
              error(EINVAL, std::string("zram0: recomp_algorithm: '") + word + "' is not right here: " + words));
  }
  for (const char* word : {"", "priority=3"}) {
    EXPECT_EQ(set("recomp_algorithm", word), error(EINVAL, "zram0: recomp_algorithm: " + words));
  }
  EXPECT_EQ(set("recomp_algorithm", "algo=lzo"),
            error(EINVAL, "zram0: recomp_algorithm: unknown algorithm 'lzo': it is one of lz4, lz4hc, zstd"));
  EXPECT_EQ(set("reset", "1"), "ok");
  device_ = *table_.find("zram0");
  EXPECT_EQ(show("recomp_algorithm"), "");
}

TEST_F(AttributesTest, RecompressTakesZramsWordsAndNothingElse) {
  EXPECT_EQ(set("recompress", "type=huge"),
            error(EINVAL, "zram0: recompress: no algorithm of priority 1 has been set"));
  EXPECT_EQ(set("recomp_algorithm", "algo=lz4hc"), "ok");
  EXPECT_EQ(set("recomp_algorithm", "algo=zstd(level=9) priority=3"), "ok");
  for (const char* right : {"type=huge", "type=idle\n", "type=huge_idle threshold=2K", "", "threshold=3000 max_pages=0",
                            "algo=zstd type=idle", "algo=lz4hc priority=1", "max_pages=18446744073709551615",
                            "priority=3", "algo=zstd(level=9) priority=2"}) {
    EXPECT_EQ(set("recompress", right), "ok") << right;
  }
  for (const char* word :
       {"huge", "type=cold", "type=", "type=incompressible", "threshold=x", "threshold=-1", "threshold",
        "max_pages=", "max_pages=-1", "priority=0", "priority=4", "algo=", "page_index=1", "1"}) {
    EXPECT_EQ(set("recompress", word),
              error(EINVAL, std::string("zram0: recompress: '") + word +
                                "' is not right here: type=huge, idle or huge_idle, threshold=BYTES, max_pages=N, "
                                "algo=NAME and priority=1, 2 or 3 are written"));
  }
  EXPECT_EQ(set("recompress", "algo=lz4hc priority=2"),
            error(EINVAL, "zram0: recompress: no priority has 'lz4hc': see recomp_algorithm"));
  EXPECT_EQ(
      set("recompress", "threshold=4K"),
      error(EINVAL,
            "zram0: recompress: the threshold is less than 3257 bytes, from which on pages are stored as they are"));
}

TEST_F(AttributesTest, WritebackHasALimitThatIsOffAtFirst) {
  EXPECT_EQ(show("writeback_limit"), "0\n");
  EXPECT_EQ(show("writeback_limit_enable"), "0\n");
  EXPECT_EQ(set("writeback_limit", "1024\n"), "ok");
  EXPECT_EQ(set("writeback_limit_enable", "1\n"), "ok");
  EXPECT_EQ(show("writeback_limit"), "1024\n");
  EXPECT_EQ(show("writeback_limit_enable"), "1\n");
  for (const char* wrong : {"-1", "4K", "", "18446744073709551616"}) {
    EXPECT_EQ(set("writeback_limit", wrong),
              error(EINVAL, "zram0: writeback_limit: a number of pages of 4 KiB is written"));
  }
  EXPECT_EQ(set("writeback_limit_enable", "2"), error(EINVAL, "zram0: writeback_limit_enable: 0 or 1 is written"));
  EXPECT_EQ(show("writeback_limit"), "1024\n");
}

TEST_F(AttributesTest, BackingDeviceIsTheDaemons) {
  EXPECT_EQ(show("backing_dev"), "none\n");
  EXPECT_EQ(set("backing_dev", "/dev/loop0"),
            error(EBUSY, "zram0: backing_dev: the backing file is the daemon's, and set when it starts"));
  EXPECT_EQ(set("idle", "all\n"), "ok");
  EXPECT_EQ(set("idle", "60"), error(EINVAL, "zram0: idle: only 'all' can be written: ages are not kept"));
}

TEST_F(AttributesTest, UnknownDeviceIsNoDevice) { EXPECT_EQ(set("compact", "1", "x"), error(ENODEV, "no device 'x'")); }

TEST_F(AttributesTest, MemLimitIsMemparsedAndRoundedUpToPages) {
  EXPECT_EQ(set("mem_limit", "64K\n"), "ok");
  EXPECT_EQ(show("mem_limit"), "65536\n");
  EXPECT_EQ(set("mem_limit", "4097"), "ok");
  EXPECT_EQ(show("mm_stat"), "       0        0        0     8192        0        0        0        0        0\n");
  EXPECT_EQ(set("mem_limit", "lots"), error(EINVAL,
                                            "zram0: mem_limit: 'lots' is not a number of bytes, with K, M, G or T "
                                            "behind it if need be"));
  EXPECT_EQ(set("mem_limit", "-1"), error(EINVAL, "zram0: mem_limit: '-1' is negative"));
  EXPECT_EQ(show("mem_limit"), "8192\n");
  EXPECT_EQ(set("mem_limit", "0"), "ok");
  EXPECT_EQ(show("mem_limit"), "0\n");
}

TEST_F(AttributesTest, MemUsedMaxTakesZeroOnlyAndFallsToWhatIsUsed) {
  write(0, noise());
  device_->discard(ByteOffset{0}, kPageSize);
  EXPECT_NE(show("mm_stat").substr(36, 8), "       0");
  for (const char* wrong : {"1", "", "x", "-0", "0x", "65536"}) {
    EXPECT_EQ(set("mem_used_max", wrong), error(EINVAL, "zram0: mem_used_max: only 0 can be written"));
  }
  EXPECT_EQ(set("mem_used_max", "0\n"), "ok");
  EXPECT_EQ(show("mm_stat").substr(36, 8), "       0");
}

TEST_F(AttributesTest, ResetEmptiesTheDevice) {
  write(0, noise());
  EXPECT_EQ(set("reset", "0"), error(EINVAL, "zram0: reset: a number from 1 to 65535 is written to reset"));
  EXPECT_EQ(set("reset", "65536"), error(EINVAL, "zram0: reset: a number from 1 to 65535 is written to reset"));
  EXPECT_EQ(set("reset", "1\n"), "ok");
  device_ = *table_.find("zram0");
  EXPECT_EQ(show("mm_stat"), "       0        0        0        0        0        0        0        0        0\n");
}

TEST_F(AttributesTest, ResetOfAnOpenDeviceIsBusy) {
  const auto client = table_.open("zram0");
  EXPECT_EQ(set("reset", "1"), error(EBUSY, "zram0: reset: device 'zram0' is in use by a client"));
}

TEST_F(AttributesTest, WhatIsSetAtCreationIsBusyAfterIt) {
  EXPECT_EQ(set("disksize", "2M"),
            error(EBUSY, "zram0: disksize: the size of a device is set once, when it is created"));
  EXPECT_EQ(set("comp_algorithm", "zstd"),
            error(EBUSY, "zram0: comp_algorithm: the algorithm of a device is set once, when it is created"));
  EXPECT_EQ(set("disksize", "0").substr(0, 9), "errno 22:");
  EXPECT_EQ(set("comp_algorithm", "lzo").substr(0, 9), "errno 22:");
}

TEST_F(AttributesTest, CompactTakesAnyValue) {
  EXPECT_EQ(set("compact", "1"), "ok");
  EXPECT_EQ(set("compact", ""), "ok");
}

std::vector<ClassStats> sample_rows() {
  std::vector<ClassStats> rows(2);
  rows[0].index = 9;
  rows[0].geometry = {176, 4, 93};
  rows[0].almost_empty = 1;
  rows[0].full = 1;
  rows[0].by_ratio[4] = 1;
  rows[0].by_ratio[11] = 1;
  rows[0].obj_allocated = 186;
  rows[0].obj_used = 129;
  rows[0].pages_used = 8;
  rows[1].index = 254;
  rows[1].geometry = {4096, 1, 1};
  rows[1].full = rows[1].by_ratio[11] = rows[1].obj_allocated = rows[1].obj_used = rows[1].pages_used = 3;
  return rows;
}

TEST(ClassesTable, DocumentedFormIsZsmallocs) {
  EXPECT_EQ(format_classes(sample_rows(), TableForm::documented),
            " class  size almost_full almost_empty obj_allocated   obj_used pages_used pages_per_zspage\n"
            "     9   176           0            1           186        129          8                4\n"
            "   254  4096           0            0             3          3          3                1\n"
            "\n"
            " Total                 0            1           189        132         11\n");
}

TEST(ClassesTable, Kernel6FormIsTodaysZsmallocs) {
  EXPECT_EQ(
      format_classes(sample_rows(), TableForm::kernel6),
      " class  size       10%       20%       30%       40%       50%       60%       70%       80%       90%       "
      "99%      100% obj_allocated   obj_used pages_used pages_per_zspage freeable\n"
      "     9   176         0         0         0         1         0         0         0         0         0         "
      "0         1           186        129          8                4        0\n"
      "   254  4096         0         0         0         0         0         0         0         0         0         "
      "0         3             3          3          3                1        0\n"
      "\n"
      " Total               0         0         0         1         0         0         0         0         0         "
      "0         4           189        132         11                         0\n");
}

TEST(ClassesTable, EveryClassThatServesHasOneRow) {
  PageArena arena{PageArena::Options{}};
  const ZsPool pool(arena, Geometry{});
  const auto rows = class_rows(pool);
  EXPECT_EQ(rows.size(), 69U);
  EXPECT_EQ(rows.front().index, 0U);
  EXPECT_EQ(rows.back().index, kHugeClass);
}

}  // namespace
}  // namespace uzram
