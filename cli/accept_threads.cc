#include "cli/accept_threads.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <cerrno>
#include <exception>
#include <system_error>

#include "blockdev/nbd/event.h"

namespace uzram {
namespace {

// How long a thread pauses where a connection is there and cannot be had, for want of memory or descriptors.
constexpr int kPauseMilliseconds = 100;

// Whether the stop has come, after at most `milliseconds`.
bool stopped(int stop_event, int milliseconds) {
  pollfd wait{stop_event, POLLIN, 0};
  return poll(&wait, 1, milliseconds) > 0;
}

}  // namespace

void AcceptThreads::start(int listener, std::size_t count, const std::function<void(int)>& serve) {
  listener_ = listener;
  serve_ = serve;
  stop_event_ = nbd::Fd(eventfd(0, EFD_CLOEXEC));
  if (!stop_event_.valid()) throw std::system_error(errno, std::generic_category(), "cannot make an eventfd");
  threads_.reserve(count);
  while (threads_.size() < count) threads_.emplace_back([this] { accept_loop(); });
}

void AcceptThreads::stop() {
  if (!threads_.empty()) nbd::raise_event(stop_event_.get());
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

void AcceptThreads::accept_loop() const {
  for (;;) {
    pollfd waits[] = {{listener_, POLLIN, 0}, {stop_event_.get(), POLLIN, 0}};
    const int ready = poll(waits, 2, -1);
    if (ready > 0 && waits[1].revents != 0) return;
    if (ready > 0) {
      const nbd::Fd client(accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC));
      if (client.valid()) {
        try {
          serve_(client.get());
        } catch (const std::exception&) {
          // The client sees that its connection has ended; what there is to say is said by whoever threw.
        }
        continue;
      }
      // Another thread was faster, or the client is gone.
      if (errno == EAGAIN || errno == ECONNABORTED || errno == EINTR) continue;
    } else if (errno == EINTR) {
      continue;
    }
    if (stopped(stop_event_.get(), kPauseMilliseconds)) return;
  }
}

}  // namespace uzram
