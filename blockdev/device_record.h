#pragma once
// What a frame says of a device, for the process that comes after this one: everything that was fixed at creation, and
// the limit. The device exists while its frame has FrameKind::device: published last, taken back first.

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <optional>

#include "allocator/page_arena.h"
#include "blockdev/codec_table.h"
#include "blockdev/device.h"

namespace uzram {

struct DeviceRecord {
  static constexpr std::uint32_t kVersion = 2;

  std::uint32_t version = kVersion;
  std::uint32_t number = 0;
  std::uint64_t sequence = 0;
  std::uint64_t size = 0;  // bytes
  std::int32_t level = 0;
  Algorithm algorithm{};
  ChainRule rule{};
  std::uint8_t check = 0;
  std::uint8_t chain = 0;
  std::uint32_t threshold_numerator = 0;
  std::uint32_t threshold_denominator = 0;
  std::array<std::byte, 16> uuid{};
  std::array<char, 256> name{};  // ends with a zero
  std::uint64_t checksum = 0;    // xxh3 of all above
  // It changes as the device lives, by one store: pages in the lower 40 bits, and above them a check of their own.
  std::atomic<std::uint64_t> limit{0};
  // The codecs of priority 1 to 3, each set by one store, in the same form: 0 is none.
  std::array<std::atomic<std::uint64_t>, CodecTable::kPriorities - 1> recompression{};
};
static_assert(sizeof(DeviceRecord) <= kFrameSize);

// More than there is memory anywhere.
inline constexpr std::uint64_t kMaxLimitPages = (std::uint64_t{1} << 40) - 1;

// What a limit of so many bytes is kept as: rounded up, kMaxLimitPages at most.
constexpr std::uint64_t limit_in_pages(std::uint64_t bytes) { return std::min(to_pages(bytes), kMaxLimitPages); }

// Fills the frame; the caller publishes it.
void write_record(std::byte* frame, const DeviceOptions& options, const DeviceIdentity& identity);

// Changes the limit, bytes, in a frame that has been filled.
void record_mem_limit(std::byte* frame, std::uint64_t bytes);

// Adds a codec of priority 1 to 3 to a frame that has been filled.
void record_recompression(std::byte* frame, unsigned priority, const CodecSpec& codec);
// It, of a frame that is right; nothing where there is none.
[[nodiscard]] std::optional<CodecSpec> recorded_recompression(const std::byte* frame, unsigned priority);

// What the frame says, or nothing where it is damaged or of another version.
struct RecordedDevice {
  DeviceOptions options;
  DeviceIdentity identity;
};
[[nodiscard]] std::optional<RecordedDevice> read_record(const std::byte* frame);

}  // namespace uzram
