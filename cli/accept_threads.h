#pragma once
// Threads that accept connections from one listening socket and serve them, each one at a time: who comes while all are
// busy waits in the socket's backlog, where it costs nothing.
//
// Threads: start, stop and the destructor belong to one thread.

#include <cstddef>
#include <functional>
#include <thread>
#include <vector>

#include "blockdev/nbd/connection.h"

namespace uzram {

class AcceptThreads {
 public:
  AcceptThreads() = default;
  ~AcceptThreads() { stop(); }
  AcceptThreads(const AcceptThreads&) = delete;
  AcceptThreads& operator=(const AcceptThreads&) = delete;

  // Serves from now on, in `count` threads. `listener` does not block and stays open until stop; `serve` may throw:
  // that ends its connection. Throws std::system_error or std::bad_alloc where the threads are not to be had.
  void start(int listener, std::size_t count, const std::function<void(int)>& serve);

  // Returns once what is being served has been.
  void stop();

 private:
  void accept_loop() const;

  int listener_ = -1;
  nbd::Fd stop_event_;
  std::function<void(int)> serve_;
  std::vector<std::thread> threads_;
};

}  // namespace uzram
