#include "blockdev/backing_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <optional>
#include <string_view>
#include <utility>

#include "allocator/ensure.h"
#include "blockdev/slot.h"

namespace uzram {
namespace {

constexpr std::string_view kMagic = "uzram backing 1\n";
// The signatures of filesystems, volume managers and partition tables lie before here.
constexpr std::size_t kProbed = 128 << 10;
constexpr std::uint64_t kMaxBlocks = std::uint64_t{1} << SlotValue::kBlockBits;

// Moves all of it, in as many calls as that takes. The end of the file is an I/O error: every block lies before it.
template <class Call, class Byte>
int move_all(Call call, int fd, std::span<Byte> bytes, std::uint64_t at) {
  while (!bytes.empty()) {
    const ssize_t n = call(fd, bytes.data(), bytes.size(), static_cast<off_t>(at));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return n < 0 ? errno : EIO;
    bytes = bytes.subspan(static_cast<std::size_t>(n));
    at += static_cast<std::uint64_t>(n);
  }
  return 0;
}

// Where the file, from `at` on, has something else than a hole; nothing where it has not, or an errno value.
tl::expected<std::optional<std::uint64_t>, int> next_data(int fd, std::uint64_t at) {
  const off_t data = ::lseek(fd, static_cast<off_t>(at), SEEK_DATA);
  if (data >= 0) return static_cast<std::uint64_t>(data);
  if (errno == ENXIO) return std::nullopt;
  if (errno == EINVAL) return at;  // this filesystem cannot tell
  return tl::unexpected(errno);
}

// All of a file is looked at; of a disk, where whatever has a signature would have it.
Result<void> check_contents(int fd, const std::string& path, std::uint64_t end, bool disk) {
  std::vector<std::byte> piece(kProbed);
  for (std::uint64_t at = 0; at < (disk ? std::min<std::uint64_t>(end, kProbed) : end);) {
    piece.resize(std::min<std::uint64_t>(end - at, kProbed));
    if (const int error = move_all(::pread, fd, std::span(piece), at); error != 0) return fail_errno(path, error);
    const bool ours =
        at == 0 && piece.size() >= kMagic.size() && std::memcmp(piece.data(), kMagic.data(), kMagic.size()) == 0;
    if (ours) return {};
    if (std::any_of(piece.begin(), piece.end(), [](std::byte b) { return b != std::byte{0}; })) {
      return fail(EEXIST, path + " holds something, which would be overwritten: empty it first");
    }
    at += piece.size();
    if (disk) continue;
    const auto next = next_data(fd, at);
    if (!next) return fail_errno(path, next.error());
    at = next->value_or(end);
  }
  return {};
}

tl::unexpected<Error> too_small(const std::string& path) {
  return fail(EINVAL, path + ": its size is at least 8K, a block for its header and one for a page");
}

Result<void> lock(int fd, const std::string& path) {
  if (::flock(fd, LOCK_EX | LOCK_NB) == 0) return {};
  return errno == EWOULDBLOCK ? fail(EBUSY, path + " is used by another process") : fail_errno(path);
}

Result<void> write_header(int fd, const std::string& path) {
  alignas(kPageSize) std::array<std::byte, kPageSize> header{};
  std::memcpy(header.data(), kMagic.data(), kMagic.size());
  const auto write = [&] { return move_all(::pwrite, fd, std::span<const std::byte>(header), 0); };
  // Some filesystems refuse the flag, some take it and refuse the I/O: there the page cache takes part.
  int error = ::fcntl(fd, F_SETFL, O_DIRECT) == 0 ? write() : EINVAL;
  if (error == EINVAL) error = ::fcntl(fd, F_SETFL, 0) == 0 ? write() : errno;
  return error == 0 ? Result<void>{} : fail_errno(path, error);
}

}  // namespace

Result<std::unique_ptr<BackingFile>> BackingFile::open(const std::string& path, std::uint64_t size) {
  struct stat info {};
  const bool exists = ::stat(path.c_str(), &info) == 0;
  if (!exists && errno != ENOENT) return fail_errno(path);
  const bool disk = exists && S_ISBLK(info.st_mode);
  if (exists && !disk && !S_ISREG(info.st_mode)) return fail(ENOTBLK, path + " is neither a file nor a disk");
  if (!exists && size == 0) return fail(ENOENT, path + " is not there, and no size is given to make it with");
  if (size != 0 && size < 2 * kPageSize) return too_small(path);
  // A disk that is mounted, or another's in other ways, is refused.
  Fd file(::open(path.c_str(), O_RDWR | O_CLOEXEC | (disk ? O_EXCL : O_CREAT), 0600));
  if (!file.valid()) return fail_errno(path);
  if (auto locked = lock(file.get(), path); !locked) return tl::unexpected(locked.error());
  const off_t end = ::lseek(file.get(), 0, SEEK_END);
  if (end < 0) return fail_errno(path);
  const auto there = static_cast<std::uint64_t>(end);
  if (auto free = check_contents(file.get(), path, there, disk); !free) return tl::unexpected(free.error());
  if (disk && size > there) return fail(EINVAL, path + " has " + std::to_string(there) + " bytes only");
  const std::uint64_t blocks = std::min((size == 0 ? there : size) / kPageSize, kMaxBlocks);
  if (blocks < 2) return too_small(path);
  const bool is_right = disk || blocks * kPageSize == there;
  if (!is_right && ::ftruncate(file.get(), static_cast<off_t>(blocks * kPageSize)) != 0) return fail_errno(path);
  if (auto written = write_header(file.get(), path); !written) return tl::unexpected(written.error());
  return std::unique_ptr<BackingFile>(
      new BackingFile(path, std::move(file), !disk, static_cast<std::uint32_t>(blocks)));
}

BackingFile::BackingFile(std::string path, Fd fd, bool regular, std::uint32_t blocks)
    : path_(std::move(path)), fd_(std::move(fd)), regular_(regular), blocks_(blocks), used_(blocks) {
  used_[0] = true;
}

BackingFile::~BackingFile() {
  // What was stored in memory is not left behind. The size stays: it may be what the next daemon goes by.
  if (regular_ && ::ftruncate(fd_.get(), 0) == 0) (void)::ftruncate(fd_.get(), static_cast<off_t>(blocks_ * kPageSize));
}

BackingFile::Run BackingFile::allocate(std::uint32_t most) {
  const std::scoped_lock lock(mutex_);
  auto first = std::find(used_.begin() + next_, used_.end(), false);
  Run run{static_cast<std::uint32_t>(first - used_.begin()), 0};
  while (run.count < most && first != used_.end() && !*first) {
    *first++ = true;
    ++run.count;
  }
  next_ = run.first + run.count;
  return run;
}

void BackingFile::free(Run run) {
  ensure(run.first != 0 && run.first < blocks_ && run.count <= blocks_ - run.first,
         "a freed block is one of the file's");
  const std::scoped_lock lock(mutex_);
  std::fill_n(used_.begin() + run.first, run.count, false);
  next_ = std::min(next_, run.first);
}

int BackingFile::write(std::uint32_t first, std::span<const std::byte> pages) const {
  return move_all(::pwrite, fd_.get(), pages, std::uint64_t{first} * kPageSize);
}

int BackingFile::read(std::uint32_t first, std::span<std::byte> pages) const {
  return move_all(::pread, fd_.get(), pages, std::uint64_t{first} * kPageSize);
}

}  // namespace uzram
