#include "blockdev/nbd/long_reads.h"

namespace uzram::nbd {
namespace {

// What is shorter is answered before a helper is awake, and what is longer is shared in pieces: a worker's part of a
// processor's cache is not large.
constexpr std::uint64_t kShortest = 8 * kPageSize;
constexpr std::uint64_t kLongest = 64 * kPageSize;
constexpr std::size_t kMostReads = ReplyBuffer::kMaxPiece / kShortest;

// The most that a reply can take: every second page is a hole, and the first and the last are parts.
constexpr std::size_t reply_bytes(std::uint64_t length) {
  constexpr std::size_t kMostBesides = kExtendedChunkHeaderBytes + 12;
  return length + (length / kPageSize + 2) * kMostBesides;
}
static_assert(ReplyBuffer::kMaxPiece / kLongest * reply_bytes(kLongest) <= ReplyBuffer::kBytes);

}  // namespace

LongReads::LongReads(const Device& device, SharedIo& io, Crew& crew, Reader& reader, ReplyBuffer& replies,
                     Connection& connection, bool structured)
    : crew_(crew), reader_(reader), encrypted_(connection.is_encrypted()) {
  requests_.reserve(kMostReads);
  for (unsigned number = 0; number < crew.workers(); ++number) {
    if (number > 0) helpers_replies_.push_back(std::make_unique<ReplyBuffer>(connection, replies.extended()));
    ReplyBuffer& own = number == 0 ? replies : *helpers_replies_.back();
    const auto fetch = [&io, number](ByteOffset offset, std::span<std::byte> out) {
      return io.read_alone(number, offset, out);
    };
    workers_.push_back({own, Reader(device, own, structured, fetch)});
  }
}

// All replies fit into the buffer of any worker, so that none has to send before it goes on.
bool LongReads::room_for(const Request& request) const {
  return workers_.size() > 1 && !encrypted_ && request.length >= kShortest && request.length <= kLongest &&
         requests_.size() < kMostReads && bytes_ + reply_bytes(request.length) <= ReplyBuffer::kBytes;
}

void LongReads::put_off(const Request& request) {
  requests_.push_back(request);
  bytes_ += reply_bytes(request.length);
}

// While helpers take part nobody waits for the client, nor for another worker that sends: they would wait, too, who
// need the helpers for other clients. A reply that cannot leave now leaves with the worker's next, or at the end.
void LongReads::answer(const Request& request, unsigned number) {
  auto& [replies, reader] = workers_[number];
  reader.read(request);
  if (number == 0 && !shared_) return;
  const std::unique_lock lock(sending_, std::try_to_lock);
  if (!lock.owns_lock() || (unfinished_ != nullptr && unfinished_ != &replies)) return;
  unfinished_ = replies.flush_ready() ? nullptr : &replies;
}

void LongReads::send_what_is_left() {
  if (unfinished_ != nullptr) unfinished_->flush();
  unfinished_ = nullptr;
  for (const Worker& worker : workers_) worker.replies.flush();
}

}  // namespace uzram::nbd
