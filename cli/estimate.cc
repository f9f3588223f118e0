#include "cli/estimate.h"

#include <xxhash.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <ctime>
#include <memory>
#include <system_error>
#include <utility>

#include "blockdev/classes_table.h"
#include "blockdev/size.h"
#include "cli/page_source.h"

namespace uzram {
namespace {

constexpr std::size_t kChunk = std::size_t{1} << 20;

// Of this thread: what other processes do is no property of the algorithm.
double cpu_seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

std::uint64_t page_hash(std::span<const std::byte> page) { return XXH3_64bits(page.data(), page.size()); }

// One algorithm at work.
struct Trial {
  CodecEstimate estimate;
  std::unique_ptr<Device> device;
  StreamPtr stream;
};

class Estimator {
 public:
  Estimator(PageSource source, const std::function<void(double)>& progress)
      : source_(std::move(source)),
        total_(source_.total_pages()),
        sampled_(source_.sampled_pages()),
        progress_(progress),
        arena_({}),
        chunk_(kChunk) {
    hashes_.reserve(sampled_);
  }

  [[nodiscard]] Result<void> add(const CodecSpec& codec, const Geometry& geometry) {
    auto device = Device::create(arena_, {.size = sampled_ * kPageSize, .codec = codec, .geometry = geometry});
    if (!device) return tl::unexpected(device.error());
    StreamPtr stream = (*device)->make_stream();
    trials_.push_back({{.codec = codec}, std::move(*device), std::move(stream)});
    return {};
  }

  // Every page into every device. The input is read once: it may be a device that changes meanwhile.
  [[nodiscard]] Result<void> store() {
    for (std::uint64_t page = 0; page < sampled_;) {
      const auto pages = source_.next(chunk_);
      if (!pages) return tl::unexpected(pages.error());
      const auto bytes = std::span(chunk_).first(*pages * kPageSize);
      for (std::uint64_t i = 0; i < *pages; ++i) {
        hashes_.push_back(page_hash(bytes.subspan(i * kPageSize, kPageSize)));
      }
      for (Trial& trial : trials_) {
        const double start = cpu_seconds();
        const IoResult written = trial.device->write(*trial.stream, ByteOffset{page * kPageSize}, bytes);
        trial.estimate.seconds_in += cpu_seconds() - start;
        if (!written) return fail(ENOMEM, trial.estimate.codec.to_string() + ": not enough memory to store the pages");
        advance(*pages);
      }
      page += *pages;
    }
    return {};
  }

  // Every page out again, compared by its hash.
  [[nodiscard]] Result<void> read_back() {
    for (Trial& trial : trials_) {
      for (std::uint64_t page = 0; page < sampled_;) {
        const std::uint64_t pages = std::min<std::uint64_t>(kChunk / kPageSize, sampled_ - page);
        const auto bytes = std::span(chunk_).first(pages * kPageSize);
        const double start = cpu_seconds();
        const IoResult read = trial.device->read(*trial.stream, ByteOffset{page * kPageSize}, bytes);
        trial.estimate.seconds_out += cpu_seconds() - start;
        for (std::uint64_t i = 0; i < pages; ++i) {
          if (!read || page_hash(bytes.subspan(i * kPageSize, kPageSize)) != hashes_[page + i]) {
            return fail(EIO, trial.estimate.codec.to_string() + ": page " + std::to_string(page + i) +
                                 " was not read back as it was written");
          }
        }
        page += pages;
        advance(pages);
      }
    }
    return {};
  }

  [[nodiscard]] EstimateReport report(bool classes) const {
    EstimateReport report{.total_pages = total_, .sampled_pages = sampled_};
    for (const Trial& trial : trials_) {
      report.codecs.push_back(trial.estimate);
      report.codecs.back().stats = trial.device->stats();
      if (classes) report.codecs.back().classes = class_rows(trial.device->pool());
    }
    return report;
  }

 private:
  void advance(std::uint64_t pages) {
    done_ += pages;
    if (progress_) progress_(static_cast<double>(done_) / static_cast<double>(2 * sampled_ * trials_.size()));
  }

