#include "blockdev/nbd/session.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "blockdev/nbd/block_status.h"

namespace uzram::nbd {
namespace {

// Between a chunk's header and its data: the offset.
constexpr std::size_t kOffsetBytes = 8;
static_assert(kExtendedChunkHeaderBytes + kOffsetBytes + ReplyBuffer::kMaxPiece <= ReplyBuffer::kBytes);

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

}  // namespace

Session::Session(Connection& connection, const Agreement& agreement, Crew& crew)
    : connection_(connection),
      device_(*agreement.device),
      io_(device_, crew),
      contexts_(agreement.contexts),
      rules_{.size = device_.size(),
             .read_only = agreement.read_only,
             .structured = agreement.structured,
             .extended = agreement.extended,
             .block_status = agreement.contexts.any()},
      window_(connection),
      replies_(connection, agreement.extended) {}

void Session::run(const std::function<void()>& stand_still) {
  stand_still_ = &stand_still;
  if (left_ > 0 && go_on_streaming() == Next::close) return;
  while (execute_batch() == Next::receive) {
    replies_.flush();
    // Who cannot be answered is not listened to either: it may never hear that it has to go.
    if (!replies_.good()) break;
    const std::size_t waiting = window_.bytes().size();
    if (waiting < needed_ && !receive(needed_, waiting != 0)) break;
  }
  replies_.flush();
}

bool Session::receive(std::size_t needed, bool within_request) {
  while (!window_.receive(needed, within_request)) {
    if (!connection_.pause_wanted()) return false;
    (*stand_still_)();
  }
  return true;
}

void Session::save(ImageWriter& image) const {
  image.put(streamed_);
  image.put(left_);
  image.put(failure_.error);
  const auto waiting = window_.bytes();
  image.put(static_cast<std::uint32_t>(waiting.size()));
  image.put_all(waiting);
}

bool Session::load(ImageReader& image) {
  streamed_ = image.get<Request>();
  left_ = image.get<std::uint64_t>();
  failure_.error = image.get<WireError>();
  const auto waiting = image.view(image.get<std::uint32_t>());
  if (!image.good() || waiting.size() > ReceiveWindow::kBytes || left_ > streamed_.payload) return false;
  window_.append(waiting);
  return true;
}

Session::Next Session::execute_batch() {
  const Next next = take_requests();
  execute_writes();
  return next;
}

Session::Next Session::take_requests() {
  while (replies_.good() && !broken_) {
    const auto bytes = window_.bytes();
    const std::size_t header = rules_.request_bytes();
    needed_ = header;
    if (bytes.size() < needed_) return Next::receive;
    if (connection_.pause_wanted()) {
      execute_writes();
      replies_.flush();
      (*stand_still_)();
    }
    Request request;
    if (!decode(bytes.data(), rules_.extended, request) || request.command == Command::disconnect) return Next::close;
    if (request.payload > ReceiveWindow::kBytes - header) {
      if (stream_write(request) == Next::close) return Next::close;
      continue;
    }
    needed_ += request.payload;
    if (bytes.size() < needed_) return Next::receive;
    execute(request, bytes.subspan(header, request.payload));
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
      return reply_block_status(replies_, device_, request, contexts_);
    // Everything that has been answered is visible to every client already, and memory is all there is.
    case Command::flush:
    case Command::cache:
    case Command::disconnect:
      return answer(request, {});
  }
}

void Session::execute_writes() {
  io_.execute([&](const Request& request, const IoResult& result) { answer(request, refusal_of(result)); },
              [&] { window_.receive_ready(); });  // the next requests, while helpers are at work on these
}

// Executes a write page by page as it arrives. One that is refused, or fails, is received to its end all the same.
Session::Next Session::stream_write(const Request& request) {
  failure_ = validate(request, rules_);
  execute_writes();
  window_.consume(rules_.request_bytes());
  replies_.flush();
  streamed_ = request;
  left_ = request.payload;
  return go_on_streaming();
}

Session::Next Session::go_on_streaming() {
  while (left_ > 0) {
    const std::uint64_t offset = streamed_.offset + streamed_.payload - left_;
    const auto bytes = window_.bytes();
    const std::uint64_t n = piece_at(offset, left_, std::min<std::uint64_t>(bytes.size(), left_));
    if (n == 0) {
      if (!receive(kPageSize, true)) return Next::close;
      continue;
    }
    if (!failure_) failure_ = refusal_of(io_.write(ByteOffset{offset}, bytes.first(n)));
    window_.consume(n);
    left_ -= n;
  }
  answer(streamed_, failure_);
  return Next::receive;
}

// Answers a request that has no data to return. With structured replies, the commands that return data fail with a
// chunk, the others with a simple reply; with extended headers everything is a chunk.
void Session::answer(const Request& request, const Refusal& refusal) {
  const bool chunk = request.command == Command::read || request.command == Command::block_status;
  if (rules_.extended || (refusal && chunk && rules_.structured)) {
    if (refusal) return replies_.error_chunk(request, refusal);
    return replies_.chunk(kChunkDone, Chunk::none, request, 0);
  }
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
      replies_.hole_chunk(flags, request, offset, extent.length);
    } else if (!read_data_chunk(flags, request, offset, extent.length)) {
      return;
    }
    offset += extent.length;
  }
}

// One chunk of at most ReplyBuffer::kMaxPiece bytes; or, and then false, the error that ends the reply.
bool Session::read_data_chunk(std::uint16_t flags, const Request& request, std::uint64_t offset, std::uint64_t length) {
  const std::size_t before = replies_.header_bytes() + kOffsetBytes;
  std::byte* p = replies_.room(before + length);
  const IoResult result = io_.read(ByteOffset{offset}, {p + before, length});
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
void Session::read_one_chunk(const Request& request) {
  const Extent extent = device_.extent_at(ByteOffset{request.offset}, request.length);
  if (extent.kind != ExtentKind::data && extent.length == request.length) {
    replies_.hole_chunk(kChunkDone, request, request.offset, request.length);
  } else if (request.length <= ReplyBuffer::kMaxPiece) {
    (void)read_data_chunk(kChunkDone, request, request.offset, request.length);
  } else {
    read_one_chunk_streamed(request);
  }
}

// The chunk has promised its length: what fails is sent as zeroes, and the error behind it.
void Session::read_one_chunk_streamed(const Request& request) {
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
      refusal = refusal_of(io_.read(ByteOffset{offset}, {p, n}));
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
