#include "blockdev/nbd/option_reader.h"

namespace uzram::nbd {
namespace {

using Byte = unsigned char;

// The bytes of the UTF-8 sequence that starts `text`, 0 where it is none (overlong, surrogate, past U+10FFFF, NUL).
std::size_t sequence_length(std::string_view text) {
  const auto at = [text](std::size_t i) { return static_cast<Byte>(text[i]); };
  const auto tail = [&](std::size_t i, Byte low = 0x80, Byte high = 0xbf) {
    return i < text.size() && at(i) >= low && at(i) <= high;
  };
  const Byte first = at(0);
  if (first >= 0x01 && first <= 0x7f) return 1;
  if (first >= 0xc2 && first <= 0xdf) return tail(1) ? 2 : 0;
  if (first >= 0xe0 && first <= 0xef) {
    const Byte low = first == 0xe0 ? 0xa0 : 0x80;
    const Byte high = first == 0xed ? 0x9f : 0xbf;
    return tail(1, low, high) && tail(2) ? 3 : 0;
  }
  if (first >= 0xf0 && first <= 0xf4) {
    const Byte low = first == 0xf0 ? 0x90 : 0x80;
    const Byte high = first == 0xf4 ? 0x8f : 0xbf;
    return tail(1, low, high) && tail(2) && tail(3) ? 4 : 0;
  }
  return 0;
}

}  // namespace

bool is_protocol_string(std::string_view text) {
  if (text.size() > kMaxStringBytes) return false;
  while (!text.empty()) {
    const std::size_t n = sequence_length(text);
    if (n == 0) return false;
    text.remove_prefix(n);
  }
  return true;
}

std::optional<std::string_view> OptionReader::take_string() {
  const auto length = take<std::uint32_t>();
  if (!length || *length > left_.size()) return std::nullopt;
  const std::string_view text(reinterpret_cast<const char*>(left_.data()), *length);
  if (!is_protocol_string(text)) return std::nullopt;
  left_ = left_.subspan(*length);
  return text;
}

}  // namespace uzram::nbd
