#include "cli/estimate_json.h"

#include <nlohmann/json.hpp>

#include "cli/device_json.h"

namespace uzram {
namespace {

using Json = nlohmann::ordered_json;

Json json_of(const CodecEstimate& e) {
  Json j{{"algorithm", e.codec.to_string()},         {"ratio", e.ratio()},
         {"orig_data_size", e.stats.orig_data_size}, {"compr_data_size", e.stats.compr_data_size},
         {"mem_used_total", e.stats.mem_used_total}, {"same_pages", e.stats.same_pages},
         {"huge_pages", e.stats.huge_pages},         {"bytes_per_second_in", e.speed_in()},
         {"bytes_per_second_out", e.speed_out()}};
  if (!e.classes.empty()) j.update(Json::parse(to_json(std::span(e.classes))));
  return j;
}

}  // namespace

std::string to_json(const EstimateReport& report) {
  Json j{{"total_pages", report.total_pages}, {"sampled_pages", report.sampled_pages}};
  j["algorithms"] = Json::array();
  for (const CodecEstimate& e : report.codecs) j["algorithms"].push_back(json_of(e));
  return j.dump(2) + "\n";
}

}  // namespace uzram
