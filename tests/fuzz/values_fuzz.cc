// The parsers of single values: sizes, against a reading of their own made with wide arithmetic, and algorithms, which
// must read what they write. Built by clang with -fsanitize=fuzzer.

#include <cctype>
#include <optional>
#include <string>

#include "blockdev/size.h"
#include "compress/codec.h"
#include "tests/fuzz/world.h"

using namespace uzram;

namespace {

int digit_of(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  const int letter = std::tolower(static_cast<unsigned char>(c));
  return letter >= 'a' && letter <= 'f' ? letter - 'a' + 10 : 99;
}

// Digits in C's bases, then nothing or a letter of KMGTPE in either case, which "iB" may follow.
std::optional<std::uint64_t> read_slowly(std::string text) {
  const std::string space = " \t\r\n";
  while (!text.empty() && space.find(text.back()) != std::string::npos) text.pop_back();
  while (!text.empty() && space.find(text.front()) != std::string::npos) text.erase(0, 1);
  const bool hex = text.size() > 2 && text[0] == '0' && (text[1] == 'x' || text[1] == 'X');
  const bool octal = !hex && text.size() > 1 && text[0] == '0' && text[1] >= '0' && text[1] <= '9';
  const int base = hex ? 16 : octal ? 8 : 10;
  if (hex) text.erase(0, 2);
  std::size_t digits = 0;
  unsigned __int128 value = 0;
  for (; digits < text.size() && digit_of(text[digits]) < base; ++digits) {
    value = value * static_cast<unsigned>(base) + static_cast<unsigned>(digit_of(text[digits]));
    if (value >> 64 != 0) return std::nullopt;
  }
  std::string suffix = text.substr(digits);
  if (suffix.size() == 3 && suffix.ends_with("iB")) suffix.resize(1);
  if (digits == 0 || suffix.size() > 1) return std::nullopt;
  for (std::size_t power = suffix.size(); power > 0; power = 0) {
    const auto at = std::string("KMGTPE").find(static_cast<char>(std::toupper(static_cast<unsigned char>(suffix[0]))));
    if (at == std::string::npos) return std::nullopt;
    value <<= 10 * (at + 1);
  }
  return value >> 64 == 0 ? std::optional(static_cast<std::uint64_t>(value)) : std::nullopt;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  const auto bytes = parse_size(text);
  const auto expected = read_slowly(text);
  fuzz::must(bytes.has_value() == expected.has_value() && (!bytes || *bytes == *expected));
  fuzz::must(bytes || bytes.error().message.find('\0') == std::string::npos || text.find('\0') != std::string::npos);
  if (bytes) (void)human_size(*bytes);
  if (const auto device = parse_device_size(text)) {
    fuzz::must(*device % kPageSize == 0 && *device > 0 && *device <= kMaxDeviceBytes);
  }
  if (const auto spec = CodecSpec::parse(text)) {
    const auto again = CodecSpec::parse(spec->to_string());
    fuzz::must(again && *again == *spec);
  }
  return 0;
}
