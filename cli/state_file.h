#pragma once
// The file that holds what is stored, where it is to outlive the process: DIR/uzram.state in a tmpfs folder, which is
// memory. One process serves it at a time: it holds a lock that ends with it, however it ends.
//
// Threads: one.

#include <string>

#include "blockdev/types.h"

namespace uzram {

class StateFile {
 public:
  // The folder's state, or an empty file that becomes it with `keep`. Fails with one line where the folder is missing
  // or not in memory, or another process serves the state.
  [[nodiscard]] static Result<StateFile> open(const std::string& directory);
  StateFile(StateFile&& other) noexcept;
  StateFile& operator=(StateFile&&) = delete;
  ~StateFile();

  [[nodiscard]] int fd() const { return fd_; }

  // Gives a new file its name, so that a process that ends before leaves nothing behind. No effect on an old one.
  [[nodiscard]] Result<void> keep();

 private:
  StateFile(int fd, std::string path, bool is_new) : fd_(fd), path_(std::move(path)), is_new_(is_new) {}
  int fd_;
  std::string path_;
  bool is_new_;
};

}  // namespace uzram
