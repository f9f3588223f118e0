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

// A word of 40 bits with a check of 24 above them.
constexpr std::uint64_t kWordMask = (std::uint64_t{1} << 40) - 1;
static_assert(kMaxLimitPages == kWordMask);
std::uint64_t with_check(std::uint64_t word) { return (XXH3_64bits(&word, sizeof word) & ~kWordMask) | word; }

bool known_kinds(const DeviceRecord& r) {
  return r.algorithm <= Algorithm::zstd && r.rule <= ChainRule::kernel && r.check <= 1;
}

bool in_range(const DeviceRecord& r) {
  return r.number < kMaxDevices && r.size >= kPageSize && r.size <= kMaxDeviceBytes && r.size % kPageSize == 0 &&
         r.chain >= 4 && r.chain <= kMaxChain && r.threshold_denominator != 0 &&
         r.threshold_numerator <= r.threshold_denominator;
}

std::uint64_t word_of(const CodecSpec& codec) {
  return std::uint64_t{raw(codec.algorithm)} << 32 | static_cast<std::uint32_t>(codec.level);
}

CodecSpec codec_of(std::uint64_t word) {
  return {static_cast<Algorithm>(word >> 32 & 0xff), static_cast<std::int32_t>(word & 0xffffffff)};
}

bool is_codec_or_none(const std::atomic<std::uint64_t>& entry) {
  const std::uint64_t word = entry.load(std::memory_order_acquire);
  return word == 0 || (word == with_check(word & kWordMask) && codec_of(word).algorithm <= Algorithm::zstd);
}

bool plausible(const DeviceRecord& r) {
  const std::uint64_t limit = r.limit.load(std::memory_order_relaxed);
  return r.version == DeviceRecord::kVersion && r.checksum == checksum(r) && known_kinds(r) && in_range(r) &&
         r.name.front() != 0 && r.name.back() == 0 && limit == with_check(limit & kWordMask) &&
         std::ranges::all_of(r.recompression, is_codec_or_none);
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

void record_recompression(std::byte* frame, unsigned priority, const CodecSpec& codec) {
  auto& entries = reinterpret_cast<DeviceRecord*>(frame)->recompression;
  entries[priority - 1].store(with_check(word_of(codec)), std::memory_order_release);
}

std::optional<CodecSpec> recorded_recompression(const std::byte* frame, unsigned priority) {
  const auto& entries = reinterpret_cast<const DeviceRecord*>(frame)->recompression;
  const std::uint64_t word = entries[priority - 1].load(std::memory_order_acquire);
  return word == 0 ? std::nullopt : std::optional(codec_of(word));
}

std::optional<RecordedDevice> read_record(const std::byte* frame) {
  const auto& record = *reinterpret_cast<const DeviceRecord*>(frame);
  if (!plausible(record)) return std::nullopt;
  RecordedDevice found;
  found.options = {.name = record.name.data(),
                   .size = record.size,
                   .codec = {record.algorithm, record.level},
                   .mem_limit = (record.limit.load(std::memory_order_relaxed) & kWordMask) * kPageSize,
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
