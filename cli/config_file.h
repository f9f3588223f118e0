#pragma once
// Reads uzramd's configuration file, for CLI11. cli/config.h has its form.

#include <memory>
#include <string>
#include <vector>

namespace CLI {
class App;
class Config;
}  // namespace CLI

namespace uzram {

// What a [device.NAME] section says.
struct DeviceSection {
  std::string device;
  std::vector<std::string> arguments;  // as on a command line
};

// Puts these sections into `sections`, and leaves the rest to CLI11. `app` knows the other keys, `device` those of a
// section; all three outlive the reader, which throws CLI::ConfigError with the place and what is wrong there.
[[nodiscard]] std::shared_ptr<CLI::Config> make_file_reader(const CLI::App& app, const CLI::App& device,
                                                            std::vector<DeviceSection>& sections);

}  // namespace uzram
