#pragma once
// The metadata contexts that BLOCK_STATUS can tell of: base:allocation, and uzram:page, which says how each page is
// stored.
//
// Threads: values and pure functions.

#include <cstdint>
#include <optional>
#include <string_view>

#include "blockdev/nbd/option_reader.h"

namespace uzram::nbd {

// Which of them a client has chosen, or may choose.
struct Contexts {
  bool allocation = false;
  bool pages = false;

  [[nodiscard]] bool any() const { return allocation || pages; }
};

struct ContextName {
  std::string_view space;  // with its colon
  std::string_view name;
  std::uint32_t id;  // this server's
  bool Contexts::*which;
};
inline constexpr ContextName kContextNames[] = {
    {"base:", "base:allocation", 1, &Contexts::allocation},
    {"uzram:", "uzram:page", 2, &Contexts::pages},
};

// What the queries of LIST_META_CONTEXT or, with `set`, SET_META_CONTEXT ask for: to list, a namespace alone stands for
// all of it, and no query at all for everything. Nothing where the queries are damaged.
[[nodiscard]] std::optional<Contexts> read_queries(OptionReader& data, std::uint32_t queries, bool set);

}  // namespace uzram::nbd
