#include "blockdev/nbd/session.h"

#include <algorithm>

#include "blockdev/nbd/block_status.h"

namespace uzram::nbd {

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
      reply_memory_(std::make_unique_for_overwrite<std::byte[]>(ReplyBuffer::kBytes)),
      replies_(connection, agreement.extended, {reply_memory_.get(), ReplyBuffer::kBytes}),
      reader_(device_, replies_, rules_.structured,
              [this](ByteOffset offset, std::span<std::byte> out) { return io_.read(offset, out); }),
      long_reads_(device_, io_, crew, connection, rules_.structured, replies_, reader_) {}

void Session::run(const std::function<void()>& stand_still) {
  stand_still_ = &stand_still;
  if (left_ > 0 && go_on_streaming() == Next::close) return;
  while (execute_batch() == Next::receive) {
    // Who cannot be answered is not listened to either: it may never hear that it has to go.
    if (!replies_.flush()) break;
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
  execute_put_off();
  return next;
}

Session::Next Session::take_requests() {
  while (replies_.good() && !reader_.broken()) {
    const auto bytes = window_.bytes();
    const std::size_t header = rules_.request_bytes();
    needed_ = header;
    if (bytes.size() < needed_) return Next::receive;
    if (connection_.pause_wanted()) {
      execute_put_off();
      if (!replies_.flush()) break;  // no successor may go on behind a torn reply
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
  const bool long_read = !refusal && request.command == Command::read && long_reads_.takes(request);
  if (!long_read || !long_reads_.has_room()) execute_reads();
  if (refusal) return answer(request, refusal);
  const ByteOffset offset{request.offset};
  switch (request.command) {
    case Command::read:
      return long_read ? long_reads_.put_off(request) : reader_.read(request);
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
              // The next requests, while helpers are at work on these: of long ones a socket holds no more than one.
              [&] { window_.receive_ready(); });
}

void Session::execute_reads() {
  long_reads_.execute([&] { window_.receive_ready(); });
}

// At most one of the two has been: each is executed before the other's are put off.
void Session::execute_put_off() {
  execute_writes();
  execute_reads();
}

// Executes a write page by page as it arrives. One that is refused, or fails, is received to its end all the same.
Session::Next Session::stream_write(const Request& request) {
  failure_ = validate(request, rules_);
  execute_put_off();
  window_.consume(rules_.request_bytes());
  if (!replies_.flush()) return Next::close;
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

}  // namespace uzram::nbd
