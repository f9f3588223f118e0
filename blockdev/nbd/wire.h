#pragma once
// The NBD protocol's numbers and big-endian bytes, as the protocol document spells them; no behaviour.
//
// Threads: values and pure functions.

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

namespace uzram::nbd {

// Handshake.
inline constexpr std::uint64_t kInitMagic = 0x4e42444d41474943;    // "NBDMAGIC"
inline constexpr std::uint64_t kOptionMagic = 0x49484156454f5054;  // "IHAVEOPT"
inline constexpr std::uint64_t kOptionReplyMagic = 0x0003e889045565a9;

inline constexpr std::uint16_t kFlagFixedNewstyle = 1 << 0;
inline constexpr std::uint16_t kFlagNoZeroes = 1 << 1;

inline constexpr std::size_t kOptionHeaderBytes = 16;       // magic 8, option 4, length 4
inline constexpr std::size_t kOptionReplyHeaderBytes = 20;  // magic 8, option 4, reply type 4, length 4
inline constexpr std::size_t kExportNamePadding = 124;
inline constexpr std::size_t kMaxStringBytes = 4096;

enum class Option : std::uint32_t {
  export_name = 1,
  abort = 2,
  list = 3,
  starttls = 5,
  info = 6,
  go = 7,
  structured_reply = 8,
  list_meta_context = 9,
  set_meta_context = 10,
  extended_headers = 11,
};

enum class OptionReply : std::uint32_t {
  ack = 1,
  server = 2,
  info = 3,
  meta_context = 4,
  err_unsup = 0x80000001,
  err_policy = 0x80000002,
  err_invalid = 0x80000003,
  err_tls_reqd = 0x80000005,
  err_unknown = 0x80000006,
  err_shutdown = 0x80000007,
  err_ext_header_reqd = 0x8000000a,
};

enum class Info : std::uint16_t { exported = 0, name = 1, block_size = 3 };

// Transmission flags of an export.
inline constexpr std::uint16_t kHasFlags = 1 << 0;
inline constexpr std::uint16_t kReadOnly = 1 << 1;
inline constexpr std::uint16_t kSendFlush = 1 << 2;
inline constexpr std::uint16_t kSendFua = 1 << 3;
inline constexpr std::uint16_t kSendTrim = 1 << 5;
inline constexpr std::uint16_t kSendWriteZeroes = 1 << 6;
inline constexpr std::uint16_t kSendDf = 1 << 7;
inline constexpr std::uint16_t kCanMultiConn = 1 << 8;
inline constexpr std::uint16_t kSendCache = 1 << 10;
inline constexpr std::uint16_t kSendFastZero = 1 << 11;

// Transmission.
inline constexpr std::uint32_t kRequestMagic = 0x25609513;
inline constexpr std::uint32_t kSimpleReplyMagic = 0x67446698;
inline constexpr std::uint32_t kChunkMagic = 0x668e33ef;
inline constexpr std::uint32_t kExtendedRequestMagic = 0x21e41c71;
inline constexpr std::uint32_t kExtendedChunkMagic = 0x6e8a278c;

inline constexpr std::size_t kRequestBytes = 28;      // magic 4, flags 2, type 2, cookie 8, offset 8, length 4
inline constexpr std::size_t kSimpleReplyBytes = 16;  // magic 4, error 4, cookie 8
inline constexpr std::size_t kChunkHeaderBytes = 20;  // magic 4, flags 2, type 2, cookie 8, length 4
// With extended headers an offset precedes the length, which has 8 bytes; a reply's is that of its request.
inline constexpr std::size_t kExtendedRequestBytes = 32;
inline constexpr std::size_t kExtendedChunkHeaderBytes = 32;

enum class Command : std::uint16_t {
  read = 0,
  write = 1,
  disconnect = 2,
  flush = 3,
  trim = 4,
  cache = 5,
  write_zeroes = 6,
  block_status = 7,
};

inline constexpr std::uint16_t kFua = 1 << 0;
inline constexpr std::uint16_t kNoHole = 1 << 1;
inline constexpr std::uint16_t kDf = 1 << 2;
inline constexpr std::uint16_t kReqOne = 1 << 3;
inline constexpr std::uint16_t kFastZero = 1 << 4;
inline constexpr std::uint16_t kPayloadLength = 1 << 5;  // the length is that of the payload, which follows

inline constexpr std::uint16_t kChunkDone = 1 << 0;

enum class Chunk : std::uint16_t {
  none = 0,
  offset_data = 1,
  offset_hole = 2,
  block_status = 5,
  block_status_ext = 6,
  error = 0x8001,
  error_offset = 0x8002,
};

// Of base:allocation.
inline constexpr std::uint32_t kStateHole = 1 << 0;
inline constexpr std::uint32_t kStateZero = 1 << 1;

// Of uzram:page: how a page is stored. Exactly one is set.
inline constexpr std::uint32_t kPageHole = 1 << 0;        // not at all: it reads as zeroes
inline constexpr std::uint32_t kPageSameFilled = 1 << 1;  // as the one word that it repeats
inline constexpr std::uint32_t kPageCompressed = 1 << 2;
inline constexpr std::uint32_t kPageHuge = 1 << 3;         // as it is, because it does not compress
inline constexpr std::uint32_t kPageDamaged = 1 << 4;      // reads of it fail
inline constexpr std::uint32_t kPageWrittenBack = 1 << 5;  // in the backing file

// The errors that a reply can hold.
enum class WireError : std::uint32_t {
  none = 0,
  eperm = 1,
  eio = 5,
  einval = 22,
  enospc = 28,
};

// What uzram promises in block size information: any byte range, pages preferred, and the largest request.
inline constexpr std::uint32_t kMinBlockBytes = 1;
inline constexpr std::uint32_t kPreferredBlockBytes = 4096;
inline constexpr std::uint32_t kMaxRequestBytes = 64 << 20;

template <class T>
constexpr T swap_bytes(T value) {
  static_assert(std::endian::native == std::endian::little && std::is_unsigned_v<T>);
  if constexpr (sizeof(T) == 2) return __builtin_bswap16(value);
  if constexpr (sizeof(T) == 4) return __builtin_bswap32(value);
  if constexpr (sizeof(T) == 8) return __builtin_bswap64(value);
}

// Reads a big-endian T at `p`, which may be unaligned.
template <class T>
T load_be(const std::byte* p) {
  T value;
  std::memcpy(&value, p, sizeof value);
  return swap_bytes(value);
}

// Writes `value` big-endian at `p` and returns the byte behind it.
template <class T>
std::byte* store_be(std::byte* p, T value) {
  if constexpr (std::is_enum_v<T>) {
    return store_be(p, static_cast<std::underlying_type_t<T>>(value));
  } else {
    value = swap_bytes(value);
    std::memcpy(p, &value, sizeof value);
    return p + sizeof value;
  }
}

}  // namespace uzram::nbd
