#include "cli/switch.h"

#include <CLI/CLI.hpp>

namespace uzram {
namespace {

constexpr const char* kWords = "one of yes, true, on, 1, no, false, off, 0";

std::optional<bool> read_switch(const std::string& text) {
  const std::string word = CLI::ignore_case(text);
  for (const char* on : {"1", "yes", "true", "on"}) {
    if (word == on) return true;
  }
  for (const char* off : {"0", "no", "false", "off"}) {
    if (word == off) return false;
  }
  return std::nullopt;
}

template <class Bool>
void add(CLI::App& app, const std::string& name, Bool& into, const std::string& help) {
  // CLI11 puts the option's name before what a value is refused for.
  app.add_flag(name, help)->each([&into](const std::string& text) {
    const auto on = read_switch(text);
    if (!on) throw CLI::ValidationError("'" + text + "' is neither on nor off: " + kWords);
    into = *on;
  });
}

}  // namespace

void add_switch(CLI::App& app, const std::string& name, bool& into, const std::string& help) {
  add(app, name, into, help);
}

void add_switch(CLI::App& app, const std::string& name, std::optional<bool>& into, const std::string& help) {
  add(app, name, into, help);
}

}  // namespace uzram
