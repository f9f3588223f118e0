#pragma once
// A line on standard error that tells how far something is, from its second second on, if a person may be watching.
//
// Threads: made and destroyed by one thread; `at` may be called from any.

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>

namespace uzram {

class Progress {
 public:
  // `what` is what is being done. Nothing is ever written unless standard error is a terminal.
  explicit Progress(std::string what);
  // Clears the line.
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // The part that is done, 0..1; until it is called, only the time is shown.
  void at(double part) { part_ = part; }

 private:
  static constexpr double kUnknown = -1;

  void draw();
  void show(std::chrono::seconds elapsed);

  const std::string what_;
  std::atomic<double> part_{kUnknown};
  bool drawn_ = false;  // the thread's, then the destructor's
  std::mutex mutex_;
  std::condition_variable end_;
  bool ended_ = false;  // guarded by mutex_
  std::thread thread_;  // only with a terminal
};

}  // namespace uzram
