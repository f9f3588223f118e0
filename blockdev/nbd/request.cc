#include "blockdev/nbd/request.h"

#include <array>

namespace uzram::nbd {
namespace {

struct CommandRule {
  std::uint16_t flags;   // FUA besides: it is valid with every command
  WireError past_end;    // `none`: the command has no range, and offset and length are zero
  bool changes = false;  // refused on a read-only export
  bool bounded = false;  // at most kMaxRequestBytes
};

// By command number. DISC is not among what can be answered; the session ends before it validates one.
constexpr std::array<CommandRule, 8> kRules = {{
    {.flags = kDf, .past_end = WireError::einval, .bounded = true},                  // READ
    {.flags = 0, .past_end = WireError::enospc, .changes = true, .bounded = true},   // WRITE
    {.flags = 0, .past_end = WireError::none},                                       // DISC
    {.flags = 0, .past_end = WireError::none},                                       // FLUSH
    {.flags = 0, .past_end = WireError::einval, .changes = true},                    // TRIM
    {.flags = 0, .past_end = WireError::einval},                                     // CACHE
    {.flags = kNoHole | kFastZero, .past_end = WireError::enospc, .changes = true},  // WRITE_ZEROES
    {.flags = kReqOne, .past_end = WireError::einval},                               // BLOCK_STATUS
}};

}  // namespace

bool decode(const std::byte* bytes, bool extended, Request& request) {
  request.flags = load_be<std::uint16_t>(bytes + 4);
  request.command = Command{load_be<std::uint16_t>(bytes + 6)};
  request.cookie = load_be<std::uint64_t>(bytes + 8);
  request.offset = load_be<std::uint64_t>(bytes + 16);
  if (extended) {
    request.length = load_be<std::uint64_t>(bytes + 24);
    request.payload = (request.flags & kPayloadLength) != 0 ? request.length : 0;
    return load_be<std::uint32_t>(bytes) == kExtendedRequestMagic;
  }
  request.length = load_be<std::uint32_t>(bytes + 24);
  request.payload = request.command == Command::write ? request.length : 0;
  return load_be<std::uint32_t>(bytes) == kRequestMagic;
}

Refusal validate(const Request& request, const Rules& rules) {
  const auto number = static_cast<std::size_t>(request.command);
  if (number >= kRules.size()) return {WireError::einval, "unknown command"};
  const CommandRule& rule = kRules[number];
  if ((request.flags & ~(rule.flags | kFua | kPayloadLength)) != 0)
    return {WireError::einval, "a flag that this command does not have"};
  const bool wants_payload = rules.extended && request.command == Command::write;
  if (wants_payload != ((request.flags & kPayloadLength) != 0)) {
    return {WireError::einval, "a payload belongs to a write, and its flag to extended headers"};
  }
  if ((request.flags & kDf) != 0 && !rules.structured) return {WireError::einval, "DF needs structured replies"};
  if (request.command == Command::block_status && !rules.block_status) {
    return {WireError::einval, "no metadata context was chosen"};
  }
  if (rule.changes && rules.read_only) return {WireError::eperm, "the export is read-only"};
  if (rule.past_end == WireError::none) {
    if (request.offset != 0 || request.length != 0) return {WireError::einval, "offset and length must be zero"};
    return {};
  }
  if (request.length == 0) return {WireError::einval, "the length is zero"};
  if (rule.bounded && request.length > kMaxRequestBytes) return {WireError::einval, "longer than 64 MiB"};
  // In this order the subtraction cannot wrap.
  if (request.offset > rules.size || request.length > rules.size - request.offset) {
    return {rule.past_end, "reaches past the end of the export"};
  }
  return {};
}

Refusal refusal_of(const IoResult& result) {
  if (result) return {};
  switch (result.error()) {
    case IoError::no_space:
      return {WireError::enospc, "no memory is left for it"};
    case IoError::io:
      break;
  }
  return {WireError::eio, "what is stored there is damaged"};
}

}  // namespace uzram::nbd
