#pragma once
// The devices of one daemon by name, with the life cycle of zram's: created, opened by clients, reset,
// removed.
//
// Threads: everything may be called from any thread.

#include <atomic>
#include <bitset>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "blockdev/device.h"
#include "blockdev/types.h"

namespace uzram {

// A client's hold on a device: while one exists, the device can be neither reset nor removed.
class OpenDevice {
 public:
  OpenDevice(std::shared_ptr<Device> device, std::shared_ptr<std::atomic<int>> openers);
  ~OpenDevice();
  OpenDevice(OpenDevice&&) noexcept = default;
  OpenDevice& operator=(OpenDevice&&) = delete;

  [[nodiscard]] Device& operator*() const { return *device_; }
  [[nodiscard]] Device* operator->() const { return device_.get(); }

 private:
  std::shared_ptr<Device> device_;
  std::shared_ptr<std::atomic<int>> openers_;
};

class DeviceTable {
 public:
  // `arena` outlives the table, and so does `backing`, which its new devices write pages back to; null: to nowhere.
  explicit DeviceTable(PageArena& arena, BackingFile* backing = nullptr) : arena_(arena), backing_(backing) {}

  // Takes over the devices of an earlier process, in their order; before anything is created.
  void adopt(std::vector<std::unique_ptr<Device>> devices);

  // For a process that takes over without recovery; nothing is at work on any device. False where the image is not
  // right; the table is then of no use.
  void save(ImageWriter& image) const;
  [[nodiscard]] bool load(ImageReader& image);

  // ENOSPC where there are kMaxDevices already. EEXIST where the name is taken, EINVAL for a name that is empty, longer
  // than 255 bytes or holds anything but letters, digits, '.', '_' and '-'; else what Device::create says.
  [[nodiscard]] Result<void> create(const DeviceOptions& options);

  // ENODEV for an unknown name, EBUSY while a client has it open.
  [[nodiscard]] Result<void> remove(std::string_view name);

  // Frees everything stored and every counter; the device keeps its options. ENODEV, EBUSY as above.
  [[nodiscard]] Result<void> reset(std::string_view name);

  // As a client: "" is the first device. ENODEV for an unknown name.
  [[nodiscard]] Result<OpenDevice> open(std::string_view name);

  // As an observer: does not keep the device from being removed. ENODEV for an unknown name.
  [[nodiscard]] Result<std::shared_ptr<Device>> find(std::string_view name) const;

  // In the order of creation.
  [[nodiscard]] std::vector<std::string> names() const;

  // As Device::end_passes, of all devices.
  void end_passes() const;

  // The number of clients that have the device open; 0 for an unknown name.
  [[nodiscard]] int openers(std::string_view name) const;

 private:
  struct Entry {
    std::shared_ptr<Device> device;
    std::shared_ptr<std::atomic<int>> openers;
  };
  PageArena& arena_;
  BackingFile* const backing_;
  mutable std::mutex mutex_;
  std::vector<Entry> entries_;        // guarded by mutex_
  std::bitset<kMaxDevices> numbers_;  // guarded by mutex_; of devices that exist, or are being made or erased
  std::uint64_t next_sequence_ = 0;   // guarded by mutex_

  [[nodiscard]] Result<std::unique_ptr<Device>> make(const DeviceOptions& options,
                                                     std::optional<std::uint64_t> sequence);
  void erase(Device& device);
  [[nodiscard]] Result<void> exchange(const std::shared_ptr<Device>& device, std::shared_ptr<Device>& other);
  [[nodiscard]] const Entry* entry(std::string_view name) const;  // under mutex_
};

}  // namespace uzram
