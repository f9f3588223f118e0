#pragma once
// What the control endpoint says about devices.

#include <string>
#include <string_view>
#include <vector>

#include "allocator/zs_pool.h"
#include "blockdev/device.h"
#include "blockdev/device_table.h"

namespace uzram {

struct DeviceInfo {
  std::string name;
  std::uint64_t disksize = 0;  // bytes
  std::string algorithm;       // as CodecSpec::to_string
  int streams = 0;             // clients that have it open, each with its compression stream
  unsigned chain = 0;
  bool check = true;
  std::string uuid;               // of its contents
  std::vector<std::string> uris;  // where it is served
  bool swap_safe = false;         // whether its daemon runs with --swap-safe
  std::string attached;           // where this machine uses it: "/dev/nbd0 /mnt"; known to uzramctl only
  DeviceStats stats;
};

inline constexpr unsigned kDocumentedChain = 4;  // the least, and the default

// The rule that goes with a chain length: 4 is the documented table's, more is today's kernel's.
[[nodiscard]] Geometry geometry_for_chain(unsigned chain);

// ENODEV for an unknown name.
[[nodiscard]] Result<DeviceInfo> device_info(const DeviceTable& devices, std::string_view name);
// In the order of creation.
[[nodiscard]] std::vector<DeviceInfo> device_infos(const DeviceTable& devices);

}  // namespace uzram
