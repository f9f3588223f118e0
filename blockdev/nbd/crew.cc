#include "blockdev/nbd/crew.h"

#include <sched.h>

#include <algorithm>
#include <chrono>

namespace uzram::nbd {
namespace {

using Clock = std::chrono::steady_clock;

// How long a helper without work stays awake: the next request of a client that has several in flight comes sooner,
// and a virtual machine takes about as long to wake a processor.
constexpr std::chrono::microseconds kHelperAwake{20};

}  // namespace

void Crew::start(unsigned helpers) {
  const auto body = [](void* argument) -> void* {
    const auto& helper = *static_cast<Helper*>(argument);
    helper.crew->help(helper.worker);
    return nullptr;
  };
  for (const unsigned most = std::min(helpers, kMostHelpers); started_ < most; ++started_) {
    Helper& helper = helpers_[started_];
    helper.crew = this;
    helper.worker = started_ + 1;
    if (!helper.thread.start(body, &helper)) return;
  }
}

Crew::~Crew() {
  stopping_ = true;
  rounds_.fetch_add(1);
  rounds_.notify_all();
  for (unsigned i = 0; i < started_; ++i) helpers_[i].thread.join();
}

bool Crew::open(const Round& round) {
  if (round.parts < 2 || started_ == 0 || !busy_.try_lock()) return false;
  round_ = round;
  next_.store(0, std::memory_order_relaxed);
  gate_.store(kOpen, std::memory_order_release);
  rounds_.fetch_add(1, std::memory_order_release);
  rounds_.notify_all();
  return true;
}

void Crew::close() {
  // A helper that is not here yet comes too late: nothing is left, and nobody waits for it.
  std::uint32_t inside = gate_.fetch_and(~kOpen, std::memory_order_acquire) & ~kOpen;
  while (inside != 0) {
    gate_.wait(inside, std::memory_order_acquire);
    inside = gate_.load(std::memory_order_acquire);
  }
  busy_.unlock();
}

void Crew::work(unsigned worker) {
  for (std::size_t part = 0; (part = next_.fetch_add(1, std::memory_order_relaxed)) < round_.parts;)
    round_.call(round_.job, part, worker);
}

void Crew::help(unsigned worker) {
  for (std::uint32_t seen = 0;;) {
    const auto end = Clock::now() + kHelperAwake;
    while (rounds_.load(std::memory_order_acquire) == seen && Clock::now() < end) sched_yield();
    rounds_.wait(seen, std::memory_order_acquire);
    seen = rounds_.load(std::memory_order_acquire);
    if (stopping_) return;
    std::uint32_t gate = gate_.load(std::memory_order_relaxed);
    while ((gate & kOpen) != 0) {
      if (!gate_.compare_exchange_weak(gate, gate + 1, std::memory_order_acquire)) continue;
      work(worker);
      if (gate_.fetch_sub(1, std::memory_order_release) == 1) gate_.notify_one();
      break;
    }
  }
}

}  // namespace uzram::nbd
