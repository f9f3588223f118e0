#pragma once
// Looks at memory after every instruction that stores into it: the range is read-only meanwhile, a store faults, is let
// through alone, and is followed by a trap. For x86-64.
//
// Threads: one.

#include <cstddef>
#include <functional>
#include <span>

namespace uzram::testing {

// Runs `act`, and calls `after_store` after each of its instructions that stores into the range, between that one and
// the next. `after_store` may do what `act` may do while it writes there; it must not store into the range.
void at_each_store(std::span<std::byte> range, const std::function<void()>& act,
                   const std::function<void()>& after_store);

}  // namespace uzram::testing
