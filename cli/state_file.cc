#include "cli/state_file.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>

namespace uzram {
namespace {

constexpr mode_t kMode = 0600;
constexpr char kNoName[] = "the state";

// A lock of this process: the kernel drops it when the process ends.
bool lock(int fd, short type = F_WRLCK) {
  struct flock whole {};
  whole.l_type = type;
  whole.l_whence = SEEK_SET;
  return ::fcntl(fd, F_SETLK, &whole) == 0;
}

tl::unexpected<Error> served(const std::string& path) { return fail(EBUSY, path + ": another process serves it"); }

}  // namespace

std::string state_path(const std::string& directory) { return directory + "/uzram.state"; }

Result<StateFile> StateFile::open(const std::string& directory) {
  struct statfs info {};
  if (::statfs(directory.c_str(), &info) != 0) return fail_errno(directory);
  if (info.f_type != TMPFS_MAGIC) return fail(EINVAL, directory + ": not in a tmpfs; a state is memory");
  const std::string path = state_path(directory);
  nbd::Fd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW));
  const bool is_new = !fd.valid() && errno == ENOENT;
  if (is_new) fd = nbd::Fd(::open(directory.c_str(), O_RDWR | O_TMPFILE | O_CLOEXEC, kMode));
  if (!fd.valid()) return fail_errno(path);
  struct stat file {};
  if (::fstat(fd.get(), &file) != 0) return fail_errno(path);
  if (!S_ISREG(file.st_mode)) return fail(EINVAL, path + ": not a file");
  if (!lock(fd.get())) return served(path);
  return StateFile(std::move(fd), path, is_new);
}

Result<StateFile> StateFile::make() {
  nbd::Fd fd(::memfd_create("uzram", MFD_CLOEXEC));
  if (!fd.valid() || !lock(fd.get())) return fail_errno(kNoName);
  return StateFile(std::move(fd), kNoName, false);
}

Result<StateFile> StateFile::adopt(nbd::Fd fd) {
  if (!lock(fd.get())) return served(kNoName);
  return StateFile(std::move(fd), kNoName, false);
}

void StateFile::unlock() const { (void)lock(fd_.get(), F_UNLCK); }

Result<void> StateFile::relock() const {
  if (lock(fd_.get())) return {};
  return served(path_);
}

Result<void> StateFile::keep() {
  if (!is_new_) return {};
  const std::string self = "/proc/self/fd/" + std::to_string(fd_.get());
  if (::linkat(AT_FDCWD, self.c_str(), AT_FDCWD, path_.c_str(), AT_SYMLINK_FOLLOW) != 0) return fail_errno(path_);
  is_new_ = false;
  return {};
}

}  // namespace uzram
