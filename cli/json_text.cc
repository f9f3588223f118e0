#include "cli/json_text.h"

#include <nlohmann/json.hpp>

namespace uzram {
namespace {

// A single value is no tree: destroying it allocates nothing.
std::string quoted(std::string_view value) {
  return nlohmann::json(value).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace

void JsonText::new_line() {
  text_ += '\n';
  text_.append(2 * std::size_t{depth_}, ' ');
}

void JsonText::raw(std::string_view name, std::string_view value) {
  if (depth_ > 0) {
    if (!empty_) text_ += ',';
    new_line();
  }
  if (!name.empty()) (text_ += quoted(name)) += ": ";
  text_ += value;
  empty_ = false;
}

void JsonText::text(std::string_view name, std::string_view value) { raw(name, quoted(value)); }

void JsonText::open(std::string_view name, char bracket) {
  raw(name, {&bracket, 1});
  ++depth_;
  empty_ = true;
}

void JsonText::close(char bracket) {
  --depth_;
  if (!empty_) new_line();
  text_ += bracket;
  empty_ = false;
}

}  // namespace uzram
