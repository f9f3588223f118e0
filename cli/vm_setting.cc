#include "cli/vm_setting.h"

#include <algorithm>
#include <fstream>

namespace uzram {
namespace {

constexpr std::uint64_t kSmallMachine = 2 << 20;  // KiB
constexpr std::uint64_t kPageLists = 4 << 10;     // KiB
constexpr std::uint64_t kLeastFraction = 8;       // the kernel takes no less

std::string path(const VmSetting& setting) { return "/proc/sys/vm/" + setting.name; }

}  // namespace

std::uint64_t VmSetting::now() const {
  std::uint64_t value = 0;
  std::ifstream(path(*this)) >> value;
  return value;
}

bool VmSetting::set(std::uint64_t value) const {
  return static_cast<bool>(std::ofstream(path(*this)) << value << std::flush) && now() == value;
}

std::uint64_t memory_kilobytes() {
  std::string label;
  std::uint64_t total = 0;
  std::ifstream("/proc/meminfo") >> label >> total;
  return total;
}

VmSetting min_free_setting(std::uint64_t memory_kilobytes) {
  return {"min_free_kbytes", std::min<std::uint64_t>(32768, memory_kilobytes / 10),
          "the kernel may wait for the daemon with no memory left"};
}

VmSetting page_lists_setting(std::uint64_t memory_kilobytes) {
  const bool small = memory_kilobytes < kSmallMachine;
  return {"percpu_pagelist_high_fraction", small ? std::max(kLeastFraction, memory_kilobytes / kPageLists) : 0,
          "the kernel may kill programs while memory is free"};
}

}  // namespace uzram
