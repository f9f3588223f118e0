#pragma once
// The words of zram's that ask for a pass over a device, or set one up: what `writeback`, `recompress` and
// `recomp_algorithm` are written.

#include <charconv>
#include <optional>
#include <string_view>

#include "blockdev/device.h"
#include "blockdev/size.h"

namespace uzram {

// Decimal, as kstrtou16 and kstrtou64 read it here; nothing for anything else. White space around it is ignored.
template <class T>
std::optional<T> parse_number(std::string_view text) {
  const std::string_view digits = trimmed(text);
  T value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (error != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
  return value;
}

// EINVAL with the word that is not right and those that are.
[[nodiscard]] Result<WritebackRequest> parse_writeback(std::string_view text);

// `codecs` are the device's, for algo=NAME: the first from the asked priority on that is this one.
[[nodiscard]] Result<RecompressRequest> parse_recompress(std::string_view text, const CodecTable& codecs);

struct RecompressionAlgorithm {
  CodecSpec codec;
  unsigned priority = 1;
};
[[nodiscard]] Result<RecompressionAlgorithm> parse_recomp_algorithm(std::string_view text);

}  // namespace uzram
