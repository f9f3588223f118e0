#pragma once
// The other end of sd_notify(3): what a child of ours says, and the descriptors that come with it.
//
// Threads: one.

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "blockdev/nbd/connection.h"

namespace uzram {

struct Notification {
  std::string text;
  std::vector<nbd::Fd> fds;

  // The line VARIABLE=value: its value, or nothing.
  [[nodiscard]] std::optional<std::string> value(const std::string& variable) const;
};

class NotifySocket {
 public:
  // Throws std::system_error where there is no socket to be had.
  NotifySocket();

  [[nodiscard]] int fd() const { return fd_.get(); }
  // For $NOTIFY_SOCKET.
  [[nodiscard]] const std::string& name() const { return name_; }

  // The next message of this process; those of others are thrown away. Nothing where there is none.
  [[nodiscard]] std::optional<Notification> receive(pid_t from);

 private:
  struct Received {
    Notification message;
    pid_t from = -1;
  };
  [[nodiscard]] std::optional<Received> receive_any();

  nbd::Fd fd_;
  std::string name_;
};

}  // namespace uzram
