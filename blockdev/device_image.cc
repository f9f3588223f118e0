// What a device and its slot table know beside the arena's file, for a process that takes over from this one without
// recovery.

#include "allocator/image.h"
#include "blockdev/device.h"
#include "blockdev/device_record.h"
#include "blockdev/device_table.h"

namespace uzram {

void SlotTable::save(ImageWriter& image) const {
  image.put(frames());
  for (const Link& link : root_) image.put(raw(load(link)));
}

bool SlotTable::load_image(ImageReader& image) {
  frames_ = image.get<std::uint64_t>();
  for (Link& link : root_) link = image.get<std::uint32_t>();
  return image.good();
}

void Device::save(ImageWriter& image) const {
  image.put(raw(record_));
  table_.save(image);
  pool_.save(image);
  for (const Counter counter : kCounters) image.put(sum(counter));
}

std::unique_ptr<Device> Device::load(PageArena& arena, ImageReader& image) {
  const FrameNumber record{image.get<std::uint32_t>()};
  if (!image.good() || raw(record) >= raw(arena.end())) return nullptr;
  const auto recorded = read_record(arena.bytes(record));
  if (!recorded) return nullptr;
  auto device = std::unique_ptr<Device>(new Device(arena, recorded->options, recorded->identity, record));
  if (!device->table_.load_image(image) || !device->pool_.load(image)) return nullptr;
  for (const Counter counter : kCounters) device->counters_[0].*counter = image.get<std::int64_t>();
  return image.good() ? std::move(device) : nullptr;
}

void DeviceTable::save(ImageWriter& image) const {
  const std::scoped_lock lock(mutex_);
  image.put(static_cast<std::uint32_t>(entries_.size()));
  image.put(next_sequence_);
  for (const Entry& e : entries_) e.device->save(image);
}

bool DeviceTable::load(ImageReader& image) {
  const auto count = image.get<std::uint32_t>();
  const auto next = image.get<std::uint64_t>();
  std::vector<std::unique_ptr<Device>> devices;
  for (std::uint32_t i = 0; i < count && i < kMaxDevices; ++i) {
    devices.push_back(Device::load(arena_, image));
    if (devices.back() == nullptr) return false;
  }
  adopt(std::move(devices));
  next_sequence_ = next;
  return image.good();
}

}  // namespace uzram
