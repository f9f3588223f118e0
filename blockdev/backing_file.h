#pragma once
// The file or disk that written-back pages go to, in blocks of one page; block 0 is its header. One daemon has one, for
// all of its devices. What it holds means nothing without the slots that point into it, and ends with the process.
//
// Pages are read and written without the kernel's page cache where the filesystem can do that: the page cache would
// take the memory that is to be freed.
//
// Threads: everything may be called from any thread.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "blockdev/fd.h"
#include "blockdev/types.h"

namespace uzram {

class BackingFile {
 public:
  // Opens a disk or a regular file, and locks it. `size`: bytes, of which so many are used, and which a file is given,
  // one that is not there yet too; 0: what there is. Fails where a file, or the first 128 KiB of a disk,
  // holds anything but zeroes or what a daemon has left there, which the error says: nothing is overwritten.
  [[nodiscard]] static Result<std::unique_ptr<BackingFile>> open(const std::string& path, std::uint64_t size);
  // A regular file is emptied, and keeps its size.
  ~BackingFile();
  BackingFile(const BackingFile&) = delete;
  BackingFile& operator=(const BackingFile&) = delete;

  // The lowest blocks that are free, as many as lie beside each other: at least one and at most `most`, or count 0
  // where the file is full.
  struct Run {
    std::uint32_t first = 0;
    std::uint32_t count = 0;
  };
  [[nodiscard]] Run allocate(std::uint32_t most);
  void free(Run run);

  // Whole blocks from `first` on, in memory that begins at a multiple of kPageSize. An errno value, or 0.
  [[nodiscard]] int write(std::uint32_t first, std::span<const std::byte> pages) const;
  [[nodiscard]] int read(std::uint32_t first, std::span<std::byte> pages) const;

  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  BackingFile(std::string path, Fd fd, bool regular, std::uint32_t blocks);

  const std::string path_;
  const Fd fd_;
  const bool regular_;
  const std::uint32_t blocks_;  // with the header
  std::mutex mutex_;
  std::vector<bool> used_;  // guarded by mutex_
  std::uint32_t next_ = 1;  // guarded by mutex_; below it all are used
};

}  // namespace uzram
