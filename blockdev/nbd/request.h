#pragma once
// A request of the transmission phase: taken from its bytes, and validated once, completely. Behind `validate` ranges
// are inside the export, lengths are at least 1, and flags are known.
//
// Threads: values and pure functions.

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "blockdev/nbd/wire.h"
#include "blockdev/types.h"

namespace uzram::nbd {

struct Request {
  Command command{};
  std::uint16_t flags = 0;
  std::uint64_t cookie = 0;
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
  std::uint64_t payload = 0;  // bytes that follow it
};

// Takes kRequestBytes, or kExtendedRequestBytes, at `bytes`; false where they do not start with the request magic.
[[nodiscard]] bool decode(const std::byte* bytes, bool extended, Request& request);

// What the export and the negotiation allow.
struct Rules {
  std::uint64_t size = 0;  // bytes of the export
  bool read_only = false;
  bool structured = false;
  bool extended = false;      // extended headers, and structured replies
  bool block_status = false;  // a metadata context was chosen

  [[nodiscard]] std::size_t request_bytes() const { return extended ? kExtendedRequestBytes : kRequestBytes; }
};

// Why a request is refused; `error` is `none` where it is not. `why` is a literal.
struct Refusal {
  WireError error = WireError::none;
  std::string_view why;

  explicit operator bool() const { return error != WireError::none; }
};

[[nodiscard]] Refusal validate(const Request& request, const Rules& rules);

// The one place where the device's errors become the protocol's.
[[nodiscard]] Refusal refusal_of(const IoResult& result);

}  // namespace uzram::nbd
