#pragma once
// `uzramctl estimate --json`.

#include <string>

#include "cli/estimate.h"

namespace uzram {

[[nodiscard]] std::string to_json(const EstimateReport& report);

}  // namespace uzram
