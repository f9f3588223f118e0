#pragma once
// The engine of `uzramctl estimate`: what each algorithm would make of the pages of files and block devices. It stores
// them in real devices in this process, reads every page back and compares; no daemon takes part.
//
// Threads: each call stands alone.

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "allocator/size_class.h"
#include "allocator/zs_pool.h"
#include "blockdev/device.h"
#include "blockdev/types.h"
#include "compress/codec.h"

namespace uzram {

struct EstimateOptions {
  std::vector<std::string> files{};  // or block devices
  std::vector<CodecSpec> codecs{};   // none: every algorithm at its default level
  Geometry geometry{};
  std::uint64_t most_pages = (std::uint64_t{1} << 30) / kPageSize;  // of larger input a sample is looked at
  bool classes = false;                                             // keep the rows of the classes tables
};

struct CodecEstimate {
  CodecSpec codec{};
  DeviceStats stats{};     // with every page stored
  double seconds_in = 0;   // one core's time to store them
  double seconds_out = 0;  // one core's time to read them
  std::vector<ClassStats> classes{};

  // Bytes of data for each byte of the pool; 0 where the pool is empty.
  [[nodiscard]] double ratio() const;
  // Bytes of data a second.
  [[nodiscard]] double speed_in() const;
  [[nodiscard]] double speed_out() const;
};

struct EstimateReport {
  std::uint64_t total_pages = 0;
  std::uint64_t sampled_pages = 0;  // less than total_pages: everything below is of an even sample
  std::vector<CodecEstimate> codecs{};
};

// Calls `progress` now and then with the part that is done, 0..1. Fails with one line that names the file or the
// algorithm and the reason.
[[nodiscard]] Result<EstimateReport> estimate(const EstimateOptions& options,
                                              const std::function<void(double)>& progress);

// The report as a person reads it: a line on what was looked at, a row for each algorithm, the classes tables.
[[nodiscard]] std::string format_estimate(const EstimateReport& report);

}  // namespace uzram
