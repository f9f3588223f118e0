// The estimates of `uzramctl estimate`, on files with known pages.

#include "cli/estimate.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include "cli/page_source.h"

namespace uzram {
namespace {

class Estimate : public testing::Test {
 protected:
  Estimate() {
    std::string name = (std::filesystem::temp_directory_path() / "uzram-estimate-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) std::abort();
    folder_ = name;
  }
  ~Estimate() override { std::filesystem::remove_all(folder_); }

  std::string file(const std::string& name, const std::string& bytes) {
    const auto path = folder_ / name;
    std::ofstream(path, std::ios::binary) << bytes;
    return path.string();
  }

  static EstimateReport report_of(const EstimateOptions& options) {
    auto report = estimate(options, {});
    EXPECT_TRUE(report.has_value()) << report.error().message;
    return report.value_or(EstimateReport{});
  }
  static std::string error_of(const EstimateOptions& options) {
    const auto report = estimate(options, {});
    return report ? "no error" : report.error().message;
  }

  std::filesystem::path folder_;
};

std::string noise(std::size_t pages) {
  std::mt19937_64 random(99);
  std::string bytes;
  while (bytes.size() < pages * kPageSize) bytes += static_cast<char>(random());
  return bytes;
}

std::string text(std::size_t pages) {
  std::string bytes;
  for (unsigned line = 0; bytes.size() < pages * kPageSize; ++line) {
    bytes += "line " + std::to_string(line * 7919) + " of a text that compresses well\n";
  }
  bytes.resize(pages * kPageSize);
  return bytes;
}

TEST_F(Estimate, CountsPagesByKind) {
  const std::string zeroes(5 * kPageSize, '\0');
  const std::string letters(3 * kPageSize, 'x');
  const auto report = report_of({.files = {file("a", zeroes + noise(7) + letters + text(20))}});
  EXPECT_EQ(report.total_pages, 35U);
  EXPECT_EQ(report.sampled_pages, 35U);
  ASSERT_EQ(report.codecs.size(), 3U);
  for (const CodecEstimate& e : report.codecs) {
    EXPECT_EQ(e.stats.same_pages, 8U);
    EXPECT_EQ(e.stats.huge_pages, 7U);
    EXPECT_EQ(e.stats.orig_data_size, 35 * kPageSize);
    EXPECT_GT(e.stats.compr_data_size, 7 * kPageSize);
    EXPECT_LT(e.stats.compr_data_size, 17 * kPageSize);
    EXPECT_GE(e.stats.mem_used_total, e.stats.compr_data_size);
    EXPECT_GT(e.ratio(), 1.0);
    EXPECT_GT(e.speed_in(), 0.0);
    EXPECT_GT(e.speed_out(), 0.0);
  }
  EXPECT_EQ(report.codecs[0].codec.to_string(), "lz4");
  EXPECT_EQ(report.codecs[2].codec.to_string(), "zstd");
  EXPECT_LT(report.codecs[2].stats.compr_data_size, report.codecs[0].stats.compr_data_size);
}

TEST_F(Estimate, LooksOnlyAtTheAlgorithmsThatWereNamed) {
  const auto report =
      report_of({.files = {file("a", text(4))}, .codecs = {{Algorithm::zstd, 1}, {Algorithm::zstd, 9}}});
  ASSERT_EQ(report.codecs.size(), 2U);
  EXPECT_EQ(report.codecs[1].codec, (CodecSpec{Algorithm::zstd, 9}));
}

TEST_F(Estimate, PadsEachFilesLastPage) {
  const std::string page(kPageSize, '\0');
  const auto report =
      report_of({.files = {file("a", page + "tail"), file("empty", ""), file("b", page), file("c", "x")},
                 .codecs = {CodecSpec{}}});
  EXPECT_EQ(report.total_pages, 4U);
  EXPECT_EQ(report.codecs[0].stats.same_pages, 2U);
  EXPECT_EQ(report.codecs[0].stats.orig_data_size, 4 * kPageSize);
}

TEST_F(Estimate, HolesAreZeroPages) {
  const std::string path = file("sparse", "");
  std::filesystem::resize_file(path, 600 * kPageSize);
  const auto report = report_of({.files = {path}, .codecs = {CodecSpec{}}});
  EXPECT_EQ(report.codecs[0].stats.same_pages, 600U);
  EXPECT_EQ(report.codecs[0].stats.mem_used_total, 0U);
  EXPECT_EQ(report.codecs[0].ratio(), 0.0);
}

TEST_F(Estimate, LargerInputIsSampledEvenly) {
  std::string bytes(4096 * kPageSize, '\0');
  for (std::size_t page = 2048; page < 4096; ++page) bytes[page * kPageSize] = 'x';
  const std::vector<std::string> files = {file("a", bytes.substr(0, 1000 * kPageSize)),
                                          file("b", bytes.substr(1000 * kPageSize))};
  const auto report = report_of({.files = files, .codecs = {CodecSpec{}}, .most_pages = 1024});
  EXPECT_EQ(report.total_pages, 4096U);
  EXPECT_EQ(report.sampled_pages, 1024U);
  EXPECT_EQ(report.codecs[0].stats.same_pages, 512U);
  EXPECT_EQ(report.codecs[0].stats.orig_data_size, 1024 * kPageSize);
}

TEST_F(Estimate, SampleOfAnySizeHasItsSize) {
  const std::vector<std::string> files = {file("a", text(700))};
  for (const std::uint64_t most : {1U, 2U, 255U, 256U, 699U, 700U, 701U}) {
    const auto report = report_of({.files = files, .codecs = {CodecSpec{}}, .most_pages = most});
    const std::uint64_t expected = most >= 700 ? 700 : most < 256 ? most : most / 256 * 256;
    EXPECT_EQ(report.sampled_pages, expected);
    EXPECT_EQ(report.codecs[0].stats.orig_data_size, expected * kPageSize);
  }
}

TEST_F(Estimate, ProgressRisesToOne) {
  double last = 0;
  int calls = 0;
  const auto report = estimate({.files = {file("a", text(900))}}, [&](double done) {
    EXPECT_GT(done, last);
    last = done;
    ++calls;
  });
  EXPECT_TRUE(report.has_value());
  EXPECT_DOUBLE_EQ(last, 1.0);
  EXPECT_GE(calls, 12);
}

TEST_F(Estimate, ErrorsNameTheFile) {
  const std::string missing = (folder_ / "missing").string();
  const std::string pipe = (folder_ / "pipe").string();
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  const std::string good = file("good", "x");
  EXPECT_EQ(error_of({.files = {good, missing}}), missing + ": No such file or directory");
  EXPECT_EQ(error_of({.files = {folder_.string()}}), folder_.string() + ": neither a file nor a block device");
  EXPECT_EQ(error_of({.files = {pipe}}), pipe + ": neither a file nor a block device");
  EXPECT_EQ(error_of({.files = {"/dev/null"}}), "/dev/null: neither a file nor a block device");
  EXPECT_EQ(error_of({.files = {file("empty", "")}}), "nothing to estimate: there is no byte in what was named");
}

TEST_F(Estimate, FileThatShrinksMeanwhileIsAnError) {
  const std::string path = file("a", text(600));
  auto source = PageSource::open(std::vector{path}, 1000);
  ASSERT_TRUE(source.has_value());
  std::vector<std::byte> out(256 * kPageSize);
  ASSERT_EQ(source->next(out).value(), 256U);
  std::filesystem::resize_file(path, 300 * kPageSize);
  const auto pages = source->next(out);
  ASSERT_FALSE(pages.has_value());
  EXPECT_EQ(pages.error().message, path + ": became shorter while it was read");
}

TEST_F(Estimate, TableHasARowForEachAlgorithm) {
  EstimateReport report{.total_pages = 65536, .sampled_pages = 65536};
  CodecEstimate e{.codec = {Algorithm::zstd, 3}};
  e.stats.orig_data_size = std::uint64_t{256} << 20;
  e.stats.compr_data_size = std::uint64_t{56} << 20;
  e.stats.mem_used_total = std::uint64_t{64} << 20;
  e.stats.same_pages = 781;
  e.stats.huge_pages = 2228;
  e.seconds_in = 1;
  e.seconds_out = 0.5;
  report.codecs = {e};
  EXPECT_EQ(format_estimate(report),
            "65536 pages (256M), every one stored and read back\n"
            "ALGORITHM  RATIO  COMPR  POOL  SAME  HUGE  IN MB/s  OUT MB/s\n"
            "zstd        4.00    56M   64M   781  2228      268       537\n");
  report.total_pages = 131072;
  EXPECT_TRUE(format_estimate(report).starts_with(
      "65536 pages (256M) of 131072 pages (512M), in evenly spread runs, stored and read back; what follows is of "
      "these\n"));
}

TEST_F(Estimate, ClassesTableIsThereOnRequest) {
  const std::vector<std::string> files = {file("a", text(40) + noise(2))};
  EXPECT_EQ(format_estimate(report_of({.files = files, .codecs = {CodecSpec{}}})).find("almost_full"),
            std::string::npos);
  const auto report = report_of({.files = files, .codecs = {CodecSpec{}}, .classes = true});
  std::uint64_t objects = 0;
  for (const ClassStats& row : report.codecs[0].classes) objects += row.obj_used;
  EXPECT_EQ(objects, 42U);
  EXPECT_NE(format_estimate(report).find("almost_full"), std::string::npos);
}

}  // namespace
}  // namespace uzram
