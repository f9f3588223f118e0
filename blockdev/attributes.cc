#include "blockdev/attributes.h"

#include <algorithm>
#include <cstdio>
#include <iterator>

#include "blockdev/backing_file.h"
#include "blockdev/pass_words.h"
#include "blockdev/size.h"

namespace uzram {
namespace {

using Ull = unsigned long long;

template <class... Args>
std::string format(const char* form, Args... args) {
  char line[256];
  const int n = std::snprintf(line, sizeof line, form, args...);
  return {line, static_cast<std::size_t>(n)};
}

std::string show_disksize(const Device& d) { return std::to_string(d.size()) + "\n"; }

std::string show_initstate(const Device&) { return "1\n"; }

// All of them, with brackets around the one that is used.
std::string algorithms_line(const CodecSpec& codec) {
  std::string line;
  for (const std::string_view name : algorithm_names()) {
    const bool selected = name == codec.name();
    line.append(selected ? "[" : "").append(name).append(selected ? "] " : " ");
  }
  return line + "\n";
}

std::string show_comp_algorithm(const Device& d) { return algorithms_line(d.options().codec); }

std::string show_recomp_algorithm(const Device& d) {
  std::string lines;
  for (unsigned priority = 1; priority < CodecTable::kPriorities; ++priority) {
    const auto codec = d.codecs().at(priority);
    if (codec) lines += "#" + std::to_string(priority) + ": " + algorithms_line(*codec);
  }
  return lines;
}

std::string show_mem_limit(const Device& d) { return std::to_string(d.stats().mem_limit) + "\n"; }

std::string show_io_stat(const Device& d) {
  const DeviceStats s = d.stats();
  return format("%8llu %8llu 0 %8llu\n", Ull{s.failed_reads}, Ull{s.failed_writes}, Ull{s.notify_free});
}

std::string show_mm_stat(const Device& d) {
  const DeviceStats s = d.stats();
  return format("%8llu %8llu %8llu %8llu %8llu %8llu %8llu %8llu %8llu\n", Ull{s.orig_data_size},
                Ull{s.compr_data_size}, Ull{s.mem_used_total}, Ull{s.mem_limit}, Ull{s.mem_used_max}, Ull{s.same_pages},
                Ull{s.pages_compacted}, Ull{s.huge_pages}, Ull{s.huge_pages_since});
}

std::string show_bd_stat(const Device& d) {
  const DeviceStats s = d.stats();
  return format("%8llu %8llu %8llu\n", Ull{s.bd_count}, Ull{s.bd_reads}, Ull{s.bd_writes});
}

std::string show_backing_dev(const Device& d) {
  const BackingFile* const backing = d.options().backing;
  return (backing == nullptr ? "none" : backing->path()) + "\n";
}

std::string show_writeback_limit(const Device& d) { return std::to_string(d.writeback_limit().pages.load()) + "\n"; }

std::string show_writeback_limit_enable(const Device& d) { return d.writeback_limit().enabled.load() ? "1\n" : "0\n"; }

// The one value, miss_free, counts slots whose lock the kernel could not take; here discard waits for it.
std::string show_debug_stat(const Device&) { return format("version: 1\n0 %8llu\n", Ull{0}); }

Result<void> store_disksize(DeviceTable&, Device&, std::string_view value) {
  if (const auto size = parse_device_size(value); !size) return tl::unexpected(size.error());
  return fail(EBUSY, "the size of a device is set once, when it is created");
}

Result<void> store_comp_algorithm(DeviceTable&, Device&, std::string_view value) {
  if (const auto codec = CodecSpec::parse(trimmed(value)); !codec) return fail(EINVAL, codec.error());
  return fail(EBUSY, "the algorithm of a device is set once, when it is created");
}

Result<void> store_mem_limit(DeviceTable&, Device& d, std::string_view value) {
  const auto bytes = parse_size(value);
  if (!bytes) return tl::unexpected(bytes.error());
  d.set_mem_limit(*bytes);
  return {};
}

Result<void> store_mem_used_max(DeviceTable&, Device& d, std::string_view value) {
  if (parse_number<std::uint16_t>(value) != 0) return fail(EINVAL, "only 0 can be written");
  d.reset_mem_used_max();
  return {};
}

Result<void> store_compact(DeviceTable&, Device& d, std::string_view) {
  d.compact();
  return {};
}

Result<void> store_backing_dev(DeviceTable&, Device&, std::string_view) {
  return fail(EBUSY, "the backing file is the daemon's, and set when it starts");
}

Result<void> store_idle(DeviceTable&, Device& d, std::string_view value) {
  if (trimmed(value) != "all") return fail(EINVAL, "only 'all' can be written: ages are not kept");
  d.mark_idle();
  return {};
}

Result<void> store_writeback(DeviceTable&, Device& d, std::string_view value) {
  return parse_writeback(value).and_then([&](const WritebackRequest& request) { return d.write_back(request); });
}

Result<void> store_recomp_algorithm(DeviceTable&, Device& d, std::string_view value) {
  return parse_recomp_algorithm(value).and_then(
      [&](const RecompressionAlgorithm& a) { return d.set_recompression(a.priority, a.codec); });
}

Result<void> store_recompress(DeviceTable&, Device& d, std::string_view value) {
  return parse_recompress(value, d.codecs()).and_then([&](const RecompressRequest& request) {
    return d.recompress(request);
  });
}

Result<void> store_writeback_limit(DeviceTable&, Device& d, std::string_view value) {
  const auto pages = parse_number<std::uint64_t>(value);
  if (!pages) return fail(EINVAL, "a number of pages of 4 KiB is written");
  d.writeback_limit().pages.store(*pages);
  return {};
}

Result<void> store_writeback_limit_enable(DeviceTable&, Device& d, std::string_view value) {
  const auto enable = parse_number<std::uint16_t>(value);
  if (enable != 0 && enable != 1) return fail(EINVAL, "0 or 1 is written");
  d.writeback_limit().enabled.store(enable == 1);
  return {};
}

Result<void> store_reset(DeviceTable& devices, Device& d, std::string_view value) {
  if (parse_number<std::uint16_t>(value).value_or(0) == 0)
    return fail(EINVAL, "a number from 1 to 65535 is written to reset");
  return devices.reset(d.options().name);
}

struct Attribute {
  std::string_view name;
  std::string (*show)(const Device&);                                    // null: write only
  Result<void> (*store)(DeviceTable&, Device&, std::string_view value);  // null: read only
};

constexpr Attribute kAttributes[] = {
    {"disksize", show_disksize, store_disksize},
    {"initstate", show_initstate, nullptr},
    {"reset", nullptr, store_reset},
    {"compact", nullptr, store_compact},
    {"comp_algorithm", show_comp_algorithm, store_comp_algorithm},
    {"recomp_algorithm", show_recomp_algorithm, store_recomp_algorithm},
    {"recompress", nullptr, store_recompress},
    {"mem_limit", show_mem_limit, store_mem_limit},
    {"mem_used_max", nullptr, store_mem_used_max},
    {"io_stat", show_io_stat, nullptr},
    {"mm_stat", show_mm_stat, nullptr},
    {"bd_stat", show_bd_stat, nullptr},
    {"backing_dev", show_backing_dev, store_backing_dev},
    {"idle", nullptr, store_idle},
    {"writeback", nullptr, store_writeback},
    {"writeback_limit", show_writeback_limit, store_writeback_limit},
    {"writeback_limit_enable", show_writeback_limit_enable, store_writeback_limit_enable},
    {"debug_stat", show_debug_stat, nullptr},
};

const Attribute* find_attribute(std::string_view name) {
  const auto* found =
      std::find_if(std::begin(kAttributes), std::end(kAttributes), [&](const Attribute& a) { return a.name == name; });
  return found == std::end(kAttributes) ? nullptr : found;
}

tl::unexpected<Error> no_attribute(std::string_view device, std::string_view attribute) {
  return fail(ENOENT, std::string(device) + ": no attribute '" + std::string(attribute) + "'");
}

}  // namespace

Result<std::string> show_attribute(const Device& device, std::string_view attribute) {
  const std::string& name = device.options().name;
  const Attribute* found = find_attribute(attribute);
  if (found == nullptr) return no_attribute(name, attribute);
  if (found->show == nullptr) return fail(EACCES, name + ": " + std::string(attribute) + " can only be written");
  return found->show(device);
}

Result<void> set_attribute(DeviceTable& devices, std::string_view device, std::string_view attribute,
                           std::string_view value) {
  const auto target = devices.find(device);
  if (!target) return tl::unexpected(target.error());
  const Attribute* found = find_attribute(attribute);
  if (found == nullptr) return no_attribute(device, attribute);
  const std::string where = std::string(device) + ": " + std::string(attribute);
  if (found->store == nullptr) return fail(EACCES, where + " can only be read");
  return found->store(devices, **target, value).map_error([&](const Error& e) {
    return Error{e.code, where + ": " + e.message};
  });
}

}  // namespace uzram
