#pragma once
// The check of an object: 24 bits of xxh3 over its payload, length and codec. It tells damage, not malice.

#include <cstddef>
#include <cstdint>
#include <span>

namespace uzram {

[[nodiscard]] std::uint32_t object_check(std::span<const std::byte> payload, unsigned codec);

}  // namespace uzram
