#include "blockdev/classes_table.h"

#include <array>
#include <cstdio>

namespace uzram {
namespace {

constexpr std::size_t kFirstRatio = 1;  // by_ratio[0] counts empty zspages, which no table shows

template <class... Args>
void append(std::string& out, const char* form, Args... args) {
  std::array<char, 128> line;
  const int n = std::snprintf(line.data(), line.size(), form, args...);
  out.append(line.data(), static_cast<std::size_t>(n));
}

ClassStats sum(std::span<const ClassStats> rows) {
  ClassStats total;
  for (const ClassStats& row : rows) {
    total.almost_full += row.almost_full;
    total.almost_empty += row.almost_empty;
    for (std::size_t i = 0; i < row.by_ratio.size(); ++i) total.by_ratio[i] += row.by_ratio[i];
    total.obj_allocated += row.obj_allocated;
    total.obj_used += row.obj_used;
    total.pages_used += row.pages_used;
  }
  return total;
}

std::string documented(std::span<const ClassStats> rows) {
  std::string out;
  append(out, " %5s %5s %11s %12s %13s %10s %10s %16s\n", "class", "size", "almost_full", "almost_empty",
         "obj_allocated", "obj_used", "pages_used", "pages_per_zspage");
  for (const ClassStats& c : rows) {
    append(out, " %5u %5u %11lu %12lu %13lu %10lu %10lu %16d\n", c.index, unsigned{c.geometry.size}, c.almost_full,
           c.almost_empty, c.obj_allocated, c.obj_used, c.pages_used, int{c.geometry.frames});
  }
  const ClassStats t = sum(rows);
  append(out, "\n %5s %5s %11lu %12lu %13lu %10lu %10lu\n", "Total", "", t.almost_full, t.almost_empty, t.obj_allocated,
         t.obj_used, t.pages_used);
  return out;
}

void append_ratios(std::string& out, const ClassStats& c) {
  for (std::size_t i = kFirstRatio; i < c.by_ratio.size(); ++i) append(out, "%9lu ", c.by_ratio[i]);
}

std::string kernel6(std::span<const ClassStats> rows) {
  std::string out;
  append(out, " %5s %5s ", "class", "size");
  for (const char* ratio : {"10%", "20%", "30%", "40%", "50%", "60%", "70%", "80%", "90%", "99%", "100%"}) {
    append(out, "%9s ", ratio);
  }
  append(out, "%13s %10s %10s %16s %8s\n", "obj_allocated", "obj_used", "pages_used", "pages_per_zspage", "freeable");
  std::uint64_t freeable = 0;
  for (const ClassStats& c : rows) {
    append(out, " %5u %5u ", c.index, unsigned{c.geometry.size});
    append_ratios(out, c);
    append(out, "%13lu %10lu %10lu %16d %8lu\n", c.obj_allocated, c.obj_used, c.pages_used, int{c.geometry.frames},
           c.freeable());
    freeable += c.freeable();
  }
  const ClassStats t = sum(rows);
  append(out, "\n %5s %5s ", "Total", "");
  append_ratios(out, t);
  append(out, "%13lu %10lu %10lu %16s %8lu\n", t.obj_allocated, t.obj_used, t.pages_used, "", freeable);
  return out;
}

}  // namespace

std::vector<ClassStats> class_rows(const ZsPool& pool) {
  std::vector<ClassStats> rows;
  for (unsigned i = 0; i < kClasses; ++i) {
    if (pool.classes().exists(i)) rows.push_back(pool.class_stats(i));
  }
  return rows;
}

std::string format_classes(std::span<const ClassStats> rows, TableForm form) {
  return form == TableForm::documented ? documented(rows) : kernel6(rows);
}

}  // namespace uzram
