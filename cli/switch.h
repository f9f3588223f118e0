#pragma once
// The daemon's switches: flags that may be given a value, since a file has to be able to turn one off.

#include <optional>
#include <string>

namespace CLI {
class App;
}

namespace uzram {

// Adds a flag that takes what systemd.syntax(7) takes: 1, yes, true, on and 0, no, false, off, or nothing for on; of
// several, the last one holds. CLI11's own flags read a number's beginning, so that 0x1 is off; and one of an optional
// lets a number of twenty digits out as an exception that is not CLI11's. `into` outlives `app`.
void add_switch(CLI::App& app, const std::string& name, bool& into, const std::string& help);
void add_switch(CLI::App& app, const std::string& name, std::optional<bool>& into, const std::string& help);

}  // namespace uzram
