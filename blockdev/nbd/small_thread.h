#pragma once
// A thread with a small stack: many connections, and memory that may be locked.
//
// Threads: started and joined by one thread.

#include <pthread.h>
#include <signal.h>

#include <cstddef>

namespace uzram::nbd {

class SmallThread {
 public:
  static constexpr std::size_t kStackBytes = 256 << 10;

  // Runs `body(argument)`, in which no exception may escape. False where the system has no thread to give.
  [[nodiscard]] bool start(void* (*body)(void*), void* argument) {
    pthread_attr_t attributes;
    if (pthread_attr_init(&attributes) != 0) return false;
    (void)pthread_attr_setstacksize(&attributes, kStackBytes);
    started_ = pthread_create(&thread_, &attributes, body, argument) == 0;
    (void)pthread_attr_destroy(&attributes);
    return started_;
  }

  // Sends it a signal; it was started, and is not joined.
  void signal(int number) const { (void)pthread_kill(thread_, number); }

  // Waits for its end; nothing where it was not started, or is joined already.
  void join() {
    if (started_) (void)pthread_join(thread_, nullptr);
    started_ = false;
  }

 private:
  pthread_t thread_{};
  bool started_ = false;
};

}  // namespace uzram::nbd
