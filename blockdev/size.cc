#include "blockdev/size.h"

#include <charconv>
#include <limits>

namespace uzram {
namespace {

Result<std::uint64_t> wrong(std::string_view text, std::string_view why) {
  return fail(EINVAL, "'" + std::string(text) + "' " + std::string(why));
}

// The power of 1024 that a suffix stands for, or -1.
int suffix_power(std::string_view suffix) {
  if (suffix.size() == 3 && suffix.substr(1) == "iB") suffix.remove_suffix(2);
  if (suffix.empty()) return 0;
  if (suffix.size() > 1) return -1;
  constexpr std::string_view kUpper = "KMGTPE";
  constexpr std::string_view kLower = "kmgtpe";
  auto at = kUpper.find(suffix[0]);
  if (at == std::string_view::npos) at = kLower.find(suffix[0]);
  return at == std::string_view::npos ? -1 : static_cast<int>(at) + 1;
}

int take_base(std::string_view& digits) {
  if (digits.size() > 2 && digits[0] == '0' && (digits[1] == 'x' || digits[1] == 'X')) {
    digits.remove_prefix(2);
    return 16;
  }
  return digits.size() > 1 && digits[0] == '0' && digits[1] >= '0' && digits[1] <= '9' ? 8 : 10;
}

}  // namespace

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n";
  const auto first = text.find_first_not_of(kSpace);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kSpace) - first + 1);
}

Result<std::uint64_t> parse_size(std::string_view text) {
  const std::string_view whole = trimmed(text);
  if (whole.empty()) return fail(EINVAL, "a size is missing");
  if (whole[0] == '-') return wrong(whole, "is negative");
  std::string_view digits = whole;
  const int base = take_base(digits);
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value, base);
  if (error == std::errc::result_out_of_range) return wrong(whole, "is too large");
  if (error != std::errc()) return wrong(whole, "is not a number of bytes, with K, M, G or T behind it if need be");
  const int power = suffix_power(digits.substr(static_cast<std::size_t>(end - digits.data())));
  if (power < 0) return wrong(whole, "is not a number of bytes, with K, M, G or T behind it if need be");
  if (value > std::numeric_limits<std::uint64_t>::max() >> (10 * power)) return wrong(whole, "is too large");
  return value << (10 * power);
}

Result<std::uint64_t> parse_device_size(std::string_view text) {
  auto bytes = parse_size(text);
  if (!bytes) return bytes;
  if (*bytes == 0) return wrong(trimmed(text), "is no size for a device: it holds at least one page");
  if (*bytes > kMaxDeviceBytes) return wrong(trimmed(text), "is more than 16 TiB, the largest device");
  return (*bytes + kPageSize - 1) / kPageSize * kPageSize;
}

std::string human_size(std::uint64_t bytes) {
  unsigned power = 0;
  while (power < 6 && bytes >> (10 * (power + 1)) != 0) ++power;
  std::uint64_t whole = bytes >> (10 * power);
  // One decimal, rounded half up; ten tenths carry.
  std::uint64_t tenths = 0;
  if (power > 0) {
    const std::uint64_t kib = (bytes >> (10 * (power - 1))) & 1023;
    tenths = (kib * 1000 / 1024 + 50) / 100;
    if (tenths == 10) {
      ++whole;
      tenths = 0;
    }
  }
  std::string out = std::to_string(whole);
  if (tenths != 0) out += "." + std::to_string(tenths);
  return out + "BKMGTPE"[power];
}

}  // namespace uzram
