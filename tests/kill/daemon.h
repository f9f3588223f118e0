#pragma once
// A uzramd of its own on a state, and its clients' handles.
//
// Threads: one, but for `kill`.

#include <libnbd.h>
#include <sys/types.h>

#include <memory>
#include <span>
#include <string>

#include "cli/control_client.h"

namespace uzram::kill {

class Daemon {
 public:
  // Starts `program` on the state in `directory`, where its sockets and its log are too.
  Daemon(const std::string& program, const std::string& directory, std::uint64_t size);
  ~Daemon();
  Daemon(const Daemon&) = delete;
  Daemon& operator=(const Daemon&) = delete;

  // Waits until it serves; throws where it ends instead.
  void wait_ready();
  // SIGKILL, whatever it is at; from any thread.
  void kill() const;
  // Returns when the process is gone.
  void wait_gone();

  [[nodiscard]] ControlClient control() const { return ControlClient(directory_ + "/control.sock"); }
  [[nodiscard]] std::string uri(const std::string& device) const {
    return "nbd+unix:///" + device + "?socket=" + directory_ + "/nbd.sock";
  }

 private:
  [[noreturn]] void exec(const std::string& program, std::uint64_t size, int out) const;

  const std::string directory_;
  pid_t pid_ = -1;
  int out_ = -1;  // its standard output
};

struct CloseNbd {
  void operator()(nbd_handle* h) const { nbd_close(h); }
};
using Nbd = std::unique_ptr<nbd_handle, CloseNbd>;

// A connection, or null where the daemon is dead.
[[nodiscard]] Nbd connect(const std::string& uri);

// Reads the range; false where the daemon is dead. Throws where it answers with an error.
[[nodiscard]] bool read_all(nbd_handle* nbd, std::uint64_t offset, std::span<std::byte> out);

}  // namespace uzram::kill
