#include "cli/device_info.h"

#include <nlohmann/json.hpp>

#include "blockdev/size.h"

namespace uzram {
namespace {

using Json = nlohmann::ordered_json;
constexpr int kIndent = 2;
constexpr unsigned kLeastChain = 4;

struct StatField {
  const char* name;
  std::uint64_t DeviceStats::*value;
};
constexpr StatField kStatFields[] = {
    {"orig_data_size", &DeviceStats::orig_data_size},     {"compr_data_size", &DeviceStats::compr_data_size},
    {"mem_used_total", &DeviceStats::mem_used_total},     {"mem_limit", &DeviceStats::mem_limit},
    {"mem_used_max", &DeviceStats::mem_used_max},         {"same_pages", &DeviceStats::same_pages},
    {"pages_compacted", &DeviceStats::pages_compacted},   {"huge_pages", &DeviceStats::huge_pages},
    {"huge_pages_since", &DeviceStats::huge_pages_since}, {"failed_reads", &DeviceStats::failed_reads},
    {"failed_writes", &DeviceStats::failed_writes},       {"notify_free", &DeviceStats::notify_free},
    {"check_failures", &DeviceStats::check_failures},     {"scrub_failures", &DeviceStats::scrub_failures},
    {"table_memory", &DeviceStats::table_memory},
};

Json json_of(const DeviceInfo& info) {
  Json j{{"name", info.name},       {"disksize", info.disksize}, {"algorithm", info.algorithm},
         {"streams", info.streams}, {"chain", info.chain},       {"check", info.check},
         {"uuid", info.uuid},       {"uris", info.uris},         {"swap_safe", info.swap_safe}};
  if (!info.attached.empty()) j["attached"] = info.attached;
  for (const StatField& f : kStatFields) j[f.name] = info.stats.*f.value;
  return j;
}

DeviceInfo info_of(const Json& j) {
  DeviceInfo info;
  j.at("name").get_to(info.name);
  j.at("disksize").get_to(info.disksize);
  j.at("algorithm").get_to(info.algorithm);
  j.at("streams").get_to(info.streams);
  j.at("chain").get_to(info.chain);
  j.at("check").get_to(info.check);
  j.at("uuid").get_to(info.uuid);
  j.at("uris").get_to(info.uris);
  j.at("swap_safe").get_to(info.swap_safe);
  for (const StatField& f : kStatFields) j.at(f.name).get_to(info.stats.*f.value);
  return info;
}

// As everybody writes UUIDs: 8-4-4-4-12 hexadecimal digits.
std::string uuid_text(std::span<const std::byte, 16> uuid) {
  constexpr std::string_view kHex = "0123456789abcdef";
  std::string text;
  for (std::size_t i = 0; i < uuid.size(); ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    const auto byte = std::to_integer<unsigned>(uuid[i]);
    text += {kHex[byte >> 4], kHex[byte & 15]};
  }
  return text;
}

DeviceInfo info_of(const DeviceTable& devices, const Device& device) {
  const DeviceOptions& o = device.options();
  DeviceInfo info;
  info.name = o.name;
  info.disksize = o.size;
  info.algorithm = o.codec.to_string();
  info.streams = devices.openers(o.name);
  info.chain = o.geometry.chain;
  info.check = o.check;
  info.uuid = uuid_text(o.uuid);
  info.stats = device.stats();
  return info;
}

tl::unexpected<Error> wrong(const std::string& field, const std::string& why) {
  return fail(EINVAL, field + ": " + why);
}

// Bytes, as a number or as text.
template <class Parse>
Result<void> read_size(const std::string& field, const Json& value, Parse parse, std::uint64_t& into) {
  std::string text;
  if (value.is_number_integer())
    text = value.dump();
  else if (value.is_string())
    text = value.get<std::string>();
  else
    return wrong(field, "is neither a number of bytes nor a text such as \"1G\"");
  const auto bytes = parse(text);
  if (!bytes) return wrong(field, bytes.error().message);
  into = *bytes;
  return {};
}

Result<void> read_chain(const Json& value, DeviceOptions& options) {
  if (!value.is_number_unsigned() || value < kLeastChain || value > kMaxChain) {
    return wrong("chain", "is not a number from 4 to 16");
  }
  options.geometry = geometry_for_chain(value.get<unsigned>());
  return {};
}

Result<void> read_algorithm(const std::string& text, DeviceOptions& options) {
  const auto codec = CodecSpec::parse(text);
  if (!codec) return wrong("algorithm", codec.error());
  options.codec = *codec;
  return {};
}

Result<void> read_field(const std::string& field, const Json& value, DeviceOptions& options) {
  if (field == "size") return read_size(field, value, parse_device_size, options.size);
  if (field == "mem_limit") return read_size(field, value, parse_size, options.mem_limit);
  if (field == "chain") return read_chain(value, options);
  if (field == "check") {
    if (!value.is_boolean()) return wrong(field, "is neither true nor false");
    options.check = value.get<bool>();
    return {};
  }
  if (field != "name" && field != "algorithm") return wrong(field, "there is no such field");
  if (!value.is_string()) return wrong(field, "is not a text");
  if (field == "algorithm") return read_algorithm(value.get<std::string>(), options);
  options.name = value.get<std::string>();
  return {};
}

Json parsed(std::string_view text) { return Json::parse(text, nullptr, /*allow_exceptions=*/false); }

// A byte that is not UTF-8 becomes a replacement character: a client's words are quoted in errors.
std::string dumped(const Json& j) { return j.dump(kIndent, ' ', false, Json::error_handler_t::replace) + "\n"; }

}  // namespace

Geometry geometry_for_chain(unsigned chain) {
  Geometry geometry;
  geometry.rule = chain == kLeastChain ? ChainRule::documented : ChainRule::kernel;
  geometry.chain = chain;
  return geometry;
}

Result<DeviceInfo> device_info(const DeviceTable& devices, std::string_view name) {
  const auto device = devices.find(name);
  if (!device) return tl::unexpected(device.error());
  return info_of(devices, **device);
}

std::vector<DeviceInfo> device_infos(const DeviceTable& devices) {
  std::vector<DeviceInfo> infos;
  for (const std::string& name : devices.names()) {
    // A device that was removed since is left out.
    if (auto info = device_info(devices, name)) infos.push_back(std::move(*info));
  }
  return infos;
}

std::string to_json(const DeviceInfo& info) { return dumped(json_of(info)); }

std::string to_json(std::span<const DeviceInfo> infos) {
  Json list = Json::array();
  for (const DeviceInfo& info : infos) list.push_back(json_of(info));
  return dumped({{"devices", std::move(list)}});
}

std::string to_json(std::span<const ClassStats> rows) {
  Json list = Json::array();
  for (const ClassStats& c : rows) {
    list.push_back({{"class", c.index},
                    {"size", c.geometry.size},
                    {"almost_full", c.almost_full},
                    {"almost_empty", c.almost_empty},
                    {"full", c.full},
                    {"obj_allocated", c.obj_allocated},
                    {"obj_used", c.obj_used},
                    {"pages_used", c.pages_used},
                    {"pages_per_zspage", c.geometry.frames},
                    {"freeable", c.freeable()}});
  }
  return dumped({{"classes", std::move(list)}});
}

std::string to_json(const ScrubReport& report) {
  Json named = Json::array();
  for (const PageIndex page : report.named) named.push_back(raw(page));
  return dumped(
      {{"pages", report.pages}, {"objects", report.objects}, {"damaged", report.damaged}, {"named", std::move(named)}});
}

std::string error_to_json(std::string_view message) { return dumped({{"error", message}}); }

std::string to_json(const DeviceOptions& options) {
  return dumped({{"name", options.name},
                 {"size", options.size},
                 {"algorithm", options.codec.to_string()},
                 {"mem_limit", options.mem_limit},
                 {"chain", options.geometry.chain},
                 {"check", options.check}});
}

Result<DeviceInfo> device_info_from_json(std::string_view text) try {
  const Json answer = parsed(text);
  return info_of(answer);
} catch (const Json::exception&) {
  return fail(EINVAL, "the daemon's answer is not a device: it may be of another version");
}

Result<std::vector<DeviceInfo>> device_infos_from_json(std::string_view text) try {
  std::vector<DeviceInfo> infos;
  const Json answer = parsed(text);
  for (const Json& j : answer.at("devices")) infos.push_back(info_of(j));
  return infos;
} catch (const Json::exception&) {
  return fail(EINVAL, "the daemon's answer is not a list of devices: it may be of another version");
}

Result<ScrubReport> scrub_report_from_json(std::string_view text) try {
  const Json answer = parsed(text);
  ScrubReport report;
  answer.at("pages").get_to(report.pages);
  answer.at("objects").get_to(report.objects);
  answer.at("damaged").get_to(report.damaged);
  for (const Json& page : answer.at("named")) report.named.push_back(PageIndex{page.get<std::uint64_t>()});
  return report;
} catch (const Json::exception&) {
  return fail(EINVAL, "the daemon's answer is not a scrub's report: it may be of another version");
}

std::string error_from_json(std::string_view text) {
  const Json j = parsed(text);
  const auto found = j.is_object() ? j.find("error") : j.end();
  return found != j.end() && found->is_string() ? found->get<std::string>() : std::string();
}

Result<DeviceOptions> device_options_from_json(std::string_view text) {
  const Json j = parsed(text);
  if (!j.is_object()) return fail(EINVAL, "the description of a device is not a JSON object");
  for (const char* needed : {"name", "size"}) {
    if (!j.contains(needed)) return wrong(needed, "is missing");
  }
  DeviceOptions options;
  for (const auto& [field, value] : j.items()) {
    if (const auto read = read_field(field, value, options); !read) return tl::unexpected(read.error());
  }
  return options;
}

}  // namespace uzram
