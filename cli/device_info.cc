#include "cli/device_info.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "blockdev/size.h"
#include "cli/json_text.h"

namespace uzram {
namespace {

using Json = nlohmann::ordered_json;
constexpr unsigned kLeastChain = 4;

struct StatField {
  const char* name;
  std::uint64_t DeviceStats::*value;
};
constexpr StatField kStatFields[] = {
    {"orig_data_size", &DeviceStats::orig_data_size},
    {"compr_data_size", &DeviceStats::compr_data_size},
    {"mem_used_total", &DeviceStats::mem_used_total},
    {"mem_limit", &DeviceStats::mem_limit},
    {"mem_used_max", &DeviceStats::mem_used_max},
    {"same_pages", &DeviceStats::same_pages},
    {"pages_compacted", &DeviceStats::pages_compacted},
    {"huge_pages", &DeviceStats::huge_pages},
    {"huge_pages_since", &DeviceStats::huge_pages_since},
    {"failed_reads", &DeviceStats::failed_reads},
    {"failed_writes", &DeviceStats::failed_writes},
    {"notify_free", &DeviceStats::notify_free},
    {"check_failures", &DeviceStats::check_failures},
    {"scrub_failures", &DeviceStats::scrub_failures},
    {"bd_count", &DeviceStats::bd_count},
    {"bd_reads", &DeviceStats::bd_reads},
    {"bd_writes", &DeviceStats::bd_writes},
    {"table_memory", &DeviceStats::table_memory},
};

void put(JsonText& out, const DeviceInfo& info) {
  out.open_object();
  out.text("name", info.name);
  out.number("disksize", info.disksize);
  out.text("algorithm", info.algorithm);
  out.number("streams", info.streams);
  out.number("chain", info.chain);
  out.truth("check", info.check);
  out.text("uuid", info.uuid);
  out.open_array("uris");
  for (const std::string& uri : info.uris) out.text({}, uri);
  out.close_array();
  out.truth("swap_safe", info.swap_safe);
  if (!info.attached.empty()) out.text("attached", info.attached);
  for (const StatField& f : kStatFields) out.number(f.name, info.stats.*f.value);
  out.close_object();
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
Result<void> read_bytes(const std::string& field, const Json& value, Parse parse, std::uint64_t& into) {
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
  if (field == "size") return read_bytes(field, value, parse_device_size, options.size);
  if (field == "mem_limit") return read_bytes(field, value, parse_size, options.mem_limit);
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

// The members of one object whose values are single; null stands for a value that is not. Not a tree: json_text.h says
// why.
class FlatObject : public nlohmann::json_sax<Json> {
 public:
  // Nothing where `text` is not one object.
  [[nodiscard]] static std::optional<std::vector<std::pair<std::string, Json>>> read(std::string_view text) {
    FlatObject object;
    if (!Json::sax_parse(text, &object)) return std::nullopt;
    return std::move(object.members_);
  }

  bool null() override { return add(nullptr); }
  bool boolean(bool value) override { return add(value); }
  bool number_integer(number_integer_t value) override { return add(value); }
  bool number_unsigned(number_unsigned_t value) override { return add(value); }
  bool number_float(number_float_t value, const string_t&) override { return add(value); }
  bool string(string_t& value) override { return add(value); }
  bool binary(binary_t&) override { return false; }
  bool start_object(std::size_t) override { return open(); }
  bool end_object() override { return close(); }
  bool start_array(std::size_t) override { return depth_ > 0 && open(); }
  bool end_array() override { return close(); }
  bool key(string_t& name) override {
    if (depth_ == 1) name_ = name;
    return true;
  }
  bool parse_error(std::size_t, const std::string&, const Json::exception&) override { return false; }

 private:
  bool add(Json value) {
    if (depth_ == 1) members_.emplace_back(name_, std::move(value));
    return depth_ > 0;
  }
  bool open() {
    if (depth_ == 1) members_.emplace_back(name_, nullptr);
    ++depth_;
    return true;
  }
  bool close() {
    --depth_;
    return true;
  }

  std::vector<std::pair<std::string, Json>> members_;
  std::string name_;
  unsigned depth_ = 0;
};

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

std::string to_json(const DeviceInfo& info) {
  JsonText out;
  put(out, info);
  return out.take();
}

std::string to_json(std::span<const DeviceInfo> infos) {
  JsonText out;
  out.open_object();
  out.open_array("devices");
  for (const DeviceInfo& info : infos) put(out, info);
  out.close_array();
  out.close_object();
  return out.take();
}

std::string to_json(std::span<const ClassStats> rows) {
  JsonText out;
  out.open_object();
  out.open_array("classes");
  for (const ClassStats& c : rows) {
    out.open_object();
    out.number("class", c.index);
    out.number("size", c.geometry.size);
    out.number("almost_full", c.almost_full);
    out.number("almost_empty", c.almost_empty);
    out.number("full", c.full);
    out.number("obj_allocated", c.obj_allocated);
    out.number("obj_used", c.obj_used);
    out.number("pages_used", c.pages_used);
    out.number("pages_per_zspage", c.geometry.frames);
    out.number("freeable", c.freeable());
    out.close_object();
  }
  out.close_array();
  out.close_object();
  return out.take();
}

std::string to_json(const ScrubReport& report) {
  JsonText out;
  out.open_object();
  out.number("pages", report.pages);
  out.number("objects", report.objects);
  out.number("damaged", report.damaged);
  out.open_array("named");
  for (const PageIndex page : report.named) out.number({}, raw(page));
  out.close_array();
  out.close_object();
  return out.take();
}

std::string error_to_json(std::string_view message) {
  JsonText out;
  out.open_object();
  out.text("error", message);
  out.close_object();
  return out.take();
}

std::string to_json(const DeviceOptions& options) {
  JsonText out;
  out.open_object();
  out.text("name", options.name);
  out.number("size", options.size);
  out.text("algorithm", options.codec.to_string());
  out.number("mem_limit", options.mem_limit);
  out.number("chain", options.geometry.chain);
  out.truth("check", options.check);
  out.close_object();
  return out.take();
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
  const auto members = FlatObject::read(text);
  if (!members) return fail(EINVAL, "the description of a device is not a JSON object");
  for (const std::string_view needed : {"name", "size"}) {
    const auto is_needed = [&](const auto& member) { return member.first == needed; };
    if (std::none_of(members->begin(), members->end(), is_needed)) return wrong(std::string(needed), "is missing");
  }
  DeviceOptions options;
  for (const auto& [field, value] : *members) {
    if (const auto read = read_field(field, value, options); !read) return tl::unexpected(read.error());
  }
  return options;
}

}  // namespace uzram
