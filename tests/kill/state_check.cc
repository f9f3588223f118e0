#include "tests/kill/state_check.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <stdexcept>
#include <system_error>

#include "blockdev/recovery.h"
#include "tests/state_whole.h"

namespace uzram::kill {
namespace {

class File {
 public:
  explicit File(int fd) : fd_(fd) {
    if (fd < 0) throw std::system_error(errno, std::generic_category(), "the state");
  }
  ~File() { ::close(fd_); }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  [[nodiscard]] int get() const { return fd_; }

 private:
  const int fd_;
};

void copy(int from, int to) {
  struct stat info {};
  ::fstat(from, &info);
  for (off_t at = 0; at < info.st_size;) {
    if (::sendfile(to, from, &at, static_cast<std::size_t>(info.st_size - at)) <= 0) {
      throw std::system_error(errno, std::generic_category(), "copying the state");
    }
  }
}

}  // namespace

std::map<std::string, DeviceStats> count_state(const std::string& path) {
  const File original(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  const File file(::memfd_create("state", MFD_CLOEXEC));
  copy(original.get(), file.get());
  PageArena arena({.capacity = 1 << 30, .fd = file.get()});
  const auto recovered = recover(arena);
  if (!recovered) throw std::runtime_error(recovered.error().message);
  if (recovered->report.damaged_pages != 0) throw std::runtime_error("the state has damaged pages");
  if (const std::string wrong = testing::check_whole(arena, recovered->devices); !wrong.empty()) {
    throw std::runtime_error(wrong);
  }
  std::map<std::string, DeviceStats> stats;
  for (const auto& device : recovered->devices) stats.emplace(device->options().name, device->stats());
  return stats;
}

}  // namespace uzram::kill
