#include "cli/size_expression.h"

#include <unistd.h>

#include <algorithm>
#include <string>

#include "blockdev/size.h"

namespace uzram {
namespace {

using Value = Result<std::uint64_t>;

constexpr unsigned kMaxDepth = 32;  // of parentheses: more is no size, and would only use up the stack

bool is_word(char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '.'; }

class Reader {
 public:
  Reader(std::string_view text, std::uint64_t ram) : text_(text), left_(text), ram_(ram) {}

  Value all() {
    Value value = sum();
    if (value && !next().empty()) return expected("an operator or the end");
    return value;
  }

 private:
  // The word or sign that comes next; empty at the end.
  std::string_view next() {
    left_.remove_prefix(std::min(left_.find_first_not_of(" \t\r\n"), left_.size()));
    const auto end = std::find_if_not(left_.begin(), left_.end(), is_word);
    const auto length = static_cast<std::size_t>(end - left_.begin());
    return left_.substr(0, std::max<std::size_t>(length, 1));
  }
  bool take(std::string_view wanted) {
    if (next() != wanted) return false;
    left_.remove_prefix(wanted.size());
    return true;
  }

  [[nodiscard]] Value wrong(const std::string& why) const {
    return fail(EINVAL, "'" + std::string(text_) + "' " + why);
  }
  Value expected(const std::string& what) {
    const std::string_view found = next();
    return wrong("has " + (found.empty() ? "its end" : "'" + std::string(found) + "'") + " where " + what +
                 " should be");
  }

  Value sum() {
    Value value = product();
    while (value) {
      const bool minus = next() == "-";
      if (!take("+") && !take("-")) break;
      Value right = product();
      if (!right) return right;
      std::uint64_t result = 0;
      if (minus && *right > *value) return wrong("is less than nothing");
      if (minus ? __builtin_sub_overflow(*value, *right, &result) : __builtin_add_overflow(*value, *right, &result)) {
        return wrong("is too large");
      }
      value = result;
    }
    return value;
  }

  Value product() {
    Value result = value();
    while (result) {
      const bool over = next() == "/";
      if (!take("*") && !take("/")) break;
      Value right = value();
      if (!right) return right;
      if (over && *right == 0) return wrong("divides by zero");
      std::uint64_t product = 0;
      if (!over && __builtin_mul_overflow(*result, *right, &product)) return wrong("is too large");
      result = over ? *result / *right : product;
    }
    return result;
  }

  Value value() {
    if (take("ram")) return ram_;
    if (take("min")) return least_or_most(true);
    if (take("max")) return least_or_most(false);
    if (take("(")) return parenthesis();
    const std::string_view word = next();
    if (word.empty() || !is_word(word.front())) return expected("a size");
    left_.remove_prefix(word.size());
    return parse_size(word);
  }

  // What follows an opening parenthesis, and the closing one.
  Value parenthesis() {
    if (++depth_ > kMaxDepth) return wrong("has too many parentheses");
    Value value = sum();
    if (value && !take(")")) return expected("')'");
    --depth_;
    return value;
  }

  Value least_or_most(bool least) {
    if (!take("(")) return expected("'('");
    if (++depth_ > kMaxDepth) return wrong("has too many parentheses");
    Value value = sum();
    while (value && take(",")) {
      Value other = sum();
      if (!other) return other;
      value = least ? std::min(*value, *other) : std::max(*value, *other);
    }
    if (value && !take(")")) return expected("',' or ')'");
    --depth_;
    return value;
  }

  const std::string_view text_;
  std::string_view left_;
  const std::uint64_t ram_;
  unsigned depth_ = 0;
};

bool is_expression(std::string_view text) {
  return text.find_first_of("(*/,") != std::string_view::npos || text.find("ram") != std::string_view::npos ||
         text.find_first_of("+-", 1) != std::string_view::npos;
}

Value evaluate_here(std::string_view text) {
  return evaluate_size(
      text, static_cast<std::uint64_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE)));
}

}  // namespace

Value evaluate_size(std::string_view text, std::uint64_t ram) { return Reader(trimmed(text), ram).all(); }

Value read_size(std::string_view text) { return is_expression(trimmed(text)) ? evaluate_here(text) : parse_size(text); }

Value read_device_size(std::string_view text) {
  if (!is_expression(trimmed(text))) return parse_device_size(text);
  const Value bytes = evaluate_here(text);
  return bytes ? parse_device_size(std::to_string(*bytes)) : bytes;
}

}  // namespace uzram
