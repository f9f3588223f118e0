#include "blockdev/device_record.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <new>

namespace uzram {
namespace {

std::uint64_t checksum(const DeviceRecord& record) { return XXH3_64bits(&record, offsetof(DeviceRecord, checksum)); }

bool plausible(const DeviceRecord& r) {
  return r.version == DeviceRecord::kVersion && r.checksum == checksum(r) && r.number < kMaxDevices &&
         r.size >= kPageSize && r.size <= kMaxDeviceBytes && r.size % kPageSize == 0 && r.name.back() == 0 &&
         r.chain >= 4 && r.chain <= kMaxChain && r.threshold_denominator != 0;
}

}  // namespace

void write_record(std::byte* frame, const DeviceOptions& options, const DeviceIdentity& identity) {
  std::memset(frame, 0, kFrameSize);  // padding is part of the checksum
  auto* const record = new (frame) DeviceRecord;
  record->number = identity.number;
  record->sequence = identity.sequence;
  record->size = options.size;
  record->level = options.codec.level;
  record->algorithm = options.codec.algorithm;
  record->rule = options.geometry.rule;
  record->check = options.check ? 1 : 0;
  record->chain = static_cast<std::uint8_t>(options.geometry.chain);
  record->threshold_numerator = options.geometry.threshold_numerator;
  record->threshold_denominator = options.geometry.threshold_denominator;
  record->uuid = options.uuid;
  std::copy_n(options.name.data(), std::min(options.name.size(), record->name.size() - 1), record->name.data());
  record->mem_limit.store(options.mem_limit, std::memory_order_relaxed);
  record->checksum = checksum(*record);
}

std::optional<RecordedDevice> read_record(const std::byte* frame) {
  const auto& record = *reinterpret_cast<const DeviceRecord*>(frame);
  if (!plausible(record)) return std::nullopt;
  RecordedDevice found;
  found.options = {.name = record.name.data(),
                   .size = record.size,
                   .codec = {record.algorithm, record.level},
                   .mem_limit = record.mem_limit.load(std::memory_order_relaxed),
                   .geometry = {.rule = record.rule,
                                .chain = record.chain,
                                .threshold_numerator = record.threshold_numerator,
                                .threshold_denominator = record.threshold_denominator},
                   .check = record.check != 0,
                   .uuid = record.uuid};
  found.identity = {static_cast<std::uint8_t>(record.number), record.sequence};
  return found;
}

}  // namespace uzram
