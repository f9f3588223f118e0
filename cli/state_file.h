#pragma once
// The file that holds what is stored, where it is to outlive the process: DIR/uzram.state in a tmpfs folder, or one
// without a name that another process holds open too (cli/fd_store.h). Either is memory. One process serves it at a
// time: it holds a lock that ends with it, however it ends.
//
// Threads: one.

#include <string>
#include <utility>

#include "blockdev/nbd/connection.h"
#include "blockdev/types.h"

namespace uzram {

// Where the state of this folder is.
[[nodiscard]] std::string state_path(const std::string& directory);

class StateFile {
 public:
  // The folder's state, or an empty file that becomes it with `keep`. Fails with one line where the folder is missing
  // or not in memory, or another process serves the state.
  [[nodiscard]] static Result<StateFile> open(const std::string& directory);
  // An empty one without a name. Fails where the system has no memory for it.
  [[nodiscard]] static Result<StateFile> make();
  // One that was made by an earlier process. EBUSY where another one serves it.
  [[nodiscard]] static Result<StateFile> adopt(nbd::Fd fd);
  StateFile(StateFile&& other) noexcept = default;
  StateFile& operator=(StateFile&&) = delete;
  ~StateFile() = default;

  [[nodiscard]] int fd() const { return fd_.get(); }

  // Lets another process serve it, and takes it back: EBUSY where another one does.
  void unlock() const;
  [[nodiscard]] Result<void> relock() const;

  // Gives a new file its name, so that a process that ends before leaves nothing behind. No effect on an old one.
  [[nodiscard]] Result<void> keep();

 private:
  StateFile(nbd::Fd fd, std::string path, bool is_new) : fd_(std::move(fd)), path_(std::move(path)), is_new_(is_new) {}
  // The only descriptor of the file in this process: when another one is closed, the lock is lost.
  nbd::Fd fd_;
  std::string path_;
  bool is_new_;  // and to be named
};

}  // namespace uzram
