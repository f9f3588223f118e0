#pragma once
// A session's reads and writes of its device, the long and the many shared with the crew.
//
// Threads: those of its session, and the crew's.

#include <cstddef>
#include <span>
#include <vector>

#include "blockdev/device.h"
#include "blockdev/nbd/crew.h"
#include "blockdev/nbd/request.h"

namespace uzram::nbd {

class SharedIo {
 public:
  // Less than this many bytes are done before a helper is awake.
  static constexpr std::size_t kWorthSharing = 8 * kPageSize;

  // Allocates everything that will be needed, a stream for each worker included.
  SharedIo(Device& device, Crew& crew);

  // A worker's stream; this thread's own.
  [[nodiscard]] Stream& stream(unsigned worker = 0) { return *streams_[worker]; }

  // As Device::read and Device::write; but any page of a write that fails may be written.
  [[nodiscard]] IoResult read(ByteOffset offset, std::span<std::byte> out);
  [[nodiscard]] IoResult write(ByteOffset offset, std::span<const std::byte> in);

  // Writes that have arrived one behind the other are put off, to be executed together. `room_for` is false for one
  // that has to wait until the others are executed: they overlap, or are too many.
  [[nodiscard]] bool room_for(const Request& request) const;
  // `payload` stays where it is until the writes are executed.
  void put_off(const Request& request, std::span<const std::byte> payload);
  // Executes what was put off, and calls done(request, result) for each in the order of arrival. Where helpers take
  // part, this thread calls `meanwhile` first, and after each piece of a write worth sharing alone.
  template <class Done, class Meanwhile>
  void execute(const Done& done, const Meanwhile& meanwhile) {
    if (writes_.empty()) return;
    const auto write_one = [&](std::size_t n, unsigned worker) {
      write_piece(n, worker);
      if (worker == 0 && pieces_[n].of_long_write) meanwhile();
    };
    if (!worth_sharing() || !crew_.share(pieces_.size(), write_one, meanwhile)) {
      for (std::size_t n = 0; n < pieces_.size(); ++n) write_piece(n, 0);
    }
    for (const Write& write : writes_) done(write.request, result_of(write));
    pieces_.clear();
    writes_.clear();
    bytes_ = 0;
  }

 private:
  // What one worker does at a time: a part of a request that ends where a page ends, or with it.
  struct Piece {
    ByteOffset offset{};
    std::span<const std::byte> bytes;
    bool of_long_write = false;
    IoResult result;
  };
  struct Write {
    Request request;
    std::size_t first_piece = 0;
    std::size_t end_piece = 0;
  };

  [[nodiscard]] bool worth_sharing() const;
  void write_piece(std::size_t n, unsigned worker);
  [[nodiscard]] IoResult result_of(const Write& write) const;

  Device& device_;
  Crew& crew_;
  std::vector<StreamPtr> streams_;  // one for each worker
  std::vector<Write> writes_;
  std::vector<Piece> pieces_;
  std::size_t bytes_ = 0;  // of all pieces
};

// The longest part of `length` bytes from `offset` that has at most `limit` bytes and ends where a page ends: all of
// it if that fits, 0 if no page ends within the limit.
[[nodiscard]] std::uint64_t piece_at(std::uint64_t offset, std::uint64_t length, std::uint64_t limit);

}  // namespace uzram::nbd
