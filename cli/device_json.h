#pragma once
// The JSON of the control endpoint's answers. Both ends use it, so that the names of the fields stand in one place.

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "allocator/zs_pool.h"
#include "cli/device_info.h"

namespace uzram {

[[nodiscard]] std::string to_json(const DeviceInfo& info);
// {"devices": [...]}
[[nodiscard]] std::string to_json(std::span<const DeviceInfo> infos);
// {"classes": [...]}
[[nodiscard]] std::string to_json(std::span<const ClassStats> rows);
// {"pages": ..., "objects": ..., "damaged": ..., "named": [page, ...]}
[[nodiscard]] std::string to_json(const ScrubReport& report);
// {"error": "..."}
[[nodiscard]] std::string error_to_json(std::string_view message);

// EINVAL with the reason where the text is not what the functions above write. Unknown fields are left out.
[[nodiscard]] Result<DeviceInfo> device_info_from_json(std::string_view text);
[[nodiscard]] Result<std::vector<DeviceInfo>> device_infos_from_json(std::string_view text);
[[nodiscard]] Result<ScrubReport> scrub_report_from_json(std::string_view text);
[[nodiscard]] std::string error_from_json(std::string_view text);

}  // namespace uzram
