#pragma once
// The attributes of a device under the names, formats and errors of the kernel's zram (Documentation/admin-guide/
// blockdev/zram.rst): what `cat` and `echo` of /sys/block/zramN/ATTR give. An attribute is here only once its
// function is.
//
// Threads: everything may be called from any thread; nothing waits for reads and writes of the device.

#include <string>
#include <string_view>

#include "blockdev/device.h"
#include "blockdev/device_table.h"

namespace uzram {

// The bytes that reading the attribute gives, its newline included. ENOENT for an unknown one, EACCES for one that
// can only be written. mem_limit can be read here, though not in the kernel.
[[nodiscard]] Result<std::string> show_attribute(const Device& device, std::string_view attribute);

// Writes the attribute; white space around the value is ignored. ENODEV for an unknown device, ENOENT for an unknown
// attribute, EACCES for one that can only be read, EINVAL for a wrong value, EBUSY for what has to be set before a
// device exists (disksize, comp_algorithm) and for a reset while a client has it open.
[[nodiscard]] Result<void> set_attribute(DeviceTable& devices, std::string_view device, std::string_view attribute,
                                         std::string_view value);

}  // namespace uzram
