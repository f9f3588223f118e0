#pragma once
// The pages that benchmarks run on.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "blockdev/types.h"
#include "compress/codec.h"

namespace uzram::bench {

class Corpus {
 public:
  // The first `most_bytes` of a file, in whole pages, at least one. Throws std::runtime_error.
  static Corpus of_file(const std::string& path, std::uint64_t most_bytes);
  // The same, or pages that are made up where the path is empty.
  static Corpus of_option(const std::string& path, std::uint64_t most_bytes);
  // Pages made up to be much like bench/make-corpus's mix: records, pointers, text, zeroes and noise.
  static Corpus made_up(std::uint64_t bytes);
  // As many pages as this has, all of them those that the codec puts into one size class, the one that has the most;
  // again and again.
  [[nodiscard]] Corpus of_one_class(const CodecSpec& codec) const;

  // As in "65536 pages of FILE".
  [[nodiscard]] std::string description() const;
  [[nodiscard]] std::span<const std::byte> bytes() const { return bytes_; }
  [[nodiscard]] std::size_t pages() const { return bytes_.size() / kPageSize; }
  [[nodiscard]] std::span<const std::byte, kPageSize> page(std::size_t n) const {
    return std::span<const std::byte, kPageSize>(bytes_.data() + n * kPageSize, kPageSize);
  }

 private:
  std::vector<std::byte> bytes_;
  std::string source_ = "made-up pages";
};

// Bytes, of what an option says. Throws std::runtime_error, which names the option, where that is no size of a page or
// more.
[[nodiscard]] std::uint64_t size_of_option(const std::string& option, const std::string& text);

}  // namespace uzram::bench
