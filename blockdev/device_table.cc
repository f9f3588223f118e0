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

tl::unexpected<Error> busy(std::string_view name) {
  return fail(EBUSY, "device '" + std::string(name) + "' is in use by a client");
}

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

void DeviceTable::adopt(std::vector<std::unique_ptr<Device>> devices) {
  const std::scoped_lock lock(mutex_);
  for (std::unique_ptr<Device>& device : devices) {
    numbers_.set(device->identity().number);
    next_sequence_ = std::max(next_sequence_, device->identity().sequence + 1);
    entries_.push_back({std::move(device), std::make_shared<std::atomic<int>>(0)});
  }
}

// Makes a device of a number of its own, outside the lock: clients of other devices do not wait.
Result<std::unique_ptr<Device>> DeviceTable::make(const DeviceOptions& options, std::optional<std::uint64_t> sequence) {
  DeviceIdentity identity;
  {
    const std::scoped_lock lock(mutex_);
    while (identity.number < kMaxDevices && numbers_.test(identity.number)) ++identity.number;
    if (identity.number == kMaxDevices) {
      return fail(ENOSPC, "there are " + std::to_string(kMaxDevices) + " devices already");
    }
    numbers_.set(identity.number);
    identity.sequence = sequence ? *sequence : next_sequence_++;
  }
  DeviceOptions with_backing = options;
  with_backing.backing = backing_;
  auto device = Device::create(arena_, with_backing, identity);
  if (!device) {
    const std::scoped_lock lock(mutex_);
    numbers_.reset(identity.number);
  }
  return device;
}

// Frees what the device holds, and only then its number.
void DeviceTable::erase(Device& device) {
  device.erase();
  const std::scoped_lock lock(mutex_);
  numbers_.reset(device.identity().number);
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
  auto device = make(options, std::nullopt);
  if (!device) return tl::unexpected(std::move(device.error()));
  {
    const std::scoped_lock lock(mutex_);
    if (entry(options.name) == nullptr) {
      (*device)->publish();
      entries_.push_back({std::move(*device), std::make_shared<std::atomic<int>>(0)});
      return {};
    }
  }
  erase(**device);  // another one took the name meanwhile
  return exists(options.name);
}

void DeviceTable::end_passes() const {
  const std::scoped_lock lock(mutex_);
  for (const Entry& e : entries_) e.device->end_passes();
}

Result<void> DeviceTable::remove(std::string_view name) {
  Entry removed;
  {
    const std::scoped_lock lock(mutex_);
    const Entry* found = name.empty() ? nullptr : entry(name);
    if (found == nullptr) return unknown(name);
    if (found->openers->load() != 0) return busy(name);
    const auto at = entries_.begin() + (found - entries_.data());
    removed = std::move(*at);
    removed.device->unpublish();
    entries_.erase(at);
  }
  erase(*removed.device);
  return {};
}

Result<void> DeviceTable::reset(std::string_view name) {
  auto old = name.empty() ? Result<std::shared_ptr<Device>>(unknown(name)) : find(name);
  if (!old) return tl::unexpected(std::move(old.error()));
  DeviceOptions options = (*old)->options();
  options.uuid = {};  // the contents are others
  options.mem_limit = (*old)->stats().mem_limit;
  auto fresh = make(options, (*old)->identity().sequence);
  if (!fresh) return tl::unexpected(std::move(fresh.error()));
  std::shared_ptr<Device> unwanted = std::move(*fresh);
  Result<void> result = exchange(*old, unwanted);
  erase(*unwanted);
  return result;
}

// Puts `other` in the place of `device`, and `device` into `other`, if nobody has it open and it is still there.
Result<void> DeviceTable::exchange(const std::shared_ptr<Device>& device, std::shared_ptr<Device>& other) {
  const std::string& name = device->options().name;
  const std::scoped_lock lock(mutex_);
  const auto found = std::find_if(entries_.begin(), entries_.end(), [&](const Entry& e) { return e.device == device; });
  if (found == entries_.end()) return unknown(name);
  if (found->openers->load() != 0) return busy(name);
  // Under the lock, so that nobody can have opened either while both are published.
  other->publish();
  device->unpublish();
  std::swap(found->device, other);
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
