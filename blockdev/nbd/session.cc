#include "blockdev/nbd/session.h"

#include <algorithm>
#include <cstring>

namespace uzram::nbd {
namespace {

constexpr std::size_t kDataChunkBytes = kChunkHeaderBytes + 8;    // before the data: the header and the offset
constexpr std::size_t kStatusChunkBytes = kChunkHeaderBytes + 4;  // before the extents: the header and the context
constexpr std::size_t kExtentBytes = 8;
constexpr std::size_t kMaxExtents = 64 << 10;
static_assert(kStatusChunkBytes + kMaxExtents * kExtentBytes <= ReplyBuffer::kBytes);
static_assert(kDataChunkBytes + ReplyBuffer::kMaxPiece <= ReplyBuffer::kBytes);

// The one place where the device's errors become the protocol's.
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

std::uint32_t state_of(ExtentKind kind) {
  switch (kind) {
    case ExtentKind::hole:
      return kStateHole | kStateZero;
    case ExtentKind::zero:
      return kStateZero;
    case ExtentKind::data:
      break;
  }
  return 0;
}

}  // namespace

Session::Session(Connection& connection, const Agreement& agreement, Crew& crew)
    : device_(*agreement.device),
      io_(device_, crew),
      rules_{.size = device_.size(),
             .read_only = agreement.read_only,
             .structured = agreement.structured,
             .block_status = agreement.block_status},
      window_(connection),
      replies_(connection) {}

void Session::run() {
  while (execute_batch() == Next::receive) {
    replies_.flush();
    if (!window_.receive(needed_, !window_.bytes().empty())) break;
  }
  replies_.flush();
}

Session::Next Session::execute_batch() {
  const Next next = take_requests();
  execute_writes();
  return next;
}

Session::Next Session::take_requests() {
  while (replies_.good() && !broken_) {
    const auto bytes = window_.bytes();
    needed_ = kRequestBytes;
    if (bytes.size() < needed_) return Next::receive;
    Request request;
    if (!decode(bytes.data(), request) || request.command == Command::disconnect) return Next::close;
    const std::size_t payload = request.command == Command::write ? request.length : 0;
    if (payload > ReceiveWindow::kBytes - kRequestBytes) {
      if (stream_write(request) == Next::close) return Next::close;
      continue;
    }
    needed_ += payload;
    if (bytes.size() < needed_) return Next::receive;
    execute(request, bytes.subspan(kRequestBytes, payload));
    window_.consume(needed_);
  }
  return Next::close;
}

void Session::execute(const Request& request, std::span<const std::byte> payload) {
  const Refusal refusal = validate(request, rules_);
  if (refusal || request.command != Command::write || !io_.room_for(request)) execute_writes();
  if (refusal) return answer(request, refusal);
  const ByteOffset offset{request.offset};
  switch (request.command) {
    case Command::read:
      if (!rules_.structured) return read_simple(request);
      return (request.flags & kDf) != 0 ? read_one_chunk(request) : read_chunks(request);
    case Command::write:
      return io_.put_off(request, payload);
    case Command::trim:
      device_.discard(offset, request.length);
      return answer(request, {});
    case Command::write_zeroes:
      return answer(request, refusal_of(device_.write_zeroes(io_.stream(), offset, request.length)));
    case Command::block_status:
      return block_status(request);
    // Everything that has been answered is visible to every client already, and memory is all there is.
    case Command::flush:
    case Command::cache:
    case Command::disconnect:
      return answer(request, {});
  }
}

void Session::execute_writes() {
  io_.execute([&](const Request& request, const IoResult& result) { answer(request, refusal_of(result)); });
}

// Executes a write page by page as it arrives. One that is refused, or fails, is received to its end all the same.
Session::Next Session::stream_write(const Request& request) {
  Refusal refusal = validate(request, rules_);
  execute_writes();
  window_.consume(kRequestBytes);
  replies_.flush();
  std::uint64_t offset = request.offset;
  for (std::uint64_t left = request.length; left > 0;) {
    const auto bytes = window_.bytes();
    const std::uint64_t n = piece_at(offset, left, std::min<std::uint64_t>(bytes.size(), left));
    if (n == 0) {
      if (!window_.receive(kPageSize, true)) return Next::close;
      continue;
    }
    if (!refusal) refusal = refusal_of(io_.write(ByteOffset{offset}, bytes.first(n)));
    window_.consume(n);
    offset += n;
    left -= n;
  }
  answer(request, refusal);
  return Next::receive;
}

// Answers a request that has no data to return. With structured replies, the commands that return data fail with a
// chunk, the others with a simple reply.
void Session::answer(const Request& request, const Refusal& refusal) {
  const bool chunk = request.command == Command::read || request.command == Command::block_status;
  if (refusal && chunk && rules_.structured) return replies_.error_chunk(request.cookie, refusal);
  replies_.simple(request.cookie, refusal.error);
}

void Session::read_simple(const Request& request) {
  if (request.length > ReplyBuffer::kMaxPiece) return read_simple_streamed(request);
  std::byte* const p = replies_.room(kSimpleReplyBytes + request.length);
  const IoResult result = io_.read(ByteOffset{request.offset}, {p + kSimpleReplyBytes, request.length});
  ReplyBuffer::put_simple(p, request.cookie, refusal_of(result).error);
  replies_.commit(kSimpleReplyBytes + (result ? request.length : 0));
}

void Session::read_simple_streamed(const Request& request) {
  replies_.simple(request.cookie, WireError::none);
  const std::uint64_t end = request.offset + request.length;
  for (std::uint64_t offset = request.offset; offset < end;) {
    const std::uint64_t n = piece_at(offset, end - offset, ReplyBuffer::kMaxPiece);
    std::byte* const p = replies_.room(n);
    if (!io_.read(ByteOffset{offset}, {p, n})) {
      // The piece is not sent, so that no client takes the reply for whole.
      broken_ = true;
      return;
    }
    replies_.commit(n);
    offset += n;
  }
}

void Session::read_chunks(const Request& request) {
  const std::uint64_t end = request.offset + request.length;
  for (std::uint64_t offset = request.offset; offset < end;) {
    const std::uint64_t limit = std::min<std::uint64_t>(end - offset, ReplyBuffer::kMaxPiece);
    const Extent extent = device_.extent_at(ByteOffset{offset}, limit);
    const std::uint16_t flags = offset + extent.length == end ? kChunkDone : 0;
    if (extent.kind != ExtentKind::data) {
      replies_.hole_chunk(flags, request.cookie, offset, extent.length);
    } else if (!read_data_chunk(flags, request.cookie, offset, extent.length)) {
      return;
    }
    offset += extent.length;
  }
}

// One chunk of at most ReplyBuffer::kMaxPiece bytes; or, and then false, the error that ends the reply.
bool Session::read_data_chunk(std::uint16_t flags, std::uint64_t cookie, std::uint64_t offset, std::uint64_t length) {
  std::byte* p = replies_.room(kDataChunkBytes + length);
  const IoResult result = io_.read(ByteOffset{offset}, {p + kDataChunkBytes, length});
  if (!result) {
    replies_.error_chunk(cookie, refusal_of(result), offset);
    return false;
  }
  p = ReplyBuffer::put_chunk(p, flags, Chunk::offset_data, cookie, 8 + length);
  store_be(p, offset);
  replies_.commit(kDataChunkBytes + length);
  return true;
}

// DF: whatever the range holds, in one chunk.
void Session::read_one_chunk(const Request& request) {
  const Extent extent = device_.extent_at(ByteOffset{request.offset}, request.length);
  if (extent.kind != ExtentKind::data && extent.length == request.length) {
    replies_.hole_chunk(kChunkDone, request.cookie, request.offset, request.length);
  } else if (request.length <= ReplyBuffer::kMaxPiece) {
    (void)read_data_chunk(kChunkDone, request.cookie, request.offset, request.length);
  } else {
    read_one_chunk_streamed(request);
  }
}

// The chunk has promised its length: what fails is sent as zeroes, and the error behind it.
void Session::read_one_chunk_streamed(const Request& request) {
  replies_.chunk(0, Chunk::offset_data, request.cookie, 8 + request.length);
  store_be(replies_.room(8), request.offset);
  replies_.commit(8);
  const std::uint64_t end = request.offset + request.length;
  Refusal refusal;
  std::uint64_t failed_at = 0;
  for (std::uint64_t offset = request.offset; offset < end;) {
    const std::uint64_t n = piece_at(offset, end - offset, ReplyBuffer::kMaxPiece);
    std::byte* const p = replies_.room(n);
    if (!refusal) {
      refusal = refusal_of(io_.read(ByteOffset{offset}, {p, n}));
      failed_at = offset;
    }
    if (refusal) std::memset(p, 0, n);
    replies_.commit(n);
    offset += n;
  }
  if (refusal) return replies_.error_chunk(request.cookie, refusal, failed_at);
  replies_.chunk(kChunkDone, Chunk::none, request.cookie, 0);
}

// Extents of one state are one extent; what does not fit the reply is left for the client to ask again.
void Session::block_status(const Request& request) {
  const std::size_t max = (request.flags & kReqOne) != 0 ? 1 : kMaxExtents;
  std::byte* const start = replies_.room(kStatusChunkBytes + max * kExtentBytes);
  std::byte* p = start + kStatusChunkBytes;
  std::uint32_t length = 0;  // of the extent before p
  std::uint32_t state = 0;
  std::size_t count = 0;
  const std::uint64_t end = request.offset + request.length;
  for (std::uint64_t offset = request.offset; offset < end;) {
    const Extent extent = device_.extent_at(ByteOffset{offset}, end - offset);
    offset += extent.length;
    if (count != 0 && state == state_of(extent.kind)) {
      length += static_cast<std::uint32_t>(extent.length);
      store_be(p - kExtentBytes, length);
      continue;
    }
    if (count == max) break;
    ++count;
    length = static_cast<std::uint32_t>(extent.length);
    state = state_of(extent.kind);
    p = store_be(store_be(p, length), state);
  }
  const auto payload = static_cast<std::size_t>(p - start) - kChunkHeaderBytes;
  store_be(ReplyBuffer::put_chunk(start, kChunkDone, Chunk::block_status, request.cookie, payload),
           kAllocationContextId);
  replies_.commit(kChunkHeaderBytes + payload);
}

}  // namespace uzram::nbd
