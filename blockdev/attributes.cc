#include "blockdev/attributes.h"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <iterator>

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

std::string show_comp_algorithm(const Device& d) {
  std::string line;
  for (const std::string_view name : algorithm_names()) {
    const bool selected = name == d.options().codec.name();
    line.append(selected ? "[" : "").append(name).append(selected ? "] " : " ");
  }
  return line + "\n";
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

// Without a backing device nothing is ever written back.
std::string show_bd_stat(const Device&) { return format("%8llu %8llu %8llu\n", Ull{0}, Ull{0}, Ull{0}); }

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

// Decimal, as kstrtoul and kstrtou16 read it here; -1 for anything else.
long parse_small(std::string_view text) {
  const std::string_view digits = trimmed(text);
  std::uint16_t value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  return error == std::errc() && end == digits.data() + digits.size() ? value : -1;
}

Result<void> store_mem_used_max(DeviceTable&, Device& d, std::string_view value) {
  if (parse_small(value) != 0) return fail(EINVAL, "only 0 can be written");
  d.reset_mem_used_max();
  return {};
}

Result<void> store_compact(DeviceTable&, Device& d, std::string_view) {
  d.compact();
  return {};
}

Result<void> store_reset(DeviceTable& devices, Device& d, std::string_view value) {
  if (parse_small(value) <= 0) return fail(EINVAL, "a number from 1 to 65535 is written to reset");
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
    {"mem_limit", show_mem_limit, store_mem_limit},
    {"mem_used_max", nullptr, store_mem_used_max},
    {"io_stat", show_io_stat, nullptr},
    {"mm_stat", show_mm_stat, nullptr},
    {"bd_stat", show_bd_stat, nullptr},
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
