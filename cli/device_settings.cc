#include "cli/device_settings.h"

#include <CLI/CLI.hpp>

#include "cli/device_info.h"
#include "cli/size_expression.h"
#include "cli/switch.h"

namespace uzram {
namespace {

// Adds an option whose text `parse` turns into `into`, or says what is wrong with it.
template <class T, class Parse>
CLI::Option* add_parsed(CLI::App& app, const std::string& name, std::optional<T>& into, Parse parse,
                        const std::string& help) {
  return app.add_option_function<std::string>(
      name,
      [name, &into, parse](const std::string& text) {
        const auto value = parse(text);
        if (!value) throw CLI::ValidationError(name, value.error());
        into = *value;
      },
      help);
}

// The size, or the message alone, as CodecSpec::parse gives it.
template <auto Parse>
tl::expected<std::uint64_t, std::string> message_of(const std::string& text) {
  return Parse(text).map_error([](const Error& e) { return e.message; });
}

}  // namespace

void add_device_options(CLI::App& app, DeviceSettings& settings) {
  add_parsed(app, "--size", settings.size, message_of<read_device_size>, "Its size, up to 16T")->type_name("SIZE");
  add_parsed(app, "--algorithm", settings.codec, CodecSpec::parse,
             "lz4 (default), lz4hc or zstd; a level as in zstd(level=9)")
      ->type_name("A");
  add_parsed(app, "--mem-limit", settings.mem_limit, message_of<read_size>,
             "The most memory its data may take; 0 (default): no limit")
      ->type_name("SIZE");
  app.add_option("--chain", settings.chain,
                 "Pages in a zspage: 4 (default), by the documented rule; 5..16, by today's kernel's")
      ->type_name("N")
      ->check(CLI::Range(kDocumentedChain, kMaxChain).description(""));
  add_switch(app, "--no-check", settings.no_check, "Store no checksum with each page, and verify none");
}

DeviceOptions device_options(std::string name, const DeviceSettings& own, const DeviceSettings& fallback) {
  DeviceOptions options;
  options.name = std::move(name);
  options.size = own.size.value_or(0);
  options.codec = own.codec.value_or(fallback.codec.value_or(CodecSpec{}));
  options.mem_limit = own.mem_limit.value_or(fallback.mem_limit.value_or(0));
  options.geometry = geometry_for_chain(own.chain.value_or(fallback.chain.value_or(kDocumentedChain)));
  options.check = !own.no_check.value_or(fallback.no_check.value_or(false));
  return options;
}

void add_export_options(CLI::App& app, ExportSettings& settings) {
  add_switch(app, "--read-only", settings.read_only, "Refuse every write");
  const auto parse = [](const std::string& text) {
    return nbd::parse_identities(text).map_error([](const Error& e) { return e.message; });
  };
  add_parsed(app, "--allow", settings.allow, parse,
             "Serve only these: user:NAME, psk:NAME or cert:COMMON-NAME, with commas between them")
      ->type_name("WHO");
}

nbd::ExportRules export_rules(const ExportSettings& own, const ExportSettings& fallback) {
  return {.read_only = own.read_only.value_or(fallback.read_only.value_or(false)),
          .allow = own.allow ? *own.allow : fallback.allow.value_or(std::vector<nbd::Identity>{})};
}

std::string one_line(std::string text) {
  for (char& c : text) {
    if (c == '\n') c = ' ';
  }
  while (!text.empty() && text.back() == ' ') text.pop_back();
  return text;
}

}  // namespace uzram
