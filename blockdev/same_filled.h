#pragma once
// Same-filled pages: those that repeat one 64-bit word. They are kept as the word.

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>

#include "blockdev/types.h"

namespace uzram {

// The word that the page repeats, if it repeats one.
inline std::optional<std::uint64_t> same_filled_word(std::span<const std::byte, kPageSize> page) {
  std::uint64_t first;
  std::uint64_t last;
  std::memcpy(&first, page.data(), sizeof first);
  // The last word first: most pages that begin alike end differently.
  std::memcpy(&last, page.data() + kPageSize - sizeof last, sizeof last);
  if (first != last || std::memcmp(page.data(), page.data() + sizeof first, kPageSize - sizeof first) != 0) {
    return std::nullopt;
  }
  return first;
}

// Fills the page with the word.
inline void fill_page(std::span<std::byte, kPageSize> page, std::uint64_t word) {
  if (word == 0) {
    std::memset(page.data(), 0, kPageSize);
    return;
  }
  for (std::size_t at = 0; at < kPageSize; at += sizeof word) std::memcpy(page.data() + at, &word, sizeof word);
}

}  // namespace uzram
