#include "compress/lz4_encoder.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <cstring>
#include <utility>

namespace uzram {
namespace {

static_assert(std::endian::native == std::endian::little, "a word's lowest byte is its first");

constexpr std::ptrdiff_t kLeastMatch = 4;
// The format's end: the last match begins at least 12 bytes before it, and the last 5 bytes are literals.
constexpr std::ptrdiff_t kAfterLastMatch = 12;
constexpr std::ptrdiff_t kLastLiterals = 5;
constexpr std::ptrdiff_t kTokenMost = 15;  // of a length in its half of a token: the rest follows in bytes
constexpr std::ptrdiff_t kStride = 8;      // bytes that are compared or copied at once

template <class Word>
Word load(const std::byte* at) {
  Word word;
  std::memcpy(&word, at, sizeof word);
  return word;
}

// The end of what is alike from `a` and from `b` on, which lies before it; `end` at most.
const std::byte* end_of_match(const std::byte* a, const std::byte* b, const std::byte* end) {
  for (; end - a >= kStride; a += kStride, b += kStride) {
    const auto difference = load<std::uint64_t>(a) ^ load<std::uint64_t>(b);
    if (difference != 0) return a + std::countr_zero(difference) / 8;
  }
  while (a < end && *a == *b) ++a, ++b;
  return a;
}

// What a length is above what the token has of it.
std::byte* put_rest(std::byte* out, std::ptrdiff_t length) {
  if (length < kTokenMost) return out;
  for (length -= kTokenMost; length >= 255; length -= 255) *out++ = std::byte{255};
  *out++ = static_cast<std::byte>(length);
  return out;
}

// A token with its literals' length, and none of a match.
std::byte* put_token(std::byte* out, std::ptrdiff_t literals) {
  *out++ = static_cast<std::byte>(std::min(literals, kTokenMost) << 4);
  return put_rest(out, literals);
}

// Copies up to a stride more than there are: 12 bytes of input follow at least, and what is made of them.
std::byte* put_literals(std::byte* out, const std::byte* from, std::ptrdiff_t count) {
  out = put_token(out, count);
  std::byte* const end = out + count;
  do {
    std::memcpy(out, from, kStride);
    out += kStride;
    from += kStride;
  } while (out < end);
  return end;
}

std::byte* put_match(std::byte* out, std::byte* token, std::ptrdiff_t offset, std::ptrdiff_t length) {
  const auto low_first = static_cast<std::uint16_t>(offset);
  std::memcpy(out, &low_first, sizeof low_first);
  *token |= static_cast<std::byte>(std::min(length - kLeastMatch, kTokenMost));
  return put_rest(out + sizeof low_first, length - kLeastMatch);
}

std::byte* put_last_literals(std::byte* out, const std::byte* from, std::ptrdiff_t count) {
  return std::copy_n(from, count, put_token(out, count));
}

// Where in an input the bytes of a position were before.
class Matches {
 public:
  using Table = std::span<std::uint16_t, Lz4Encoder::kSlots>;

  // `table` is empty. No match begins behind `last`.
  Matches(Table table, const std::byte* begin, const std::byte* last, unsigned acceleration)
      : table_(table), begin_(begin), last_(last), acceleration_(acceleration) {}

  // Moves `at` on to the next position that has a match; false where there is none. Passes over more and more positions
  // the longer it finds nothing.
  bool find(const std::byte*& at, const std::byte*& match) {
    if (at > last_) return false;
    std::ptrdiff_t next = at - begin_;
    std::size_t next_slot = slot_of(at);
    unsigned tries = acceleration_ << 6;
    std::ptrdiff_t step = 1;
    do {
      // The next position's slot is computed while what this one's holds is loaded.
      const std::size_t slot = next_slot;
      at = begin_ + next;
      next += step;
      step = tries++ >> 6;
      if (next > last_ - begin_ + 1) return false;
      next_slot = slot_of(begin_ + next);
      match = exchange(slot, at);
    } while (!alike(match, at));
    return true;
  }

  // Whether `at`, behind a match, has one, too.
  bool follows(const std::byte* at, const std::byte*& match) {
    if (at > last_) return false;
    exchange(slot_of(at - 2), at - 2);
    match = exchange(slot_of(at), at);
    return alike(match, at);
  }

 private:
  // By a hash of five bytes, with LZ4's multiplier.
  static std::size_t slot_of(const std::byte* at) {
    static_assert(std::has_single_bit(Lz4Encoder::kSlots));
    constexpr unsigned kBits = std::countr_zero(Lz4Encoder::kSlots);
    return ((load<std::uint64_t>(at) << 24) * 889523592379ULL) >> (64 - kBits);
  }
  static bool alike(const std::byte* a, const std::byte* b) { return load<std::uint32_t>(a) == load<std::uint32_t>(b); }
  const std::byte* exchange(std::size_t slot, const std::byte* at) {
    return begin_ + std::exchange(table_[slot], static_cast<std::uint16_t>(at - begin_));
  }

  const Table table_;
  const std::byte* const begin_;
  const std::byte* const last_;
  const unsigned acceleration_;
};

}  // namespace

std::size_t Lz4Encoder::encode(std::span<const std::byte> in, std::span<std::byte, kRoom> room, unsigned acceleration) {
  assert(in.size() <= kMostInput && acceleration >= 1 && acceleration <= kMostAcceleration);
  const std::byte* const begin = in.data();
  const std::byte* const end = begin + in.size();
  const std::byte* anchor = begin;  // behind the last match
  std::byte* out = room.data();
  if (std::ssize(in) > kAfterLastMatch) {
    prepare();
    prepared_ = false;
    Matches matches(table_, begin, end - kAfterLastMatch, acceleration);
    const std::byte* match = nullptr;
    for (const std::byte* at = begin + 1; matches.find(at, match); ++at) {
      while (at > anchor && match > begin && at[-1] == match[-1]) --at, --match;
      std::byte* token = out;
      out = put_literals(out, anchor, at - anchor);
      while (true) {
        anchor = end_of_match(at + kLeastMatch, match + kLeastMatch, end - kLastLiterals);
        out = put_match(out, token, at - match, anchor - at);
        at = anchor;
        if (!matches.follows(at, match)) break;
        token = out;
        out = put_token(out, 0);
      }
    }
  }
  out = put_last_literals(out, anchor, end - anchor);
  return static_cast<std::size_t>(out - room.data());
}

}  // namespace uzram
