#pragma once
// The control endpoint: HTTP/1.1 on a unix socket, for root, this user and the members of the server's group.
//
//     GET    /v1/devices                 {"devices": [...]}
//     POST   /v1/devices                 creates a device: {"name", "size", "algorithm", "mem_limit", "chain", "check"}
//     GET    /v1/devices/NAME            one device
//     DELETE /v1/devices/NAME            removes it
//     GET    /v1/devices/NAME/ATTR       the bytes that zram's attribute gives
//     POST   /v1/devices/NAME/fence      ends the NBD connections to it, after the requests that have arrived on them
//     PUT    /v1/devices/NAME/ATTR       writes zram's attribute; the body is the value
//     GET    /v1/devices/NAME/classes    the classes table; ?format=kernel-6 or ?format=json for other forms
//     GET    /metrics                    OpenMetrics text
//
// An error is {"error": "one line"} under 400 (a wrong value), 403 (the attribute goes the other way only, or the
// caller is somebody else, whatever the socket's mode has become), 404 (unknown), 409 (exists or in use), 411, 413, 415
// (a body of no stated length, too long, encoded), 507 (no memory).
//
// Threads: start, stop and the destructor belong to one thread. Requests run in two threads of the endpoint's own, and
// take no lock that reads and writes of a device take for longer than a line of its statistics needs.

#include <memory>
#include <optional>
#include <string>

#include "blockdev/device_table.h"
#include "blockdev/nbd/server.h"

namespace uzram {

class ControlEndpoint {
 public:
  // Listens; callers wait in the backlog until start. `devices` and their `server` outlive it; `swap_safe` is what it
  // says of them. It takes the socket that it inherited, if there is one. The error is nbd::UnixListener's.
  [[nodiscard]] static Result<std::unique_ptr<ControlEndpoint>> listen(
      DeviceTable& devices, nbd::Server& server, const std::string& path, bool swap_safe,
      std::optional<nbd::UnixListener>&& inherited = {});
  ~ControlEndpoint();

  // The socket it listens on, until `stop`.
  [[nodiscard]] int fd() const;

  void start();
  // Between the two no request changes anything, or is answered.
  void pause();
  void resume();
  // Answers the requests in flight and removes the socket.
  void stop();

 private:
  struct State;
  explicit ControlEndpoint(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace uzram
