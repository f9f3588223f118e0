#include "blockdev/pass_words.h"

#include <algorithm>
#include <iterator>
#include <sstream>
#include <string>
#include <vector>

namespace uzram {
namespace {

constexpr char kWritebackWords[] =
    "one type=huge, idle, huge_idle or incompressible is written, or any number of page_index=N and page_indexes=LO-HI";
constexpr char kRecompressWords[] =
    "type=huge, idle or huge_idle, threshold=BYTES, max_pages=N, algo=NAME and priority=1, 2 or 3 are written";
constexpr char kAlgorithmWords[] = "algo=NAME and priority=1, 2 or 3 are written";

std::vector<std::string> words_of(std::string_view text) {
  std::istringstream stream{std::string(text)};
  return {std::istream_iterator<std::string>(stream), {}};
}

// "key=value"; without a "=" all of it is the key.
struct Word {
  explicit Word(std::string_view word)
      : key(word.substr(0, word.find('='))), value(word.substr(std::min(word.size(), key.size() + 1))) {}
  std::string_view key;
  std::string_view value;
};

tl::unexpected<Error> wrong(const std::string& word, const char* right) {
  return fail(EINVAL, "'" + word + "' is not right here: " + right);
}

std::optional<WritebackRequest::Pages> parse_pages(const Word& word) {
  const auto dash = word.key == "page_indexes" ? word.value.find('-') : word.value.size();
  if ((word.key != "page_index" && word.key != "page_indexes") || dash == std::string_view::npos) return std::nullopt;
  const auto first = parse_number<std::uint64_t>(word.value.substr(0, dash));
  const auto last = dash == word.value.size() ? first : parse_number<std::uint64_t>(word.value.substr(dash + 1));
  if (!first || !last) return std::nullopt;
  return WritebackRequest::Pages{PageIndex{*first}, PageIndex{*last}};
}

// Sets what a type says of pages that are huge, idle or both; false for any other.
template <class Request>
bool take_type(std::string_view type, Request& request) {
  request.huge = type == "huge" || type == "huge_idle";
  request.idle = type == "idle" || type == "huge_idle";
  return request.huge || request.idle;
}

// "priority=N"; false for any other word.
bool take_priority(const Word& word, unsigned& priority) {
  priority = parse_number<unsigned>(word.value).value_or(0);
  return word.key == "priority" && priority > 0 && priority < CodecTable::kPriorities;
}

// Sets what one word of a recompression says; false where it is not right.
bool take_word(const Word& word, RecompressRequest& request) {
  if (word.key == "type") return take_type(word.value, request);
  if (word.key == "threshold") {
    const auto bytes = parse_size(word.value);
    if (bytes) request.threshold = *bytes;
    return bytes.has_value();
  }
  if (word.key == "max_pages") {
    const auto pages = parse_number<std::uint64_t>(word.value);
    request.max_pages = pages.value_or(0);
    return pages.has_value();
  }
  return take_priority(word, request.priority);
}

}  // namespace

// A type, with or without "type=", or any number of pages.
Result<WritebackRequest> parse_writeback(std::string_view text) {
  const std::vector<std::string> words = words_of(text);
  WritebackRequest request;
  for (const std::string& word : words) {
    const std::string_view type = std::string_view(word).substr(word.starts_with("type=") ? 5 : 0);
    request.incompressible = type == "incompressible";
    const bool is_type = take_type(type, request) || request.incompressible;
    if (is_type && words.size() == 1) return request;
    const auto pages = parse_pages(Word(word));
    if (!pages) return wrong(word, kWritebackWords);
    request.pages.push_back(*pages);
  }
  if (request.pages.empty()) return fail(EINVAL, kWritebackWords);
  return request;
}

Result<RecompressRequest> parse_recompress(std::string_view text, const CodecTable& codecs) {
  RecompressRequest request;
  std::string algorithm;
  for (const std::string& word : words_of(text)) {
    const Word parts(word);
    if (parts.key == "algo" && !parts.value.empty()) {
      algorithm = parts.value;
    } else if (!take_word(parts, request)) {
      return wrong(word, kRecompressWords);
    }
  }
  if (algorithm.empty()) return request;
  for (; request.priority < CodecTable::kPriorities; ++request.priority) {
    const auto codec = codecs.at(request.priority);
    if (codec && (codec->name() == algorithm || codec->to_string() == algorithm)) return request;
  }
  return fail(EINVAL, "no priority has '" + algorithm + "': see recomp_algorithm");
}

Result<RecompressionAlgorithm> parse_recomp_algorithm(std::string_view text) {
  unsigned priority = 1;
  std::optional<CodecSpec> codec;
  for (const std::string& word : words_of(text)) {
    const Word parts(word);
    if (parts.key == "algo") {
      const auto parsed = CodecSpec::parse(parts.value);
      if (!parsed) return fail(EINVAL, parsed.error());
      codec = *parsed;
    } else if (!take_priority(parts, priority)) {
      return wrong(word, kAlgorithmWords);
    }
  }
  if (!codec) return fail(EINVAL, kAlgorithmWords);
  return RecompressionAlgorithm{*codec, priority};
}

}  // namespace uzram
