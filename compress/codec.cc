#include "compress/codec.h"

#include <lz4hc.h>
#include <zstd.h>

#include <array>
#include <charconv>
#include <system_error>

#include "compress/contexts.h"
#include "compress/lz4_encoder.h"

namespace uzram {
namespace {

constexpr std::array<std::string_view, 3> kNames = {"lz4", "lz4hc", "zstd"};  // indexed by Algorithm

struct LevelRange {
  int least;
  int most;
  int standard;
};

LevelRange levels_of(Algorithm algorithm) {
  switch (algorithm) {
    case Algorithm::lz4:
      return {1, Lz4Encoder::kMostAcceleration, 1};
    case Algorithm::lz4hc:
      return {1, LZ4HC_CLEVEL_MAX, LZ4HC_CLEVEL_DEFAULT};
    case Algorithm::zstd:
      break;
  }
  return {ZSTD_minCLevel(), ZSTD_maxCLevel(), ZSTD_defaultCLevel()};
}

std::string quoted(std::string_view text) { return "'" + std::string(text) + "'"; }

tl::expected<Algorithm, std::string> parse_name(std::string_view name) {
  for (std::size_t i = 0; i < kNames.size(); ++i) {
    if (kNames[i] == name) return static_cast<Algorithm>(i);
  }
  return tl::unexpected("unknown algorithm " + quoted(name) + ": it is one of lz4, lz4hc, zstd");
}

tl::expected<int, std::string> parse_level(Algorithm algorithm, std::string_view digits) {
  const LevelRange range = levels_of(algorithm);
  int level = 0;
  const char* end = digits.data() + digits.size();
  const auto [stop, error] = std::from_chars(digits.data(), end, level);
  const bool number = stop == end && error == std::errc{};
  // zstd reads level 0 as "the default"; one spelling for each setting keeps specs comparable.
  if (number && algorithm == Algorithm::zstd && level == 0) return range.standard;
  if (number && level >= range.least && level <= range.most) return level;
  return tl::unexpected(std::string(kNames[static_cast<std::size_t>(algorithm)]) + " has no level " + quoted(digits) +
                        ": it is a number from " + std::to_string(range.least) + " to " + std::to_string(range.most));
}

}  // namespace

tl::expected<CodecSpec, std::string> CodecSpec::parse(std::string_view text) {
  const std::size_t open = text.find('(');
  const std::string_view name = text.substr(0, open);
  const auto algorithm = parse_name(name);
  if (!algorithm) return tl::unexpected(algorithm.error());
  CodecSpec spec{*algorithm, levels_of(*algorithm).standard};
  if (open == std::string_view::npos) return spec;

  constexpr std::string_view kLevel = "level=";
  const std::string_view rest = text.substr(open + 1);
  if (rest.empty() || rest.find(')') != rest.size() - 1) {
    return tl::unexpected("malformed algorithm " + quoted(text) + ": parameters are written as " + std::string(name) +
                          "(level=N)");
  }
  const std::string_view parameter = rest.substr(0, rest.size() - 1);
  if (!parameter.starts_with(kLevel)) {
    return tl::unexpected("unknown parameter " + quoted(parameter) + " of " + std::string(name) +
                          ": the only one is level=N");
  }
  const auto level = parse_level(*algorithm, parameter.substr(kLevel.size()));
  if (!level) return tl::unexpected(level.error());
  spec.level = *level;
  return spec;
}

std::string_view CodecSpec::name() const { return kNames[static_cast<std::size_t>(algorithm)]; }

std::string CodecSpec::to_string() const {
  std::string text(name());
  if (level != levels_of(algorithm).standard) text += "(level=" + std::to_string(level) + ")";
  return text;
}

std::span<const std::string_view> algorithm_names() { return kNames; }

std::unique_ptr<Compressor> make_compressor(const CodecSpec& spec) {
  switch (spec.algorithm) {
    case Algorithm::lz4:
      return make_lz4(spec.level);
    case Algorithm::lz4hc:
      return make_lz4hc(spec.level);
    case Algorithm::zstd:
      break;
  }
  return make_zstd(spec.level);
}

std::unique_ptr<Decompressor> make_decompressor(Format format) {
  return format == Format::zstd_frame ? make_zstd_reader() : make_lz4_reader();
}

}  // namespace uzram
