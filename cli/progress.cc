#include "cli/progress.h"

#include <unistd.h>

#include <cstdio>

namespace uzram {
namespace {

using std::chrono::steady_clock;
constexpr std::chrono::seconds kQuiet{1};
constexpr std::chrono::milliseconds kInterval{200};
constexpr const char* kClearLine = "\r\033[K";

}  // namespace

Progress::Progress(std::string what) : what_(std::move(what)) {
  if (::isatty(STDERR_FILENO) != 0) thread_ = std::thread([this] { draw(); });
}

Progress::~Progress() {
  if (!thread_.joinable()) return;
  {
    const std::scoped_lock lock(mutex_);
    ended_ = true;
  }
  end_.notify_one();
  thread_.join();
  if (drawn_) std::fputs(kClearLine, stderr);
}

void Progress::draw() {
  const auto start = steady_clock::now();
  std::unique_lock lock(mutex_);
  auto pause = std::chrono::milliseconds(kQuiet);
  while (!end_.wait_for(lock, pause, [this] { return ended_; })) {
    show(std::chrono::duration_cast<std::chrono::seconds>(steady_clock::now() - start));
    pause = kInterval;
  }
}

void Progress::show(std::chrono::seconds elapsed) {
  std::fprintf(stderr, "%s%s: ", kClearLine, what_.c_str());
  if (const double part = part_; part >= 0) std::fprintf(stderr, "%.0f%%, ", 100 * part);
  std::fprintf(stderr, "%lld s", static_cast<long long>(elapsed.count()));
  drawn_ = true;
}

}  // namespace uzram
