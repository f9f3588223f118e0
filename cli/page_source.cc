#include "cli/page_source.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "allocator/ensure.h"

namespace uzram {

PageSource::~PageSource() {
  for (const File& file : files_) close(file.descriptor);
}

Result<PageSource> PageSource::open(std::span<const std::string> files, std::uint64_t most_pages) {
  ensure(most_pages > 0, "a sample has a page");
  PageSource source;
  for (const std::string& path : files) {
    if (auto added = source.add(path); !added) return tl::unexpected(added.error());
  }
  if (source.total_pages() == 0) return fail(EINVAL, "nothing to estimate: there is no byte in what was named");
  source.choose_runs(most_pages);
  return source;
}

Result<void> PageSource::add(const std::string& path) {
  // Without O_NONBLOCK the opening of a pipe would wait for its writer.
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) return fail_errno(path);
  const std::uint64_t first = total_pages();
  files_.push_back({path, descriptor, 0, first});
  struct stat status {};
  if (fstat(descriptor, &status) != 0) return fail_errno(path);
  if (!S_ISREG(status.st_mode) && !S_ISBLK(status.st_mode)) {
    return fail(EINVAL, path + ": neither a file nor a block device");
  }
  const off_t end = lseek(descriptor, 0, SEEK_END);  // st_size of a block device is 0
  if (end < 0) return fail_errno(path);
  files_.back().bytes = static_cast<std::uint64_t>(end);
  return {};
}

void PageSource::choose_runs(std::uint64_t most_pages) {
  const std::uint64_t total = total_pages();
  if (total <= most_pages) {
    runs_ = {{0, total}};
    return;
  }
  const std::uint64_t pages = std::min(kRunPages, most_pages);
  const std::uint64_t count = most_pages / pages;
  for (std::uint64_t i = count; i-- > 0;) {
    const std::uint64_t first = count == 1 ? 0 : i * (total - pages) / (count - 1);
    runs_.push_back({first, pages});
  }
}

std::uint64_t PageSource::total_pages() const {
  return files_.empty() ? 0 : files_.back().first + files_.back().pages();
}

std::uint64_t PageSource::sampled_pages() const {
  std::uint64_t pages = 0;
  for (const Run& run : runs_) pages += run.pages;
  return pages;
}

Result<std::uint64_t> PageSource::next(std::span<std::byte> out) {
  std::uint64_t done = 0;
  while (done < out.size() / kPageSize && !runs_.empty()) {
    Run& run = runs_.back();
    const auto after = std::ranges::upper_bound(files_, run.first, {}, &File::first);
    // Empty files begin where the next one does, so the last that begins here is the one with the page.
    const File& file = *std::prev(after);
    const std::uint64_t in_file = file.first + file.pages() - run.first;
    const std::uint64_t pages = std::min({run.pages, in_file, out.size() / kPageSize - done});
    const auto part = out.subspan(done * kPageSize, pages * kPageSize);
    if (auto read = read_pages(file, run.first - file.first, part); !read) return tl::unexpected(read.error());
    done += pages;
    run.first += pages;
    run.pages -= pages;
    if (run.pages == 0) runs_.pop_back();
  }
  return done;
}

Result<void> PageSource::read_pages(const File& file, std::uint64_t page, std::span<std::byte> out) {
  const std::uint64_t offset = page * kPageSize;
  const std::size_t bytes = std::min<std::uint64_t>(out.size(), file.bytes - offset);
  std::memset(out.data() + bytes, 0, out.size() - bytes);
  for (std::size_t done = 0; done < bytes;) {
    const ssize_t n = pread(file.descriptor, out.data() + done, bytes - done, static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail_errno(file.path);
    if (n == 0) return fail(EIO, file.path + ": became shorter while it was read");
    done += static_cast<std::size_t>(n);
  }
  return {};
}

}  // namespace uzram
