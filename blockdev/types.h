#pragma once
// The units and errors of the block device layer.

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <tl/expected.hpp>

#include "allocator/types.h"

namespace uzram {

// A page is the unit of compression; it fits a frame exactly.
inline constexpr std::size_t kPageSize = kFrameSize;

// The largest device: 2^32 pages, 16 TiB.
inline constexpr std::uint64_t kMaxDeviceBytes = std::uint64_t{1} << 44;

// Rounded up.
constexpr std::uint64_t to_pages(std::uint64_t bytes) { return bytes / kPageSize + (bytes % kPageSize != 0 ? 1 : 0); }

// A page's number on its device.
enum class PageIndex : std::uint64_t {};

// A byte's offset on its device.
enum class ByteOffset : std::uint64_t {};

// The page that a byte is in.
constexpr PageIndex page_of(ByteOffset offset) { return PageIndex{raw(offset) / kPageSize}; }

// Why an operation on a device's bytes failed. The session turns it into NBD's code; the device has counted
// it.
enum class IoError : std::uint8_t {
  io,        // what is stored is damaged: EIO
  no_space,  // the memory limit, the reserve or the machine's memory is used up: ENOSPC
};
using IoResult = tl::expected<void, IoError>;

// Why an operation on devices (create, remove, set, ...) failed: an errno value as the kernel's zram would
// give, and one line that names what and why.
struct Error {
  int code = EINVAL;
  std::string message;
};
template <class T>
using Result = tl::expected<T, Error>;

inline tl::unexpected<Error> fail(int code, std::string message) {
  return tl::unexpected<Error>(Error{code, std::move(message)});
}

// A call of the system for `what` has failed with the errno value `code`.
inline tl::unexpected<Error> fail_errno(const std::string& what, int code = errno) {
  return fail(code, what + ": " + std::strerror(code));
}

}  // namespace uzram
