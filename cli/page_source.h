#pragma once
// The pages of files and block devices, one file after the other, or an even sample of them; for `uzramctl estimate`.
//
// Threads: one at a time.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "blockdev/types.h"

namespace uzram {

class PageSource {
 public:
  // A sample is made of runs of neighbouring pages, as neighbours are alike in what they hold.
  static constexpr std::uint64_t kRunPages = 256;

  // Looks at `most_pages` at most, 1 or more: of larger input at evenly spread runs. Fails, naming the file, where one
  // cannot be opened or is neither a file nor a block device, and where all are empty.
  [[nodiscard]] static Result<PageSource> open(std::span<const std::string> files, std::uint64_t most_pages);
  ~PageSource();
  PageSource(PageSource&& other) noexcept : files_(std::move(other.files_)), runs_(std::move(other.runs_)) {}
  PageSource& operator=(PageSource&&) = delete;

  [[nodiscard]] std::uint64_t total_pages() const;
  [[nodiscard]] std::uint64_t sampled_pages() const;

  // Puts the next pages into `out`, of whole pages, and returns how many: 0 at the end. A file's last page is padded
  // with zeroes. Fails where a file cannot be read or has become shorter.
  [[nodiscard]] Result<std::uint64_t> next(std::span<std::byte> out);

 private:
  struct File {
    std::string path;
    int descriptor = -1;
    std::uint64_t bytes = 0;
    std::uint64_t first = 0;  // the number of its first page in the whole
    [[nodiscard]] std::uint64_t pages() const { return (bytes + kPageSize - 1) / kPageSize; }
  };
  struct Run {
    std::uint64_t first = 0;
    std::uint64_t pages = 0;
  };

  PageSource() = default;
  [[nodiscard]] Result<void> add(const std::string& path);
  void choose_runs(std::uint64_t most_pages);
  [[nodiscard]] static Result<void> read_pages(const File& file, std::uint64_t page, std::span<std::byte> out);

  std::vector<File> files_;
  std::vector<Run> runs_;  // what is still to be read, the next one last
};

}  // namespace uzram
