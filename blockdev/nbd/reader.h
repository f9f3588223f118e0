#pragma once
// Answers reads: produces the data in place in a reply buffer, behind a simple header or as chunks that name the holes.
//
// Threads: one at a time.

#include <cstdint>
#include <functional>
#include <span>
#include <utility>

#include "blockdev/device.h"
#include "blockdev/nbd/reply_buffer.h"
#include "blockdev/nbd/request.h"

namespace uzram::nbd {

class Reader {
 public:
  // As Device::read.
  using Fetch = std::function<IoResult(ByteOffset offset, std::span<std::byte> out)>;

  Reader(const Device& device, ReplyBuffer& replies, bool structured, Fetch fetch)
      : device_(device), replies_(replies), structured_(structured), fetch_(std::move(fetch)) {}

  // `request` has been validated. What does not fit into the buffer streams through it.
  void read(const Request& request);

  // Whether a simple reply that has begun cannot be finished: there is no other way to say it than to hang up.
  [[nodiscard]] bool broken() const { return broken_; }

 private:
  void simple(const Request& request);
  void simple_streamed(const Request& request);
  void chunks(const Request& request);
  bool data_chunk(std::uint16_t flags, const Request& request, std::uint64_t offset, std::uint64_t length);
  void one_chunk(const Request& request);
  void one_chunk_streamed(const Request& request);

  const Device& device_;
  ReplyBuffer& replies_;
  const bool structured_;
  const Fetch fetch_;
  bool broken_ = false;
};

}  // namespace uzram::nbd
