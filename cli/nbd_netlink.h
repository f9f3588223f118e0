#pragma once
// The kernel's nbd driver over generic netlink: ties a block device to sockets that have finished NBD's handshake.
// Not the handshake (nbd_sockets.h), nor what is done with the block device (attach.h).
//
// Errors carry the kernel's errno and one line. Calls block only as long as the kernel takes to answer.
//
// Threads: an object belongs to one thread at a time.

#include <chrono>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "blockdev/types.h"

struct nl_sock;

namespace uzram {

struct NetlinkCloser {
  void operator()(nl_sock* socket) const;
};
using NetlinkPtr = std::unique_ptr<nl_sock, NetlinkCloser>;

// What the kernel is told about a device. The device number is N of /dev/nbdN.
struct NbdConnection {
  unsigned number = 0;
  std::uint64_t size = 0;           // bytes, a multiple of block_size
  std::uint64_t block_size = 4096;  // bytes; requests are multiples of it
  std::uint64_t flags = 0;          // NBD's transmission flags, as the server sent them
  // After this a request is sent again on another connection. A server's death closes the socket and needs no
  // timeout; a short one makes the kernel resend while a slow server still executes the old request over newer data.
  std::chrono::seconds request_timeout{60};
  std::string backend;  // what is behind the device: a reconnect has to name the same
};

class NbdNetlink {
 public:
  // ENOENT where the nbd module is not loaded.
  [[nodiscard]] static Result<NbdNetlink> open();

  // Takes the sockets into use; the caller closes its own descriptors. Without any connection left, I/O fails at
  // once until set_patience says otherwise. EBUSY for a device in use, EPERM without CAP_SYS_ADMIN.
  [[nodiscard]] Result<void> connect(const NbdConnection& connection, std::span<const int> sockets);

  // How long I/O waits for a reconnect after the last connection has died.
  [[nodiscard]] Result<void> set_patience(unsigned number, const std::string& backend, std::chrono::seconds patience);

  // As NbdConnection::request_timeout. With 0 a device of one connection sends no request again, whatever happens,
  // until it is set to something else; every request then finds out when `look` has passed, at the most.
  [[nodiscard]] Result<void> set_request_timeout(unsigned number, const std::string& backend,
                                                 std::chrono::seconds timeout, std::chrono::milliseconds look);

  // Replaces dead connections by the sockets, as many as there are; the rest of either is left alone. EINVAL where
  // the device is not connected or `backend` is another than at connect.
  [[nodiscard]] Result<void> reconnect(unsigned number, const std::string& backend, std::span<const int> sockets);

  // All I/O on it fails from now on; what waits for a daemon, too.
  [[nodiscard]] Result<void> disconnect(unsigned number);

  // Returns when a disconnected device can be connected again. EBUSY where somebody has it open still.
  [[nodiscard]] static Result<void> wait_until_free(unsigned number);

 private:
  NbdNetlink(NetlinkPtr socket, int family) : socket_(std::move(socket)), family_(family) {}

  NetlinkPtr socket_;
  int family_;
};

// The deaths of connections, as the kernel tells them. Open it before the state is asked for, so that none is missed.
class NbdDeaths {
 public:
  [[nodiscard]] static Result<NbdDeaths> open();

  // Readable when a death is waiting.
  [[nodiscard]] int fd() const;

  // The number of connections of device `number` that died since the last call.
  [[nodiscard]] unsigned take(unsigned number);

 private:
  explicit NbdDeaths(NetlinkPtr socket) : socket_(std::move(socket)) {}

  NetlinkPtr socket_;
};

}  // namespace uzram
