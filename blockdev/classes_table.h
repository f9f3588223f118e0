#pragma once
// The classes table of a pool, as zsmalloc prints it to debugfs, to the letter: in the documented columns, or in those
// of kernel 6 (mm/zsmalloc.c, zs_stats_size_show).
//
// Threads: the functions hold each lane's lock in turn, so what a row says of one lane agrees; the table is no
// snapshot.

#include <span>
#include <string>
#include <vector>

#include "allocator/zs_pool.h"

namespace uzram {

enum class TableForm : std::uint8_t { documented, kernel6 };

// The statistics of every class that has a row, from the smallest up.
[[nodiscard]] std::vector<ClassStats> class_rows(const ZsPool& pool);

[[nodiscard]] std::string format_classes(std::span<const ClassStats> rows, TableForm form);

}  // namespace uzram
