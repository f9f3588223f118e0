#include "blockdev/nbd/reader.h"

#include <algorithm>
#include <cstring>

#include "blockdev/nbd/shared_io.h"

namespace uzram::nbd {
namespace {

// Between a chunk's header and its data: the offset.
constexpr std::size_t kOffsetBytes = 8;
static_assert(kExtendedChunkHeaderBytes + kOffsetBytes + ReplyBuffer::kMaxPiece <= ReplyBuffer::kBytes);

}  // namespace

void Reader::read(const Request& request) {
  if (!structured_) return simple(request);
  return (request.flags & kDf) != 0 ? one_chunk(request) : chunks(request);
}

void Reader::simple(const Request& request) {
  if (request.length > ReplyBuffer::kMaxPiece) return simple_streamed(request);
  std::byte* const p = replies_.room(kSimpleReplyBytes + request.length);
  const IoResult result = fetch_(ByteOffset{request.offset}, {p + kSimpleReplyBytes, request.length});
  ReplyBuffer::put_simple(p, request.cookie, refusal_of(result).error);
  replies_.commit(kSimpleReplyBytes + (result ? request.length : 0));
}

void Reader::simple_streamed(const Request& request) {
  replies_.simple(request.cookie, WireError::none);
  const std::uint64_t end = request.offset + request.length;
  for (std::uint64_t offset = request.offset; offset < end;) {
    const std::uint64_t n = piece_at(offset, end - offset, ReplyBuffer::kMaxPiece);
    std::byte* const p = replies_.room(n);
    if (!fetch_(ByteOffset{offset}, {p, n})) {
      // The piece is not sent, so that no client takes the reply for whole.
      broken_ = true;
      return;
    }
    replies_.commit(n);
    offset += n;
  }
}

void Reader::chunks(const Request& request) {
  const std::uint64_t end = request.offset + request.length;
  for (std::uint64_t offset = request.offset; offset < end;) {
    const std::uint64_t limit = std::min<std::uint64_t>(end - offset, ReplyBuffer::kMaxPiece);
    const Extent extent = device_.extent_at(ByteOffset{offset}, limit);
    const std::uint16_t flags = offset + extent.length == end ? kChunkDone : 0;
    if (extent.kind != ExtentKind::data) {
      replies_.hole_chunk(flags, request, offset, extent.length);
    } else if (!data_chunk(flags, request, offset, extent.length)) {
      return;
    }
    offset += extent.length;
  }
}

// One chunk of at most ReplyBuffer::kMaxPiece bytes; or, and then false, the error that ends the reply.
bool Reader::data_chunk(std::uint16_t flags, const Request& request, std::uint64_t offset, std::uint64_t length) {
  const std::size_t before = replies_.header_bytes() + kOffsetBytes;
  std::byte* p = replies_.room(before + length);
  const IoResult result = fetch_(ByteOffset{offset}, {p + before, length});
  if (!result) {
    replies_.error_chunk(request, refusal_of(result), offset);
    return false;
  }
  p = replies_.put_chunk(p, flags, Chunk::offset_data, request, kOffsetBytes + length);
  store_be(p, offset);
  replies_.commit(before + length);
  return true;
}

// DF: whatever the range holds, in one chunk.
void Reader::one_chunk(const Request& request) {
  const Extent extent = device_.extent_at(ByteOffset{request.offset}, request.length);
  if (extent.kind != ExtentKind::data && extent.length == request.length) {
    replies_.hole_chunk(kChunkDone, request, request.offset, request.length);
  } else if (request.length <= ReplyBuffer::kMaxPiece) {
    (void)data_chunk(kChunkDone, request, request.offset, request.length);
  } else {
    one_chunk_streamed(request);
  }
}

// The chunk has promised its length: what fails is sent as zeroes, and the error behind it.
void Reader::one_chunk_streamed(const Request& request) {
  replies_.chunk(0, Chunk::offset_data, request, kOffsetBytes + request.length);
  store_be(replies_.room(kOffsetBytes), request.offset);
  replies_.commit(kOffsetBytes);
  const std::uint64_t end = request.offset + request.length;
  Refusal refusal;
  std::uint64_t failed_at = 0;
  for (std::uint64_t offset = request.offset; offset < end;) {
    const std::uint64_t n = piece_at(offset, end - offset, ReplyBuffer::kMaxPiece);
    std::byte* const p = replies_.room(n);
    if (!refusal) {
      refusal = refusal_of(fetch_(ByteOffset{offset}, {p, n}));
      failed_at = offset;
    }
    if (refusal) std::memset(p, 0, n);
    replies_.commit(n);
    offset += n;
  }
  if (refusal) return replies_.error_chunk(request, refusal, failed_at);
  replies_.chunk(kChunkDone, Chunk::none, request, 0);
}

}  // namespace uzram::nbd
