#include "cli/device_list.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdio>
#include <iterator>

#include "blockdev/size.h"

namespace uzram {
namespace {

struct Column {
  const char* name;
  const char* help;
  bool right;  // aligned
  std::string (*text)(const DeviceInfo&, bool bytes);
};

std::string size_text(std::uint64_t bytes, bool plain) { return plain ? std::to_string(bytes) : human_size(bytes); }

// Of all memory the data takes, fragmentation included; "-" where it takes none.
std::string ratio_text(const DeviceStats& s) {
  if (s.mem_used_total == 0) return "-";
  std::array<char, 32> text;
  const double ratio = static_cast<double>(s.orig_data_size) / static_cast<double>(s.mem_used_total);
  std::snprintf(text.data(), text.size(), "%.2f", ratio);
  return text.data();
}

constexpr Column kColumns[] = {
    {"NAME", "device name", false, [](const DeviceInfo& d, bool) { return d.name; }},
    {"DISKSIZE", "limit on the uncompressed amount of data", true,
     [](const DeviceInfo& d, bool b) { return size_text(d.disksize, b); }},
    {"DATA", "uncompressed size of stored data", true,
     [](const DeviceInfo& d, bool b) { return size_text(d.stats.orig_data_size, b); }},
    {"COMPR", "compressed size of stored data", true,
     [](const DeviceInfo& d, bool b) { return size_text(d.stats.compr_data_size, b); }},
    {"ALGORITHM", "the selected compression algorithm", false, [](const DeviceInfo& d, bool) { return d.algorithm; }},
    {"STREAMS", "number of clients, each with its compression stream", true,
     [](const DeviceInfo& d, bool) { return std::to_string(d.streams); }},
    {"ZERO-PAGES", "pages of one repeated word, with no allocated memory", true,
     [](const DeviceInfo& d, bool) { return std::to_string(d.stats.same_pages); }},
    {"TOTAL", "all memory of stored data, with the allocator's fragmentation", true,
     [](const DeviceInfo& d, bool b) { return size_text(d.stats.mem_used_total, b); }},
    {"MEM-LIMIT", "memory limit for compressed data", true,
     [](const DeviceInfo& d, bool b) { return size_text(d.stats.mem_limit, b); }},
    {"MEM-USED", "the most memory the device has used", true,
     [](const DeviceInfo& d, bool b) { return size_text(d.stats.mem_used_max, b); }},
    {"MIGRATED", "number of pages freed by compaction", true,
     [](const DeviceInfo& d, bool) { return std::to_string(d.stats.pages_compacted); }},
    {"COMP-RATIO", "compression ratio: DATA/TOTAL", true,
     [](const DeviceInfo& d, bool) { return ratio_text(d.stats); }},
    {"MOUNTPOINT", "where the device is attached, and mounted or used as swap", false,
     [](const DeviceInfo& d, bool) { return d.attached; }},
};

const Column* find_column(std::string_view name) {
  const auto* found =
      std::find_if(std::begin(kColumns), std::end(kColumns), [&](const Column& c) { return c.name == name; });
  return found == std::end(kColumns) ? nullptr : found;
}

using Row = std::vector<std::string>;

// The last column is not padded unless it is aligned to the right.
void append_row(std::string& out, const Row& row, std::span<const Column* const> columns,
                std::span<const std::size_t> widths) {
  for (std::size_t i = 0; i < row.size(); ++i) {
    const std::string padding(widths[i] > row[i].size() ? widths[i] - row[i].size() : 0, ' ');
    const bool last = i + 1 == row.size();
    out += columns[i]->right ? padding + row[i] : row[i] + (last ? "" : padding);
    out += last ? "\n" : " ";
  }
}

}  // namespace

std::vector<std::string> column_names() {
  std::vector<std::string> names;
  for (const Column& c : kColumns) names.emplace_back(c.name);
  return names;
}

std::vector<std::string> default_columns() {
  return {"NAME", "ALGORITHM", "DISKSIZE", "DATA", "COMPR", "TOTAL", "COMP-RATIO", "STREAMS", "MOUNTPOINT"};
}

std::string describe_columns() {
  std::string out;
  for (const Column& c : kColumns) {
    const std::string name = c.name;
    out += std::string(12 - name.size(), ' ') + name + "  " + c.help + "\n";
  }
  return out;
}

Result<std::vector<std::string>> parse_columns(std::string_view list) {
  std::vector<std::string> columns;
  while (true) {
    const auto comma = list.find(',');
    std::string name(trimmed(list.substr(0, comma)));
    std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::toupper(c); });
    if (find_column(name) == nullptr) return fail(EINVAL, "no column '" + name + "'");
    columns.push_back(std::move(name));
    if (comma == std::string_view::npos) return columns;
    list.remove_prefix(comma + 1);
  }
}

std::string format_list(std::span<const DeviceInfo> infos, const ListForm& form) {
  if (infos.empty()) return {};
  std::vector<const Column*> columns;
  for (const std::string& name : form.columns) columns.push_back(find_column(name));
  std::vector<Row> rows;
  if (form.headings) rows.emplace_back(form.columns);
  for (const DeviceInfo& info : infos) {
    Row row;
    for (const Column* c : columns) row.push_back(c->text(info, form.bytes));
    rows.push_back(std::move(row));
  }
  std::vector<std::size_t> widths(columns.size(), 0);
  for (const Row& row : rows) {
    for (std::size_t i = 0; i < row.size() && !form.raw; ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string out;
  for (const Row& row : rows) append_row(out, row, columns, widths);
  return out;
}

}  // namespace uzram
