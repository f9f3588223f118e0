#pragma once
// The table that `uzramctl list` prints: zramctl's columns, and COMP-RATIO.

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cli/device_info.h"

namespace uzram {

struct ListForm {
  std::vector<std::string> columns;  // names as in column_names()
  bool bytes = false;                // sizes as plain numbers
  bool headings = true;
  bool raw = false;  // one blank between columns, no padding
};

[[nodiscard]] std::vector<std::string> column_names();
// Without --output.
[[nodiscard]] std::vector<std::string> default_columns();
// A line for each column: its name and what it means.
[[nodiscard]] std::string describe_columns();
// "NAME,DATA": EINVAL for an unknown name; case does not matter.
[[nodiscard]] Result<std::vector<std::string>> parse_columns(std::string_view list);

// Empty where there is no device.
[[nodiscard]] std::string format_list(std::span<const DeviceInfo> infos, const ListForm& form);

}  // namespace uzram
