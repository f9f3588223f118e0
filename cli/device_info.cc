#include "cli/device_info.h"

#include <span>
#include <utility>

namespace uzram {
namespace {

// As everybody writes UUIDs: 8-4-4-4-12 hexadecimal digits.
std::string uuid_text(std::span<const std::byte, 16> uuid) {
  constexpr std::string_view kHex = "0123456789abcdef";
  std::string text;
  for (std::size_t i = 0; i < uuid.size(); ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    const auto byte = std::to_integer<unsigned>(uuid[i]);
    text += {kHex[byte >> 4], kHex[byte & 15]};
  }
  return text;
}

DeviceInfo info_of(const DeviceTable& devices, const Device& device) {
  const DeviceOptions& o = device.options();
  DeviceInfo info;
  info.name = o.name;
  info.disksize = o.size;
  info.algorithm = o.codec.to_string();
  info.streams = devices.openers(o.name);
  info.chain = o.geometry.chain;
  info.check = o.check;
  info.uuid = uuid_text(o.uuid);
  info.stats = device.stats();
  return info;
}

}  // namespace

Geometry geometry_for_chain(unsigned chain) {
  Geometry geometry;
  geometry.rule = chain == kDocumentedChain ? ChainRule::documented : ChainRule::kernel;
  geometry.chain = chain;
  return geometry;
}

Result<DeviceInfo> device_info(const DeviceTable& devices, std::string_view name) {
  const auto device = devices.find(name);
  if (!device) return tl::unexpected(device.error());
  return info_of(devices, **device);
}

std::vector<DeviceInfo> device_infos(const DeviceTable& devices) {
  std::vector<DeviceInfo> infos;
  for (const std::string& name : devices.names()) {
    // A device that was removed since is left out.
    if (auto info = device_info(devices, name)) infos.push_back(std::move(*info));
  }
  return infos;
}

}  // namespace uzram
