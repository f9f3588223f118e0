#pragma once
// The daemon's numbers as OpenMetrics text, for GET /metrics.

#include <span>
#include <string>

#include "cli/device_info.h"

namespace uzram {

inline constexpr const char* kMetricsType = "application/openmetrics-text; version=1.0.0; charset=utf-8";

[[nodiscard]] std::string openmetrics(std::span<const DeviceInfo> infos, unsigned connections);

}  // namespace uzram
