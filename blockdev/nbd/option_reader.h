#pragma once
// Takes an option's data apart. Every take checks what is left, so that a lying length cannot reach past the data.
//
// Threads: a value; one thread at a time.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "blockdev/nbd/wire.h"

namespace uzram::nbd {

class OptionReader {
 public:
  explicit OptionReader(std::span<const std::byte> data) : left_(data) {}

  template <class T>
  [[nodiscard]] std::optional<T> take() {
    if (left_.size() < sizeof(T)) return std::nullopt;
    const T value = load_be<T>(left_.data());
    left_ = left_.subspan(sizeof(T));
    return value;
  }

  // A string behind its 32-bit length. Nothing where it is cut off, longer than kMaxStringBytes, or no text.
  [[nodiscard]] std::optional<std::string_view> take_string();

  [[nodiscard]] bool empty() const { return left_.empty(); }
  [[nodiscard]] std::size_t size() const { return left_.size(); }

 private:
  std::span<const std::byte> left_;
};

// Whether `text` may be a protocol string: at most kMaxStringBytes of valid UTF-8 without NUL.
[[nodiscard]] bool is_protocol_string(std::string_view text);

}  // namespace uzram::nbd
