#include "cli/config_file.h"

#include <CLI/CLI.hpp>
#include <istream>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>

namespace uzram {
namespace {

class FileReader : public CLI::ConfigTOML {
 public:
  FileReader(const CLI::App& app, const CLI::App& device, std::vector<DeviceSection>& sections)
      : app_(app), device_(device), sections_(sections) {
    // A device's name may hold dots: sections do not nest.
    parentSeparator(kNever);
    // Nor do blanks and commas make a list of `min(ram / 2, 4G)`.
    arraySeparator = kNever;
  }

  [[nodiscard]] std::vector<CLI::ConfigItem> from_config(std::istream& input) const override {
    std::string text;
    std::getline(input, text, kNever);
    if (input.bad()) throw CLI::FileError("");  // it has ended early
    if (!input.eof()) refuse("holds a control character (0x1f): not a text file");
    std::istringstream checked(text);
    std::vector<CLI::ConfigItem> all = CLI::ConfigTOML::from_config(checked);
    std::vector<CLI::ConfigItem> global;
    for (CLI::ConfigItem& item : all) {
      const bool is_key = !item.inputs.empty();  // or CLI11's mark of a section's begin or end
      if (!is_key && item.name == "--") continue;
      if (item.parents.empty()) {
        check(app_, item, item.name);
        global.push_back(std::move(item));
      } else if (!is_key && item.name == "++") {
        open_section(item.parents[0]);
      } else {
        check(device_, item, "[" + item.parents[0] + "] " + item.name);
        sections_.back().arguments.push_back("--" + item.name + "=" + item.inputs[0]);
      }
    }
    return global;
  }

 private:
  // ASCII's unit separator: CLI11 has to be given separators, and no text file holds this one.
  static constexpr char kNever = '\x1f';

  [[noreturn]] static void refuse(const std::string& why) { throw CLI::ConfigError(why, CLI::ExitCodes::ConfigError); }

  static void check(const CLI::App& app, const CLI::ConfigItem& item, const std::string& where) {
    const CLI::Option* option = app.get_option_no_throw("--" + item.name);
    if (option == nullptr || !option->get_configurable()) refuse(where + ": there is no such key");
    if (item.inputs.size() != 1) refuse(where + ": takes one value");
  }

  void open_section(const std::string& title) const {
    constexpr std::string_view kPrefix = "device.";
    const std::string name = title.starts_with(kPrefix) ? title.substr(kPrefix.size()) : "";
    if (name.empty()) refuse("[" + title + "]: there is no such section; one is [device.NAME]");
    for (const DeviceSection& s : sections_) {
      if (s.device == name) refuse("[" + title + "]: stands there twice");
    }
    sections_.push_back({name, {}});
  }

  const CLI::App& app_;
  const CLI::App& device_;
  std::vector<DeviceSection>& sections_;
};

}  // namespace

std::shared_ptr<CLI::Config> make_file_reader(const CLI::App& app, const CLI::App& device,
                                              std::vector<DeviceSection>& sections) {
  return std::make_shared<FileReader>(app, device, sections);
}

}  // namespace uzram
