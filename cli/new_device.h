#pragma once
// A device that is to be made, as the control endpoint's clients describe it in JSON. Both ends use it, so that the
// names of the fields stand in one place.

#include <string>
#include <string_view>

#include "blockdev/device_types.h"
#include "blockdev/types.h"

namespace uzram {

// {"name": ..., "size": ..., "algorithm": ..., "mem_limit": ..., "chain": ..., "check": ...}
[[nodiscard]] std::string to_json(const DeviceOptions& options);

// A new device as POST /v1/devices describes it: name and size are needed, sizes are bytes or text that parse_size
// reads, and an unknown field is an error.
[[nodiscard]] Result<DeviceOptions> device_options_from_json(std::string_view text);

}  // namespace uzram
