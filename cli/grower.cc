#include "cli/grower.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <string_view>

namespace uzram {
namespace {

constexpr std::chrono::milliseconds kRetry{10};  // while the machine has nothing to spare

// The number behind `label`, 0 where there is none. Takes no memory.
std::uint64_t figure(int fd, std::string_view label) {
  std::array<char, 512> text{};
  const ssize_t length = pread(fd, text.data(), text.size(), 0);
  std::string_view left(text.data(), length > 0 ? static_cast<std::size_t>(length) : 0);
  const auto at = left.find(label);
  if (at == std::string_view::npos) return 0;
  left.remove_prefix(at + label.size());
  left.remove_prefix(std::min(left.find_first_not_of(' '), left.size()));
  std::uint64_t value = 0;
  std::from_chars(left.data(), left.data() + left.size(), value);
  return value;
}

nbd::Fd open_to_read(const char* path) { return nbd::Fd(open(path, O_RDONLY | O_CLOEXEC)); }

}  // namespace

Grower::Grower(PageArena& arena)
    : arena_(arena),
      meminfo_(open_to_read("/proc/meminfo")),
      min_free_(open_to_read("/proc/sys/vm/min_free_kbytes")),
      thread_([this] { run(); }) {}

Grower::~Grower() {
  arena_.stop_ahead();
  thread_.join();
}

// Under pressure the kernel leaves vm.min_free_kbytes (which attach may have raised meanwhile) to those who free
// memory. A realtime thread is given the last quarter of it without reclaiming anything, and this one takes an eighth:
// what it takes lets go of more than that.
bool Grower::may_grow() const { return figure(meminfo_.get(), "MemFree:") >= figure(min_free_.get(), "") * 7 / 8; }

void Grower::run() {
  while (arena_.wait_until_low()) {
    if (!may_grow() || !arena_.grow_ahead()) std::this_thread::sleep_for(kRetry);
  }
}

}  // namespace uzram
