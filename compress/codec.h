#pragma once
// Codecs: what turns a page into fewer bytes and back. A CodecSpec says which algorithm at which level; a
// Compressor is one worker's context for one of them, and a Decompressor for what any of one format made, so that
// nothing is allocated per page.
//
// Threads: a CodecSpec is a value. A Compressor or Decompressor belongs to one thread at a time.
//
// Memory: a Compressor takes none after its construction, with two exceptions of the libraries: zstd may
// resize its context after many inputs shorter than a page, and lz4hc above level 9 borrows 64 KiB from
// malloc for each page (without them it says that the page does not fit).

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <tl/expected.hpp>

namespace uzram {

enum class Algorithm : std::uint8_t { lz4, lz4hc, zstd };

struct CodecSpec {
  Algorithm algorithm = Algorithm::lz4;
  int level = 1;  // lz4: acceleration, 1 is the library's default; lz4hc: 1..12; zstd: the library's own range

  bool operator==(const CodecSpec&) const = default;

  // Parses `lz4`, `lz4hc`, `zstd`, each optionally with parameters as in `zstd(level=3)`. The error is one
  // line that names what is wrong and what would be right.
  [[nodiscard]] static tl::expected<CodecSpec, std::string> parse(std::string_view text);

  // The algorithm's name alone, as zram's comp_algorithm spells it.
  [[nodiscard]] std::string_view name() const;

  // The form that parse reads; the level only where it is not the algorithm's default.
  [[nodiscard]] std::string to_string() const;
};

// Every algorithm's name, in the order in which zram's comp_algorithm lists them.
std::span<const std::string_view> algorithm_names();

// What reading needs to know of an algorithm; levels do not matter to it.
enum class Format : std::uint8_t { lz4_block, zstd_frame };

constexpr Format format_of(Algorithm algorithm) {
  return algorithm == Algorithm::zstd ? Format::zstd_frame : Format::lz4_block;
}

// One worker's context for one format.
class Decompressor {
 public:
  virtual ~Decompressor() = default;

  // Decompresses `in` into `out`; true only if it filled `out` exactly. Damaged input gives false, and
  // nothing outside the two spans is read or written.
  [[nodiscard]] virtual bool decompress(std::span<const std::byte> in, std::span<std::byte> out) = 0;
};

// One worker's context for one codec, both ways.
class Compressor : public Decompressor {
 public:
  // Does what the next call of compress would begin with and what needs no input: for a caller who waits for something
  // else, as for memory.
  virtual void prepare() {}

  // Compresses `in`, 1 to 4096 bytes. The result is the context's own until the next call, and empty where it would be
  // longer than `most` bytes.
  [[nodiscard]] virtual std::span<const std::byte> compress(std::span<const std::byte> in, std::size_t most) = 0;
};

// Both allocate everything that they will ever need, and throw std::bad_alloc where there is no memory.
std::unique_ptr<Compressor> make_compressor(const CodecSpec& spec);
std::unique_ptr<Decompressor> make_decompressor(Format format);

}  // namespace uzram