  PageSource source_;
  const std::uint64_t total_;
  const std::uint64_t sampled_;
  const std::function<void(double)>& progress_;
  PageArena arena_;
  std::vector<Trial> trials_;
  std::vector<std::byte> chunk_;
  std::vector<std::uint64_t> hashes_;  // one a page
  std::uint64_t done_ = 0;
};

std::vector<CodecSpec> every_algorithm() {
  std::vector<CodecSpec> codecs;
  for (const auto name : algorithm_names()) codecs.push_back(CodecSpec::parse(name).value());
  return codecs;
}

double per_second(const CodecEstimate& e, double seconds) {
  return seconds > 0 ? static_cast<double>(e.stats.orig_data_size) / seconds : 0;
}

std::string fixed(double value, int digits) {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.*f", digits, value);
  return text.data();
}

using Cells = std::array<std::string, 8>;

Cells row_of(const CodecEstimate& e) {
  return {e.codec.to_string(),
          e.ratio() > 0 ? fixed(e.ratio(), 2) : "-",
          human_size(e.stats.compr_data_size),
          human_size(e.stats.mem_used_total),
          std::to_string(e.stats.same_pages),
          std::to_string(e.stats.huge_pages),
          fixed(e.speed_in() / 1e6, 0),
          fixed(e.speed_out() / 1e6, 0)};
}

// The first column to the left, numbers to the right.
std::string align(const std::vector<Cells>& rows) {
  std::array<std::size_t, std::tuple_size_v<Cells>> widths{};
  for (const Cells& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string text;
  for (const Cells& row : rows) {
    text += row[0] + std::string(widths[0] - row[0].size(), ' ');
    for (std::size_t i = 1; i < row.size(); ++i) text += std::string(widths[i] - row[i].size() + 2, ' ') + row[i];
    text += '\n';
  }
  return text;
}

}  // namespace

double CodecEstimate::ratio() const {
  if (stats.mem_used_total == 0) return 0;
  return static_cast<double>(stats.orig_data_size) / static_cast<double>(stats.mem_used_total);
}
double CodecEstimate::speed_in() const { return per_second(*this, seconds_in); }
double CodecEstimate::speed_out() const { return per_second(*this, seconds_out); }

Result<EstimateReport> estimate(const EstimateOptions& options, const std::function<void(double)>& progress) {
  auto source = PageSource::open(options.files, options.most_pages);
  if (!source) return tl::unexpected(source.error());
  try {
    Estimator estimator(std::move(*source), progress);
    for (const CodecSpec& codec : options.codecs.empty() ? every_algorithm() : options.codecs) {
      if (auto added = estimator.add(codec, options.geometry); !added) return tl::unexpected(added.error());
    }
    if (auto stored = estimator.store(); !stored) return tl::unexpected(stored.error());
    if (auto read = estimator.read_back(); !read) return tl::unexpected(read.error());
    return estimator.report(options.classes);
  } catch (const std::bad_alloc&) {
    return fail(ENOMEM, "not enough memory for an estimate");
  } catch (const std::system_error& error) {
    return fail(error.code().value(), std::string("not enough memory for an estimate: ") + error.what());
  }
}

std::string format_estimate(const EstimateReport& report) {
  const auto pages = [](std::uint64_t n) { return std::to_string(n) + " pages (" + human_size(n * kPageSize) + ")"; };
  std::string text = report.sampled_pages == report.total_pages
                         ? pages(report.total_pages) + ", every one stored and read back\n"
                         : pages(report.sampled_pages) + " of " + pages(report.total_pages) +
                               ", in evenly spread runs, stored and read back; what follows is of these\n";
  std::vector<Cells> rows{{"ALGORITHM", "RATIO", "COMPR", "POOL", "SAME", "HUGE", "IN MB/s", "OUT MB/s"}};
  for (const CodecEstimate& e : report.codecs) rows.push_back(row_of(e));
  text += align(rows);
  for (const CodecEstimate& e : report.codecs) {
    if (e.classes.empty()) continue;
    text += "\n" + e.codec.to_string() + "\n" + format_classes(e.classes, TableForm::documented);
  }
  return text;
}

}  // namespace uzram
