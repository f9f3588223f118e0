#pragma once
// What the control endpoint says about devices and hears about new ones, and its JSON. Both ends use it, so that the
// names of the fields stand in one place.

#include <span>
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

// The rule that goes with a chain length: 4 is the documented table's, more is today's kernel's.
[[nodiscard]] Geometry geometry_for_chain(unsigned chain);

// ENODEV for an unknown name.
[[nodiscard]] Result<DeviceInfo> device_info(const DeviceTable& devices, std::string_view name);
// In the order of creation.
[[nodiscard]] std::vector<DeviceInfo> device_infos(const DeviceTable& devices);

[[nodiscard]] std::string to_json(const DeviceInfo& info);
// {"devices": [...]}
[[nodiscard]] std::string to_json(std::span<const DeviceInfo> infos);
// {"classes": [...]}
[[nodiscard]] std::string to_json(std::span<const ClassStats> rows);
// {"pages": ..., "objects": ..., "damaged": ..., "named": [page, ...]}
[[nodiscard]] std::string to_json(const ScrubReport& report);
// {"error": "..."}
[[nodiscard]] std::string error_to_json(std::string_view message);
// {"name": ..., "size": ..., "algorithm": ..., "mem_limit": ..., "chain": ..., "check": ...}
[[nodiscard]] std::string to_json(const DeviceOptions& options);

// EINVAL with the reason where the text is not what the functions above write. Unknown fields are left out.
[[nodiscard]] Result<DeviceInfo> device_info_from_json(std::string_view text);
[[nodiscard]] Result<std::vector<DeviceInfo>> device_infos_from_json(std::string_view text);
[[nodiscard]] Result<ScrubReport> scrub_report_from_json(std::string_view text);
[[nodiscard]] std::string error_from_json(std::string_view text);

// A new device as POST /v1/devices describes it: name and size are needed, sizes are bytes or text that parse_size
// reads, and an unknown field is an error.
[[nodiscard]] Result<DeviceOptions> device_options_from_json(std::string_view text);

}  // namespace uzram
