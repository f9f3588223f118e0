#pragma once
// Threads that help a session which has much to compress or decompress at once, so that one connection can use
// several cores. There is no queue: who finds the helpers idle has them, and who does not works alone, as the
// cores are busy then anyway. A helper that has just worked stays awake for a moment: the next request mostly follows.
//
// Threads: `run` and `share` may be called from any number at once; the rest belongs to one.

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>

#include "blockdev/nbd/small_thread.h"

namespace uzram::nbd {

class Crew {
 public:
  static constexpr unsigned kMostHelpers = 3;

  Crew() = default;
  // No call of `run` or `share` is under way.
  ~Crew();
  Crew(const Crew&) = delete;
  Crew& operator=(const Crew&) = delete;

  // Starts up to `helpers` threads, at most kMostHelpers; fewer where the system has no more to give.
  void start(unsigned helpers);

  // Calls job(part, worker) once for each part < parts: on this thread, as worker 0, and on helpers beside it, whose
  // numbers are at most kMostHelpers. Returns when all calls have. No exception may escape from `job`.
  template <class Job>
  void run(std::size_t parts, const Job& job) {
    if (share(parts, job, [] {})) return;
    for (std::size_t part = 0; part < parts; ++part) job(part, 0U);
  }

  // As above, but false and no call of anything where no helper is idle or there is one part. Otherwise this thread
  // calls `meanwhile` before it does any.
  template <class Job, class Meanwhile>
  [[nodiscard]] bool share(std::size_t parts, const Job& job, const Meanwhile& meanwhile) {
    const Round round{
        [](const void* j, std::size_t part, unsigned worker) { (*static_cast<const Job*>(j))(part, worker); }, &job,
        parts};
    if (!open(round)) return false;
    meanwhile();
    work(0);
    close();
    return true;
  }

  // How many workers' numbers `run` and `share` may use.
  [[nodiscard]] unsigned workers() const { return 1 + started_; }

 private:
  struct Round {
    void (*call)(const void* job, std::size_t part, unsigned worker) = nullptr;
    const void* job = nullptr;
    std::size_t parts = 0;
  };
  struct Helper {
    Crew* crew = nullptr;
    unsigned worker = 0;
    SmallThread thread{};
  };
  static constexpr std::uint32_t kOpen = 1U << 31;

  // Begins a round that helpers may join, where they are nobody's; and waits until they are done.
  [[nodiscard]] bool open(const Round& round);
  void close();
  void work(unsigned worker);
  void help(unsigned worker);

  std::mutex busy_;  // held while the helpers are somebody's
  Round round_;
  std::atomic<std::size_t> next_{0};  // the next part that nobody has
  // kOpen while a helper may join in, plus those that have; the two fields above are theirs to read until it is 0.
  std::atomic<std::uint32_t> gate_{0};
  std::atomic<std::uint32_t> rounds_{0};  // what helpers sleep on
  std::atomic<bool> stopping_{false};
  unsigned started_ = 0;
  std::array<Helper, kMostHelpers> helpers_;
};

}  // namespace uzram::nbd
