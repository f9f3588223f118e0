#pragma once
// Sizes that depend on the machine: `ram / 2`, `min(ram / 2, 4G)`.
//
//     sum     = product { ("+" | "-") product }
//     product = value { ("*" | "/") value }
//     value   = number | "ram" | "(" sum ")" | ("min" | "max") "(" sum { "," sum } ")"
//
// Whole bytes throughout: a quotient is rounded down, so write `ram * 3 / 4`. A number is one that parse_size reads.
//
// Threads: functions of their arguments.

#include <cstdint>
#include <string_view>

#include "blockdev/types.h"

namespace uzram {

// The value with `ram` bytes of memory. EINVAL with the reason: what cannot be read, and where it stands; a division by
// zero; a result, or a part of it, below zero or of 2^64 and more.
[[nodiscard]] Result<std::uint64_t> evaluate_size(std::string_view text, std::uint64_t ram);

// The same for this machine. What is no expression is left to parse_size and parse_device_size, and so are their
// limits.
[[nodiscard]] Result<std::uint64_t> read_size(std::string_view text);
[[nodiscard]] Result<std::uint64_t> read_device_size(std::string_view text);

}  // namespace uzram
