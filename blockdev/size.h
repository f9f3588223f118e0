#pragma once
// Sizes as people and scripts write them, and as zramctl prints them.

#include <cstdint>
#include <string>
#include <string_view>

#include "blockdev/types.h"

namespace uzram {

// Bytes, read as the kernel's memparse reads them: decimal, 0x hexadecimal or 0 octal, then K, M, G, T, P or E for
// powers of 1024 ("iB" may follow, as zramctl allows). White space around it is ignored. EINVAL with the reason
// where memparse would guess: nothing, a sign, other characters, 2^64 and more.
[[nodiscard]] Result<std::uint64_t> parse_size(std::string_view text);

// As parse_size, and right for a device: rounded up to pages, at least one, at most kMaxDeviceBytes.
[[nodiscard]] Result<std::uint64_t> parse_device_size(std::string_view text);

// Three digits or so and one letter, as zramctl prints it: 0B, 4K, 104.9M, 1G.
[[nodiscard]] std::string human_size(std::uint64_t bytes);

// The text without the white space at its ends: `echo VALUE` sends a newline along.
[[nodiscard]] std::string_view trimmed(std::string_view text);

}  // namespace uzram
