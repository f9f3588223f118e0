#include "bench/corpus.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <fstream>
#include <random>
#include <stdexcept>

#include "allocator/size_class.h"
#include "blockdev/same_filled.h"
#include "blockdev/size.h"

namespace uzram::bench {
namespace {

using Random = std::mt19937_64;
using Words = std::span<std::uint64_t, kPageSize / sizeof(std::uint64_t)>;

void fill_records(Words words, Random& random) {
  const std::uint64_t heap = 0x7f0000000000 + (random() & 0x3ffffff000);
  for (std::size_t i = 0; i < words.size(); i += 4) {
    words[i] = heap + i * 16;
    words[i + 1] = random() % 1000;
    words[i + 2] = heap + random() % 0x100000 / 16 * 16;
    words[i + 3] = std::uint64_t{1} << 32;
  }
}

void fill_text(Words words, Random& random) {
  static constexpr std::string_view kWords[] = {"return ", "const ", "page",  "the ", "of ",  "std::", "size_t ",
                                                "value",   " = 0x",  ";\n  ", "int ", "if (", ") {\n", "memory "};
  std::string text;
  while (text.size() < kPageSize) {
    text += random() % 4 == 0 ? std::to_string(random() % 100000) : kWords[random() % std::size(kWords)];
  }
  std::memcpy(words.data(), text.data(), kPageSize);
}

void fill_sparse(Words words, Random& random) {
  std::ranges::fill(words, 0);
  for (int i = 0; i < 60; ++i) words[random() % words.size()] = random() & 0xffffff;
}

void fill_noise(Words words, Random& random) {
  for (auto& word : words) word = random();
}

}  // namespace

Corpus Corpus::of_file(const std::string& path, std::uint64_t most_bytes) {
  std::ifstream in(path, std::ios::binary | std::ios::ate);
  if (!in) throw std::runtime_error(path + ": cannot be opened");
  const std::uint64_t bytes = std::min(static_cast<std::uint64_t>(in.tellg()), most_bytes) / kPageSize * kPageSize;
  if (bytes == 0) throw std::runtime_error(path + ": holds no whole page");
  Corpus corpus;
  corpus.source_ = "pages of " + path;
  corpus.bytes_.resize(bytes);
  in.seekg(0);
  if (!in.read(reinterpret_cast<char*>(corpus.bytes_.data()), static_cast<std::streamsize>(bytes))) {
    throw std::runtime_error(path + ": cannot be read");
  }
  return corpus;
}

Corpus Corpus::of_option(const std::string& path, std::uint64_t most_bytes) {
  return path.empty() ? made_up(most_bytes) : of_file(path, most_bytes);
}

std::string Corpus::description() const { return std::to_string(pages()) + " " + source_; }

Corpus Corpus::made_up(std::uint64_t bytes) {
  Corpus corpus;
  corpus.bytes_.resize(bytes / kPageSize * kPageSize);
  Random random(7);
  std::array<std::uint64_t, kPageSize / sizeof(std::uint64_t)> words;
  for (std::size_t n = 0; n < corpus.pages(); ++n) {
    const std::uint64_t kind = random() % 100;
    if (kind < 2) {
      words.fill(0);
    } else if (kind < 50) {
      fill_records(words, random);
    } else if (kind < 75) {
      fill_text(words, random);
    } else if (kind < 95) {
      fill_sparse(words, random);
    } else {
      fill_noise(words, random);
    }
    std::memcpy(corpus.bytes_.data() + n * kPageSize, words.data(), kPageSize);
  }
  return corpus;
}

Corpus Corpus::of_one_class(const CodecSpec& codec) const {
  const SizeClasses classes{Geometry{}};
  const auto compressor = make_compressor(codec);
  std::array<std::vector<std::size_t>, kClasses> pages_of;
  for (std::size_t n = 0; n < pages(); ++n) {
    const std::size_t length = compressor->compress(page(n), classes.huge_class_size() - 1).size();
    if (length != 0 && !same_filled_word(page(n))) pages_of[classes.index_for(length)].push_back(n);
  }
  const auto& most = *std::ranges::max_element(pages_of, {}, [](const auto& some) { return some.size(); });
  if (most.empty()) throw std::runtime_error("no page of the corpus can be compressed");
  Corpus corpus;
  corpus.bytes_.resize(bytes_.size());
  for (std::size_t n = 0; n < pages(); ++n) {
    std::memcpy(corpus.bytes_.data() + n * kPageSize, page(most[n % most.size()]).data(), kPageSize);
  }
  return corpus;
}

std::uint64_t size_of_option(const std::string& option, const std::string& text) {
  const auto bytes = parse_size(text);
  if (!bytes || *bytes < kPageSize) throw std::runtime_error(option + ": " + text + " is no size of a page or more");
  return *bytes;
}

}  // namespace uzram::bench
