#include "blockdev/nbd/shared_io.h"

#include <algorithm>
#include <atomic>

namespace uzram::nbd {
namespace {

// Two pages take longer than it takes a worker to fetch the next piece, by far; and the others wait for the last.
constexpr std::size_t kPieceBytes = 2 * kPageSize;
// The first page of a read is not in the cache, those behind it are (Device::fetch_ahead).
constexpr std::size_t kReadPieceBytes = 4 * kPageSize;
constexpr std::size_t kMostWrites = 64;
// The window holds about 1 MiB; the first piece of a request may be shorter by a page, and the last by more.
constexpr std::size_t kMostPieces = 2 * kMostWrites + (std::size_t{1} << 20) / (kPieceBytes - kPageSize);

}  // namespace

std::uint64_t piece_at(std::uint64_t offset, std::uint64_t length, std::uint64_t limit) {
  if (length <= limit) return length;
  const std::uint64_t tail = (offset + limit) % kPageSize;
  return limit > tail ? limit - tail : 0;
}

SharedIo::SharedIo(Device& device, Crew& crew) : device_(device), crew_(crew) {
  for (unsigned worker = 0; worker < crew.workers(); ++worker) streams_.push_back(device.make_stream());
  writes_.reserve(kMostWrites);
  pieces_.reserve(kMostPieces);
}

IoResult SharedIo::read(ByteOffset offset, std::span<std::byte> out) {
  if (out.size() < kWorthSharing) return device_.read(stream(), offset, out);
  // Pieces between the page boundaries of the device, so that no page is decompressed twice.
  const std::size_t lead = raw(offset) % kPageSize;
  const std::size_t parts = (lead + out.size() + kReadPieceBytes - 1) / kReadPieceBytes;
  std::atomic<bool> failed{false};
  crew_.run(parts, [&](std::size_t part, unsigned worker) {
    const std::size_t begin = part == 0 ? 0 : part * kReadPieceBytes - lead;
    const std::size_t end = std::min((part + 1) * kReadPieceBytes - lead, out.size());
    const IoResult result =
        device_.read(*streams_[worker], ByteOffset{raw(offset) + begin}, out.subspan(begin, end - begin));
    if (!result) failed.store(true, std::memory_order_relaxed);
  });
  if (failed) return tl::unexpected(IoError::io);
  return {};
}

IoResult SharedIo::write(ByteOffset offset, std::span<const std::byte> in) {
  IoResult result;
  put_off({.command = Command::write, .offset = raw(offset), .length = in.size()}, in);
  execute([&](const Request&, const IoResult& r) { result = r; }, [] {});
  return result;
}

bool SharedIo::room_for(const Request& request) const {
  if (writes_.size() == kMostWrites) return false;
  return std::ranges::none_of(writes_, [&](const Write& write) {
    return request.offset < write.request.offset + write.request.length &&
           write.request.offset < request.offset + request.length;
  });
}

void SharedIo::put_off(const Request& request, std::span<const std::byte> payload) {
  const std::size_t first = pieces_.size();
  for (std::size_t at = 0; at < payload.size();) {
    const std::size_t n = piece_at(request.offset + at, payload.size() - at, kPieceBytes);
    pieces_.push_back({ByteOffset{request.offset + at}, payload.subspan(at, n), payload.size() >= kWorthSharing, {}});
    at += n;
  }
  bytes_ += payload.size();
  writes_.push_back({request, first, pieces_.size()});
}

bool SharedIo::worth_sharing() const { return bytes_ >= kWorthSharing; }

void SharedIo::write_piece(std::size_t n, unsigned worker) {
  Piece& piece = pieces_[n];
  piece.result = device_.write(*streams_[worker], piece.offset, piece.bytes);
}

IoResult SharedIo::result_of(const Write& write) const {
  for (std::size_t n = write.first_piece; n < write.end_piece; ++n) {
    if (!pieces_[n].result) return pieces_[n].result;
  }
  return {};
}

}  // namespace uzram::nbd
