#include "cli/metrics.h"

#include "cli/version.h"

namespace uzram {
namespace {

enum class Kind { gauge, counter };

struct Family {
  const char* name;
  Kind kind;
  const char* unit;  // the name ends with it, or it is empty
  const char* help;
  std::uint64_t DeviceStats::*value;
};

constexpr Family kFamilies[] = {
    {"uzram_orig_data_bytes", Kind::gauge, "bytes", "Uncompressed size of the stored pages.",
     &DeviceStats::orig_data_size},
    {"uzram_compr_data_bytes", Kind::gauge, "bytes", "Compressed size of the stored pages.",
     &DeviceStats::compr_data_size},
    {"uzram_mem_used_bytes", Kind::gauge, "bytes", "Memory of the pool, with its fragmentation.",
     &DeviceStats::mem_used_total},
    {"uzram_mem_used_max_bytes", Kind::gauge, "bytes", "The most memory the pool had since it was last set to 0.",
     &DeviceStats::mem_used_max},
    {"uzram_mem_limit_bytes", Kind::gauge, "bytes", "Memory limit of the pool; 0 is none.", &DeviceStats::mem_limit},
    {"uzram_table_bytes", Kind::gauge, "bytes", "Memory of the slot table.", &DeviceStats::table_memory},
    {"uzram_same_pages", Kind::gauge, "", "Pages of one repeated word, which use no memory.", &DeviceStats::same_pages},
    {"uzram_huge_pages", Kind::gauge, "", "Pages stored as they are.", &DeviceStats::huge_pages},
    {"uzram_huge_pages_stored", Kind::counter, "", "Pages ever stored as they are.", &DeviceStats::huge_pages_since},
    {"uzram_written_back_pages", Kind::gauge, "", "Pages in the backing file.", &DeviceStats::bd_count},
    {"uzram_backing_reads", Kind::counter, "", "Blocks read from the backing file.", &DeviceStats::bd_reads},
    {"uzram_backing_writes", Kind::counter, "", "Blocks written to the backing file.", &DeviceStats::bd_writes},
    {"uzram_pages_compacted", Kind::counter, "", "Pages freed by compaction.", &DeviceStats::pages_compacted},
    {"uzram_failed_reads", Kind::counter, "", "Reads that failed.", &DeviceStats::failed_reads},
    {"uzram_failed_writes", Kind::counter, "", "Writes that failed.", &DeviceStats::failed_writes},
    {"uzram_check_failures", Kind::counter, "", "Reads that met a damaged page.", &DeviceStats::check_failures},
    {"uzram_scrub_failures", Kind::counter, "", "Damaged pages that scrubs met.", &DeviceStats::scrub_failures},
    {"uzram_pages_freed", Kind::counter, "", "Pages freed by discard and write-zeroes.", &DeviceStats::notify_free},
};

std::string escaped(const std::string& label) {
  std::string out;
  for (const char c : label) {
    if (c == '\\' || c == '"') out += '\\';
    if (c == '\n')
      out += "\\n";
    else
      out += c;
  }
  return out;
}

void append_head(std::string& out, const std::string& name, const char* type, const std::string& unit,
                 const char* help) {
  out += "# TYPE " + name + " " + type + "\n";
  if (!unit.empty()) out += "# UNIT " + name + " " + unit + "\n";
  out += "# HELP " + name + " " + help + "\n";
}

void append_sample(std::string& out, const std::string& name, const std::string& labels, std::uint64_t value) {
  out += name + labels + " " + std::to_string(value) + "\n";
}

std::string device_label(const DeviceInfo& info) { return "{device=\"" + escaped(info.name) + "\"}"; }

}  // namespace

std::string openmetrics(std::span<const DeviceInfo> infos, unsigned connections) {
  std::string out;
  append_head(out, "uzram_build", "info", "", "The daemon's version.");
  append_sample(out, "uzram_build_info", std::string("{version=\"") + kVersion + "\"}", 1);
  append_head(out, "uzram_connections", "gauge", "", "NBD connections being served.");
  append_sample(out, "uzram_connections", "", connections);
  append_head(out, "uzram_disksize_bytes", "gauge", "bytes", "Size of the device.");
  for (const DeviceInfo& info : infos) append_sample(out, "uzram_disksize_bytes", device_label(info), info.disksize);
  append_head(out, "uzram_streams", "gauge", "", "Clients that have the device open.");
  for (const DeviceInfo& info : infos) {
    append_sample(out, "uzram_streams", device_label(info), static_cast<std::uint64_t>(info.streams));
  }
  for (const Family& f : kFamilies) {
    const bool counter = f.kind == Kind::counter;
    append_head(out, f.name, counter ? "counter" : "gauge", f.unit, f.help);
    const std::string sample = f.name + std::string(counter ? "_total" : "");
    for (const DeviceInfo& info : infos) append_sample(out, sample, device_label(info), info.stats.*f.value);
  }
  return out + "# EOF\n";
}

}  // namespace uzram
