#pragma once
// Replies on their way to the client: gathered in one buffer, sent when it is full or flushed. Data is produced in
// place, behind `room`. Once the client is gone nothing is sent any more, and everything else goes on as before.
//
// Threads: one at a time; and one at a time sends, of all that share a connection.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "blockdev/nbd/connection.h"
#include "blockdev/nbd/request.h"
#include "blockdev/nbd/wire.h"

namespace uzram::nbd {

class ReplyBuffer {
 public:
  // The most data that `room` gives at once, besides headers.
  static constexpr std::size_t kMaxPiece = 1 << 20;
  static constexpr std::size_t kBytes = kMaxPiece + (16 << 10);

  // Besides its header, of an error chunk.
  static constexpr std::size_t kMaxError = 80;

  // In `bytes`, which outlive it: kBytes, or fewer where less is asked for. `extended`: with extended headers.
  ReplyBuffer(Connection& connection, bool extended, std::span<std::byte> bytes)
      : connection_(connection), extended_(extended), bytes_(bytes) {}

  // One in the n-th of so many parts of these bytes, for a time when nothing is gathered here.
  [[nodiscard]] ReplyBuffer part(std::size_t n, std::size_t parts) const {
    const std::size_t size = bytes_.size() / parts;
    return {connection_, extended_, bytes_.subspan(n * size, size)};
  }

  [[nodiscard]] bool extended() const { return extended_; }
  // Of a chunk.
  [[nodiscard]] std::size_t header_bytes() const { return extended_ ? kExtendedChunkHeaderBytes : kChunkHeaderBytes; }

  // Whether `room` has `n` bytes without sending.
  [[nodiscard]] bool fits(std::size_t n) const { return used_ + n <= bytes_.size(); }
  // `n` bytes (at most as many as there are) behind what is gathered; sends that first where they would not fit.
  [[nodiscard]] std::byte* room(std::size_t n);
  // Takes `n` bytes that were written into `room`.
  void commit(std::size_t n) { used_ += n; }

  void simple(std::uint64_t cookie, WireError error);
  // The header of a chunk with `length` bytes, which follow.
  void chunk(std::uint16_t flags, Chunk type, const Request& request, std::uint64_t length);
  void hole_chunk(std::uint16_t flags, const Request& request, std::uint64_t offset, std::uint64_t length);
  // The last chunk of a reply that fails as a whole, or at `offset`.
  void error_chunk(const Request& request, const Refusal& refusal);
  void error_chunk(const Request& request, const Refusal& refusal, std::uint64_t offset);

  // Sends what is gathered. False once anything sent, by whatever buffer of the connection, did not reach the socket.
  bool flush();
  // As much of it as goes without waiting. False where it was torn: nothing else may be sent before the rest.
  [[nodiscard]] bool flush_ready();

  // Whether everything sent so far did reach it.
  [[nodiscard]] bool good() const { return connection_.can_send(); }

  // The same header, at `p`; returns the byte behind it.
  static std::byte* put_simple(std::byte* p, std::uint64_t cookie, WireError error);
  std::byte* put_chunk(std::byte* p, std::uint16_t flags, Chunk type, const Request& request,
                       std::uint64_t length) const;

 private:
  Connection& connection_;
  const bool extended_;
  const std::span<std::byte> bytes_;
  std::size_t sent_ = 0;  // of those that are used
  std::size_t used_ = 0;
};

}  // namespace uzram::nbd
