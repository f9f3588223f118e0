#include "blockdev/nbd/reply_buffer.h"

#include <cstring>

#include "allocator/ensure.h"

namespace uzram::nbd {

std::byte* ReplyBuffer::room(std::size_t n) {
  if (!fits(n)) flush();
  return bytes_.data() + used_;
}

bool ReplyBuffer::flush() {
  if (used_ != sent_) (void)connection_.send_all(bytes_.subspan(sent_, used_ - sent_));
  sent_ = used_ = 0;
  return good();
}

bool ReplyBuffer::flush_ready() {
  sent_ += connection_.send_ready(bytes_.subspan(sent_, used_ - sent_));
  if (sent_ == used_) sent_ = used_ = 0;
  return sent_ == 0;
}

std::byte* ReplyBuffer::put_simple(std::byte* p, std::uint64_t cookie, WireError error) {
  return store_be(store_be(store_be(p, kSimpleReplyMagic), error), cookie);
}

std::byte* ReplyBuffer::put_chunk(std::byte* p, std::uint16_t flags, Chunk type, const Request& request,
                                  std::uint64_t length) const {
  p = store_be(store_be(store_be(p, extended_ ? kExtendedChunkMagic : kChunkMagic), flags), type);
  p = store_be(p, request.cookie);
  return extended_ ? store_be(store_be(p, request.offset), length) : store_be(p, static_cast<std::uint32_t>(length));
}

void ReplyBuffer::simple(std::uint64_t cookie, WireError error) {
  put_simple(room(kSimpleReplyBytes), cookie, error);
  commit(kSimpleReplyBytes);
}

void ReplyBuffer::chunk(std::uint16_t flags, Chunk type, const Request& request, std::uint64_t length) {
  put_chunk(room(header_bytes()), flags, type, request, length);
  commit(header_bytes());
}

void ReplyBuffer::hole_chunk(std::uint16_t flags, const Request& request, std::uint64_t offset, std::uint64_t length) {
  chunk(flags, Chunk::offset_hole, request, 12);
  store_be(store_be(room(12), offset), static_cast<std::uint32_t>(length));
  commit(12);
}

void ReplyBuffer::error_chunk(const Request& request, const Refusal& refusal) {
  const std::size_t length = 6 + refusal.why.size();
  chunk(kChunkDone, Chunk::error, request, length);
  std::byte* p = room(length);
  p = store_be(store_be(p, refusal.error), static_cast<std::uint16_t>(refusal.why.size()));
  std::memcpy(p, refusal.why.data(), refusal.why.size());
  commit(length);
}

void ReplyBuffer::error_chunk(const Request& request, const Refusal& refusal, std::uint64_t offset) {
  const std::size_t length = 14 + refusal.why.size();
  ensure(length <= kMaxError, "an error's text is short");
  chunk(kChunkDone, Chunk::error_offset, request, length);
  std::byte* p = room(length);
  p = store_be(store_be(p, refusal.error), static_cast<std::uint16_t>(refusal.why.size()));
  std::memcpy(p, refusal.why.data(), refusal.why.size());
  store_be(p + refusal.why.size(), offset);
  commit(length);
}

}  // namespace uzram::nbd
