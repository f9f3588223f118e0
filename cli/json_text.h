#pragma once
// Writes JSON as text, in the form of nlohmann's dump(2). The daemon answers with it rather than with trees: destroying
// a tree allocates, in a destructor that must not throw, so that a want of memory would end the process.
//
// Threads: a value; one thread at a time.

#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>

namespace uzram {

class JsonText {
 public:
  // Opens and closes the document, or a member (in an object) or an element (in an array, without a name).
  void open_object(std::string_view name = {}) { open(name, '{'); }
  void open_array(std::string_view name = {}) { open(name, '['); }
  void close_object() { close('}'); }
  void close_array() { close(']'); }

  // A member, or an element where the name is empty. Bytes that are not UTF-8 become replacement characters.
  void text(std::string_view name, std::string_view value);
  void truth(std::string_view name, bool value) { raw(name, value ? "true" : "false"); }
  void number(std::string_view name, std::integral auto value) { raw(name, std::to_string(value)); }

  // What has been written, with a newline behind it.
  [[nodiscard]] std::string take() { return std::move(text_ += '\n'); }

 private:
  void raw(std::string_view name, std::string_view value);
  void open(std::string_view name, char bracket);
  void close(char bracket);
  void new_line();

  std::string text_;
  unsigned depth_ = 0;
  bool empty_ = true;  // nothing stands in the innermost bracket yet
};

}  // namespace uzram
