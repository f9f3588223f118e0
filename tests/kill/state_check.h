#pragma once
// What a state that a dead daemon left holds, found in a copy of it by counting everything anew.
//
// Threads: one.

#include <map>
#include <string>

#include "blockdev/device.h"

namespace uzram::kill {

// The devices' statistics, by name. Throws where the state is refused or a page of it is damaged, and where memory is
// in use that belongs to nobody; aborts where slots, objects and counts disagree.
[[nodiscard]] std::map<std::string, DeviceStats> count_state(const std::string& path);

}  // namespace uzram::kill
