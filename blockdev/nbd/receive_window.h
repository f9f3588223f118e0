#pragma once
// What has come from the client and has not been executed: one buffer that is filled by single receives and taken
// from its front. Payloads are executed where they lie.
//
// Threads: those of its session.

#include <cstddef>
#include <memory>
#include <span>

#include "blockdev/nbd/connection.h"

namespace uzram::nbd {

class ReceiveWindow {
 public:
  // A request of 1 MiB fits with its header.
  static constexpr std::size_t kBytes = (1 << 20) + 4096;

  explicit ReceiveWindow(Connection& connection);

  [[nodiscard]] std::span<const std::byte> bytes() const { return {buffer_.get() + begin_, end_ - begin_}; }

  void consume(std::size_t n) { begin_ += n; }

  // Puts bytes behind what is there; there is room for them.
  void append(std::span<const std::byte> bytes);

  // Waits for more bytes, with room for `needed` (at most kBytes, more than there are) from the front on. False where
  // no more will come. A client may be silent between requests for as long as it likes, but not within one.
  [[nodiscard]] bool receive(std::size_t needed, bool within_request);

  // Takes what has come already, as far as there is room behind what there is. Nothing moves: spans of `bytes` stay.
  void receive_ready();

 private:
  Connection& connection_;
  std::unique_ptr<std::byte[]> buffer_;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
};

}  // namespace uzram::nbd
