#pragma once
// The options that describe one device, the same on uzramd's command line, in its file, and for `uzramctl create`.

#include <optional>
#include <string>

#include "blockdev/device.h"

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

// What CLI11 says is wrong, as one line.
[[nodiscard]] std::string one_line(std::string text);

}  // namespace uzram
