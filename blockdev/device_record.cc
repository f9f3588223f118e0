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

std::uint64_t with_check(std::uint64_t pages) { return (XXH3_64bits(&pages, sizeof pages) & ~kMaxLimitPages) | pages; }

bool known_kinds(const DeviceRecord& r) {
  return r.algorithm <= Algorithm::zstd && r.rule <= ChainRule::kernel && r.check <= 1;
}

bool in_range(const DeviceRecord& r) {
  return r.number < kMaxDevices && r.size >= kPageSize && r.size <= kMaxDeviceBytes && r.size % kPageSize == 0 &&
         r.chain >= 4 && r.chain <= kMaxChain && r.threshold_denominator != 0 &&
         r.threshold_numerator <= r.threshold_denominator;
}

bool plausible(const DeviceRecord& r) {
  const std::uint64_t limit = r.limit.load(std::memory_order_relaxed);
  return r.version == DeviceRecord::kVersion && r.checksum == checksum(r) && known_kinds(r) && in_range(r) &&
         r.name.front() != 0 && r.name.back() == 0 && limit == with_check(limit & kMaxLimitPages);
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
  record->checksum = checksum(*record);
  record_mem_limit(frame, options.mem_limit);
}

void record_mem_limit(std::byte* frame, std::uint64_t bytes) {
  reinterpret_cast<DeviceRecord*>(frame)->limit.store(with_check(limit_in_pages(bytes)), std::memory_order_relaxed);
}

std::optional<RecordedDevice> read_record(const std::byte* frame) {
  const auto& record = *reinterpret_cast<const DeviceRecord*>(frame);
  if (!plausible(record)) return std::nullopt;
  RecordedDevice found;
  found.options = {.name = record.name.data(),
                   .size = record.size,
                   .codec = {record.algorithm, record.level},
                   .mem_limit = (record.limit.load(std::memory_order_relaxed) & kMaxLimitPages) * kPageSize,
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
