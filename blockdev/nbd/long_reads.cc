#include "blockdev/nbd/long_reads.h"

namespace uzram::nbd {
namespace {

// What is longer is shared in pieces: a worker's part of the buffer, and of a processor's cache, is not large.
constexpr std::uint64_t kLongest = 64 * kPageSize;

// The most that a reply can take: every second page is a hole, the first and the last are parts, and then one fails.
constexpr std::size_t reply_bytes(std::uint64_t length) {
  constexpr std::size_t kMostBesides = kExtendedChunkHeaderBytes + 12;
  return length + (length / kPageSize + 2) * kMostBesides + ReplyBuffer::kMaxError;
}
static_assert(reply_bytes(kLongest) <= ReplyBuffer::kBytes / (1 + Crew::kMostHelpers));

}  // namespace

LongReads::Worker::Worker(const ReplyBuffer& part, Device& device, Stream& stream, bool structured)
    : replies(part),
      reader(device, replies, structured, [&device, &stream](ByteOffset offset, std::span<std::byte> out) {
        return device.read(stream, offset, out);
      }) {}

LongReads::LongReads(Device& device, SharedIo& io, Crew& crew, const Connection& connection, bool structured,
                     ReplyBuffer& replies, Reader& sharing_reader)
    : crew_(crew), replies_(replies), sharing_reader_(sharing_reader) {
  if (connection.is_encrypted() || crew.workers() == 1) return;
  requests_.reserve(kMostReads);
  for (unsigned worker = 0; worker < crew.workers(); ++worker)
    workers_.emplace_back(replies.part(worker, crew.workers()), device, io.stream(worker), structured);
}

bool LongReads::takes(const Request& request) const {
  return !workers_.empty() && request.length >= SharedIo::kWorthSharing && request.length <= kLongest;
}

// While helpers take part nobody waits for the client, because other clients may need the helpers. A reply that cannot
// leave now leaves behind the worker's next, or at the end; a worker without room for another stops.
void LongReads::answer_some(unsigned worker) {
  auto& [replies, reader] = workers_[worker];
  for (std::size_t n = next_; n < end_ && replies.fits(reply_bytes(requests_[n].length)); n = next_) {
    if (!next_.compare_exchange_strong(n, n + 1)) continue;
    reader.read(requests_[n]);
    const std::unique_lock lock(sending_, std::try_to_lock);
    if (lock.owns_lock() && (torn_ == nullptr || torn_ == &replies)) torn_ = replies.flush_ready() ? nullptr : &replies;
  }
}

void LongReads::send_what_is_left() {
  if (torn_ != nullptr) torn_->flush();
  torn_ = nullptr;
  for (Worker& worker : workers_) worker.replies.flush();
}

}  // namespace uzram::nbd
