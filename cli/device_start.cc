#include "cli/device_start.h"

#include <algorithm>
#include <cerrno>
#include <string>
#include <utility>

#include "blockdev/recovery.h"
#include "blockdev/size.h"
#include "cli/log.h"

namespace uzram {
namespace {

// What was asked for, and the state has otherwise: that stays.
void warn_of_differences(const Device& device, const DeviceOptions& asked) {
  const DeviceOptions& kept = device.options();
  if (kept.codec == asked.codec && kept.geometry == asked.geometry && kept.check == asked.check &&
      to_pages(kept.mem_limit) == to_pages(asked.mem_limit)) {
    return;
  }
  log_warning(asked.name + ": keeps the options that it was made with: " + describe(kept));
}

}  // namespace

std::string describe(const DeviceOptions& d) {
  return d.name + ": " + human_size(d.size) + ", " + d.codec.to_string() +
         (d.mem_limit != 0 ? ", at most " + human_size(d.mem_limit) + " of memory" : "");
}

Result<void> recover_devices(PageArena& arena, DeviceTable& devices) {
  if (!arena.holds_state()) return {};
  auto recovered = recover(arena);
  if (!recovered) return tl::unexpected(std::move(recovered.error()));
  const RecoveryReport& report = recovered->report;
  log_info("took over " + std::to_string(recovered->devices.size()) + " devices with " + std::to_string(report.pages) +
           " pages");
  if (report.damaged_pages != 0)
    log_warning(std::to_string(report.damaged_pages) + " pages are damaged and unreadable");
  devices.adopt(std::move(recovered->devices));
  return {};
}

Result<void> check_sizes(const std::vector<DeviceOptions>& asked, const DeviceTable& devices) {
  for (const DeviceOptions& options : asked) {
    const auto found = devices.find(options.name);
    const std::uint64_t size = found ? (*found)->size() : options.size;
    if (options.size > size || size - options.size >= kPageSize) {
      return fail(EINVAL, options.name + ": the state holds it with " + std::to_string(size) + " bytes, not " +
                              std::to_string(options.size));
    }
  }
  return {};
}

Result<void> make_devices(const std::vector<DeviceOptions>& asked, DeviceTable& devices) {
  const std::vector<std::string> kept = devices.names();
  if (auto right = check_sizes(asked, devices); !right) return right;
  for (const DeviceOptions& options : asked) {
    const auto found = devices.find(options.name);
    if (!found || std::find(kept.begin(), kept.end(), options.name) == kept.end()) {
      if (auto created = devices.create(options); !created) return created;
      continue;
    }
    warn_of_differences(**found, options);
  }
  return {};
}

}  // namespace uzram
