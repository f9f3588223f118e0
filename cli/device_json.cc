#include "cli/device_json.h"

#include <nlohmann/json.hpp>

#include "cli/json_text.h"

namespace uzram {
namespace {

using Json = nlohmann::ordered_json;

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

Json parsed(std::string_view text) { return Json::parse(text, nullptr, /*allow_exceptions=*/false); }

}  // namespace

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

}  // namespace uzram
