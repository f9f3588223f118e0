#include "blockdev/nbd/receive_window.h"

#include <cstring>

#include "allocator/ensure.h"

namespace uzram::nbd {
namespace {

// A remainder up to this long is moved to the front although there is room behind it, so that a stream of small
// requests stays in the cache.
constexpr std::size_t kCheapMove = 16 << 10;

}  // namespace

ReceiveWindow::ReceiveWindow(Connection& connection)
    : connection_(connection), buffer_(std::make_unique_for_overwrite<std::byte[]>(kBytes)) {}

void ReceiveWindow::append(std::span<const std::byte> bytes) {
  ensure(bytes.size() <= kBytes - end_, "what is put into the window fits");
  std::memcpy(buffer_.get() + end_, bytes.data(), bytes.size());
  end_ += bytes.size();
}

bool ReceiveWindow::receive(std::size_t needed, bool within_request) {
  const std::size_t kept = end_ - begin_;
  if (begin_ != 0 && (kept <= kCheapMove || begin_ + needed > kBytes)) {
    std::memmove(buffer_.get(), buffer_.get() + begin_, kept);
    begin_ = 0;
    end_ = kept;
  }
  const std::size_t n = connection_.receive_some({buffer_.get() + end_, kBytes - end_}, within_request);
  end_ += n;
  return n != 0;
}

void ReceiveWindow::receive_ready() {
  if (end_ < kBytes) end_ += connection_.receive_ready({buffer_.get() + end_, kBytes - end_});
}

}  // namespace uzram::nbd
