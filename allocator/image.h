#pragma once
// Plain values one after the other: what a process knows beside the shared state, for the one that takes over from it
// at once and does not recover. Written and read by programs of one kImageVersion only.
//
// Threads: each belongs to one.

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <type_traits>
#include <vector>

namespace uzram {

// To be raised with every change of what any `save` writes.
inline constexpr std::uint32_t kImageVersion = 4;

class ImageWriter {
 public:
  template <class T>
  void put(const T& value) {
    static_assert(std::is_trivially_copyable_v<T>);
    put_all(std::span<const T>(&value, 1));
  }
  // The values without their number.
  template <class T>
  void put_all(std::span<const T> values) {
    static_assert(std::is_trivially_copyable_v<T>);
    const auto raw = std::as_bytes(values);
    bytes_.insert(bytes_.end(), raw.begin(), raw.end());
  }
  void put_text(std::string_view text) {
    put(static_cast<std::uint32_t>(text.size()));
    put_all(std::span(text.data(), text.size()));
  }

  [[nodiscard]] std::span<const std::byte> bytes() const { return bytes_; }

 private:
  std::vector<std::byte> bytes_;
};

// Reads what a writer wrote; an image that ends too early, or is asked for more than it can hold, gives zeroes and is
// not `good` any more.
class ImageReader {
 public:
  explicit ImageReader(std::span<const std::byte> bytes) : bytes_(bytes) {}

  template <class T>
  [[nodiscard]] T get() {
    T value{};
    get_all(std::span<T>(&value, 1));
    return value;
  }
  template <class T>
  void get_all(std::span<T> out) {
    static_assert(std::is_trivially_copyable_v<T>);
    const std::size_t n = out.size_bytes();
    good_ = good_ && n <= bytes_.size();
    if (!good_ || n == 0) return;
    std::memcpy(static_cast<void*>(out.data()), bytes_.data(), n);
    bytes_ = bytes_.subspan(n);
  }
  // The next `n` bytes, where they are.
  [[nodiscard]] std::span<const std::byte> view(std::size_t n) {
    good_ = good_ && n <= bytes_.size();
    if (!good_) return {};
    const auto out = bytes_.first(n);
    bytes_ = bytes_.subspan(n);
    return out;
  }
  [[nodiscard]] std::string_view text() {
    const auto raw = view(get<std::uint32_t>());
    return {reinterpret_cast<const char*>(raw.data()), raw.size()};
  }

  [[nodiscard]] bool good() const { return good_; }

 private:
  std::span<const std::byte> bytes_;
  bool good_ = true;
};

}  // namespace uzram
