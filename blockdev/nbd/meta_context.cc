#include "blockdev/nbd/meta_context.h"

namespace uzram::nbd {

std::optional<Contexts> read_queries(OptionReader& data, std::uint32_t queries, bool set) {
  Contexts wanted;
  const bool all = queries == 0 && !set;
  for (const ContextName& context : kContextNames) wanted.*context.which = all;
  for (std::uint32_t i = 0; i < queries; ++i) {
    const auto query = data.take_string();
    if (!query) return std::nullopt;
    for (const ContextName& context : kContextNames) {
      wanted.*context.which |= *query == context.name || (!set && *query == context.space);
    }
  }
  if (!data.empty()) return std::nullopt;
  return wanted;
}

}  // namespace uzram::nbd
