#pragma once
// The options that describe one device, the same on uzramd's command line, in its file, and for `uzramctl create`; and
// those of its export, which are the daemon's alone.

#include <optional>
#include <string>
#include <vector>

#include "blockdev/device.h"
#include "blockdev/nbd/access.h"

namespace CLI {
class App;
}

namespace uzram {

// What was told; what was not, comes from elsewhere.
struct DeviceSettings {
  std::optional<std::uint64_t> size;
  std::optional<CodecSpec> codec;
  std::optional<std::uint64_t> mem_limit;
  std::optional<unsigned> chain;
  std::optional<bool> no_check;
};

// --size, --algorithm, --mem-limit, --chain and --no-check; `settings` outlives `app`.
void add_device_options(CLI::App& app, DeviceSettings& settings);

// `own`, and what it leaves open from `fallback`; what that leaves open too has its default. The size is own's.
[[nodiscard]] DeviceOptions device_options(std::string name, const DeviceSettings& own,
                                           const DeviceSettings& fallback = {});

// Who may do what with a device's export.
struct ExportSettings {
  std::optional<bool> read_only;
  std::optional<std::vector<nbd::Identity>> allow;
};

// --read-only and --allow; `settings` outlives `app`.
void add_export_options(CLI::App& app, ExportSettings& settings);

[[nodiscard]] nbd::ExportRules export_rules(const ExportSettings& own, const ExportSettings& fallback = {});

// What CLI11 says is wrong, as one line.
[[nodiscard]] std::string one_line(std::string text);

}  // namespace uzram
