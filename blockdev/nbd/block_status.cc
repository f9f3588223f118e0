#include "blockdev/nbd/block_status.h"

#include <utility>

namespace uzram::nbd {
namespace {

constexpr std::size_t kMaxExtents = 64 << 10;

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

std::uint32_t state_of(PageState state) {
  switch (state) {
    case PageState::hole:
      return kPageHole;
    case PageState::same_filled:
      return kPageSameFilled;
    case PageState::compressed:
      return kPageCompressed;
    case PageState::huge:
      return kPageHuge;
    case PageState::written_back:
      return kPageWrittenBack;
    case PageState::damaged:
      break;
  }
  return kPageDamaged;
}

// Gathers the extents of one context behind the place of the chunk's header and the context's.
class Extents {
 public:
  Extents(ReplyBuffer& replies, std::size_t max)
      : replies_(replies),
        wide_(replies.extended()),
        max_(max),
        start_(replies.room(replies.header_bytes() + kContextBytes + max * kWideBytes)),
        p_(start_ + replies.header_bytes() + (wide_ ? kContextBytes : kContextBytes / 2)) {}

  // False where there is no room for another.
  bool add(std::uint64_t length, std::uint32_t state) {
    if (count_ != 0 && state == state_) {
      p_ -= bytes();
      length_ += length;
    } else {
      if (count_ == max_) return false;
      ++count_;
      length_ = length;
      state_ = state;
    }
    p_ = wide_ ? store_be(store_be(p_, length_), std::uint64_t{state_})
               : store_be(store_be(p_, static_cast<std::uint32_t>(length_)), state_);
    return true;
  }

  void commit(std::uint16_t flags, const Request& request, std::uint32_t context) {
    const auto payload = static_cast<std::size_t>(p_ - start_) - replies_.header_bytes();
    const Chunk type = wide_ ? Chunk::block_status_ext : Chunk::block_status;
    std::byte* const p = store_be(replies_.put_chunk(start_, flags, type, request, payload), context);
    if (wide_) store_be(p, static_cast<std::uint32_t>(count_));
    replies_.commit(replies_.header_bytes() + payload);
  }

 private:
  static constexpr std::size_t kContextBytes = 8;  // the context's number and, if wide, the count
  static constexpr std::size_t kWideBytes = 16;
  static_assert(kExtendedChunkHeaderBytes + kContextBytes + kMaxExtents * kWideBytes <= ReplyBuffer::kBytes);

  [[nodiscard]] std::size_t bytes() const { return wide_ ? kWideBytes : kWideBytes / 2; }

  ReplyBuffer& replies_;
  const bool wide_;
  const std::size_t max_;
  std::byte* const start_;
  std::byte* p_;
  std::size_t count_ = 0;
  std::uint64_t length_ = 0;  // of the last one
  std::uint32_t state_ = 0;
};

template <class ExtentAt>
void reply_one(ReplyBuffer& replies, const Request& request, std::uint16_t flags, std::uint32_t context,
               const ExtentAt& extent_at) {
  Extents extents(replies, (request.flags & kReqOne) != 0 ? 1 : kMaxExtents);
  const std::uint64_t end = request.offset + request.length;
  for (std::uint64_t offset = request.offset; offset < end;) {
    const auto extent = extent_at(ByteOffset{offset}, end - offset);
    if (!extents.add(extent.length, state_of(extent.kind))) break;
    offset += extent.length;
  }
  extents.commit(flags, request, context);
}

}  // namespace

void reply_block_status(ReplyBuffer& replies, const Device& device, const Request& request, const Contexts& contexts) {
  if (contexts.allocation) {
    reply_one(replies, request, contexts.pages ? 0 : kChunkDone, kContextNames[0].id,
              [&](ByteOffset offset, std::uint64_t length) { return device.extent_at(offset, length); });
  }
  if (contexts.pages) {
    reply_one(replies, request, kChunkDone, kContextNames[1].id,
              [&](ByteOffset offset, std::uint64_t length) { return device.page_extent_at(offset, length); });
  }
}

}  // namespace uzram::nbd
