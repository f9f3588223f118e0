#include "blockdev/device_table.h"

#include <algorithm>
#include <utility>

namespace uzram {
namespace {

bool valid_name(std::string_view name) {
  constexpr std::string_view kAllowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
  return !name.empty() && name.size() <= 255 && name.find_first_not_of(kAllowed) == std::string_view::npos;
}

tl::unexpected<Error> unknown(std::string_view name) {
  return fail(ENODEV, name.empty() ? "there is no device" : "no device '" + std::string(name) + "'");
}

tl::unexpected<Error> exists(const std::string& name) { return fail(EEXIST, "device '" + name + "' exists already"); }

tl::unexpected<Error> busy(std::string_view name) { return fail(EBUSY, std::string(name) + ": a client has it open"); }

}  // namespace

OpenDevice::OpenDevice(std::shared_ptr<Device> device, std::shared_ptr<std::atomic<int>> openers)
    : device_(std::move(device)), openers_(std::move(openers)) {
  openers_->fetch_add(1);
}

OpenDevice::~OpenDevice() {
  if (openers_) openers_->fetch_sub(1);
}

const DeviceTable::Entry* DeviceTable::entry(std::string_view name) const {
  if (name.empty()) return entries_.empty() ? nullptr : &entries_.front();
  const auto found =
      std::find_if(entries_.begin(), entries_.end(), [&](const Entry& e) { return e.device->options().name == name; });
  return found == entries_.end() ? nullptr : &*found;
}

Result<void> DeviceTable::create(const DeviceOptions& options) {
  if (!valid_name(options.name)) {
    return fail(EINVAL,
                "'" + options.name.substr(0, 40) + "' is not a device name: 1 to 255 letters, digits, '.', '_' or '-'");
  }
  {
    const std::scoped_lock lock(mutex_);
    if (entry(options.name) != nullptr) return exists(options.name);
  }
  // Outside the lock: clients of other devices do not wait. The name is looked up again below.
  auto device = Device::create(arena_, options);
  if (!device) return tl::unexpected(std::move(device.error()));
  const std::scoped_lock lock(mutex_);
  if (entry(options.name) != nullptr) return exists(options.name);
  entries_.push_back({std::move(*device), std::make_shared<std::atomic<int>>(0)});
  return {};
}

Result<void> DeviceTable::remove(std::string_view name) {
  Entry removed;  // outlives the lock, so that what it stores is freed outside of it
  const std::scoped_lock lock(mutex_);
  const Entry* found = name.empty() ? nullptr : entry(name);
  if (found == nullptr) return unknown(name);
  if (found->openers->load() != 0) return busy(name);
  const auto at = entries_.begin() + (found - entries_.data());
  removed = std::move(*at);
  entries_.erase(at);
  return {};
}

Result<void> DeviceTable::reset(std::string_view name) {
  std::shared_ptr<Device> old;  // outlives the lock, as above
  const std::scoped_lock lock(mutex_);
  const Entry* found = name.empty() ? nullptr : entry(name);
  if (found == nullptr) return unknown(name);
  if (found->openers->load() != 0) return busy(name);
  DeviceOptions options = found->device->options();
  options.uuid = {};  // the contents are others
  auto fresh = Device::create(arena_, options);
  if (!fresh) return tl::unexpected(std::move(fresh.error()));
  old = std::exchange(entries_[static_cast<std::size_t>(found - entries_.data())].device, std::move(*fresh));
  return {};
}

Result<OpenDevice> DeviceTable::open(std::string_view name) {
  const std::scoped_lock lock(mutex_);
  const Entry* found = entry(name);
  if (found == nullptr) return unknown(name);
  return OpenDevice(found->device, found->openers);
}

Result<std::shared_ptr<Device>> DeviceTable::find(std::string_view name) const {
  const std::scoped_lock lock(mutex_);
  const Entry* found = entry(name);
  if (found == nullptr) return unknown(name);
  return found->device;
}

std::vector<std::string> DeviceTable::names() const {
  const std::scoped_lock lock(mutex_);
  std::vector<std::string> names;
  names.reserve(entries_.size());
  for (const Entry& e : entries_) names.push_back(e.device->options().name);
  return names;
}

int DeviceTable::openers(std::string_view name) const {
  const std::scoped_lock lock(mutex_);
  const Entry* found = name.empty() ? nullptr : entry(name);
  return found == nullptr ? 0 : found->openers->load();
}

}  // namespace uzram
