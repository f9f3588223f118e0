#include "cli/state_file.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace uzram {
namespace {

constexpr mode_t kMode = 0600;

tl::unexpected<Error> failed(const std::string& path) { return fail(errno, path + ": " + std::strerror(errno)); }

// A lock of this process: the kernel drops it when the process ends.
bool lock(int fd) {
  struct flock whole {};
  whole.l_type = F_WRLCK;
  whole.l_whence = SEEK_SET;
  return ::fcntl(fd, F_SETLK, &whole) == 0;
}

}  // namespace

Result<StateFile> StateFile::open(const std::string& directory) {
  struct statfs info {};
  if (::statfs(directory.c_str(), &info) != 0) return failed(directory);
  if (info.f_type != TMPFS_MAGIC) return fail(EINVAL, directory + ": not in a tmpfs; a state is memory");
  const std::string path = directory + "/uzram.state";
  int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW);
  const bool is_new = fd < 0 && errno == ENOENT;
  if (is_new) fd = ::open(directory.c_str(), O_RDWR | O_TMPFILE | O_CLOEXEC, kMode);
  if (fd < 0) return failed(path);
  StateFile state(fd, path, is_new);
  struct stat file {};
  if (::fstat(fd, &file) != 0) return failed(path);
  if (!S_ISREG(file.st_mode)) return fail(EINVAL, path + ": not a file");
  if (!lock(fd)) return fail(EBUSY, path + ": another process serves it");
  return state;
}

Result<void> StateFile::keep() {
  if (!is_new_) return {};
  const std::string self = "/proc/self/fd/" + std::to_string(fd_);
  if (::linkat(AT_FDCWD, self.c_str(), AT_FDCWD, path_.c_str(), AT_SYMLINK_FOLLOW) != 0) return failed(path_);
  is_new_ = false;
  return {};
}

StateFile::StateFile(StateFile&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)), path_(std::move(other.path_)), is_new_(other.is_new_) {}

StateFile::~StateFile() {
  if (fd_ >= 0) ::close(fd_);
}

}  // namespace uzram
