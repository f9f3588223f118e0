#pragma once
// The sockets a server listens on: one unix socket, and TCP on every address of a host.
//
// Threads: a value; one thread at a time.

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "blockdev/nbd/connection.h"
#include "blockdev/types.h"

namespace uzram::nbd {

// A listening unix socket; its file goes with it.
class UnixListener {
 public:
  // Mode 0600; with a group, 0660 and the group's. A socket file that nobody answers is taken over; the error names the
  // path and why otherwise.
  [[nodiscard]] static Result<UnixListener> listen(const std::string& path, std::optional<gid_t> group = {});
  // Whether the socket has this path, and its file is there.
  [[nodiscard]] static bool is_at(const Fd& fd, const std::string& path);
  // A socket that listens already, and has this path; nothing where it is another.
  [[nodiscard]] static std::optional<UnixListener> adopt(Fd fd, const std::string& path);
  // One that another program made and removes, with its path.
  [[nodiscard]] static std::pair<UnixListener, std::string> borrow(Fd fd);
  UnixListener(UnixListener&&) noexcept = default;
  UnixListener& operator=(UnixListener&&) = delete;
  // Removes the file, unless it is borrowed or another has taken its place.
  ~UnixListener();

  [[nodiscard]] int fd() const { return fd_.get(); }

 private:
  UnixListener(Fd fd, std::string path);

  Fd fd_;
  std::string path_;  // empty where the file is not ours
  dev_t device_ = 0;
  ino_t inode_ = 0;
};

struct TcpListeners {
  std::vector<Fd> fds = {};
  std::uint16_t port = 0;

  // Every address that `host` stands for, on one port; 0 takes a free one. The error names host, port and why.
  [[nodiscard]] static Result<TcpListeners> listen(const std::string& host, std::uint16_t port);
  // Sockets that listen already.
  [[nodiscard]] static TcpListeners adopt(std::vector<Fd> fds);
};

// All that a server listens on, where it was made before the server.
struct Listeners {
  std::optional<UnixListener> unix_socket = {};
  TcpListeners tcp = {};
};

}  // namespace uzram::nbd
