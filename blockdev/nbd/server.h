#pragma once
// The NBD server: listening sockets, a thread for each connection, and a clean stop.
//
// Threads: start, stop and the destructor belong to one thread; the rest to any.

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "allocator/image.h"
#include "blockdev/device_table.h"
#include "blockdev/nbd/access.h"
#include "blockdev/nbd/listener.h"
#include "blockdev/nbd/tls_credentials.h"
#include "blockdev/types.h"

namespace uzram::nbd {

// A server for up to `max_connections` clients. When they are that many, a new one takes the place of the oldest that
// is still in its handshake, and is refused where there is none.
struct ServerOptions {
  std::string unix_path = {};              // empty: no unix socket
  std::optional<gid_t> group = {};         // whose members may connect to it, too
  std::optional<std::uint16_t> port = {};  // TCP; 0 takes a free port
  std::string host = "127.0.0.1";          // what TCP listens on
  TlsOptions tls = {};
  AccessRules access = {};
  unsigned max_connections = 128;
  std::chrono::milliseconds handshake_timeout{10'000};  // for all of it
  // Told one line for each connection that fails; called from any thread, and does not throw; may be empty.
  std::function<void(std::string_view)> log = {};
};

class Server {
 public:
  // Binds and listens; clients wait in the backlog until start. `devices` outlives the server. Fails with one line
  // that names the address and why: a path that exists (a socket that nobody answers is taken over), is too long or
  // lies in a folder that is missing; a port in use; keys or certificates that are not right. Of `inherited` it takes
  // what is there instead of making it.
  [[nodiscard]] static Result<std::unique_ptr<Server>> listen(DeviceTable& devices, const ServerOptions& options,
                                                              Listeners&& inherited = {});
  ~Server();

  // Accepts and serves from now on, in threads of its own. Throws std::system_error where there is none to be had.
  void start();

  // Stops accepting, removes the sockets, answers what clients have sent, closes every connection. Returns when all
  // of it is done, after kStopSeconds and what the device's operations under way take at the most.
  void stop();

  // Makes every connection stand still between two requests, and accepts none, for another process to go on from there.
  // False, and everything goes on, where that takes longer than twice `patience`: a client does not take its reply.
  [[nodiscard]] bool pause(std::chrono::milliseconds patience);
  void resume();
  // While it pauses: what the other process needs, and the clients' sockets behind `sockets`. Clients in their
  // handshake and encrypted ones are not among them.
  void save(ImageWriter& image, std::vector<int>& sockets) const;
  // The other process, before `start`: takes the clients over, which stand still until then.
  [[nodiscard]] Result<void> load(ImageReader& image, std::vector<Fd> sockets);

  // Whose members may connect to unix sockets.
  [[nodiscard]] std::optional<gid_t> group() const;

  // The sockets it listens on, until `stop`; -1 where there is no unix socket.
  [[nodiscard]] int unix_fd() const;
  [[nodiscard]] std::vector<int> tcp_fds() const;

  // The URIs of an export, one for each socket it is served on, unix first; nbds for one that requires TLS.
  [[nodiscard]] std::vector<std::string> uris(std::string_view export_name) const;

  // Closes every connection that serves the device now, after the requests that have arrived on it are executed and
  // answered: what a client sends again on another connection cannot be overtaken by its first copy. ENODEV for an
  // unknown device. Takes as long as stop at the most.
  [[nodiscard]] Result<void> fence(std::string_view name);

  // Connections being served now.
  [[nodiscard]] unsigned connections() const;

  static constexpr int kStopSeconds = 5;

 private:
  struct State;
  explicit Server(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace uzram::nbd
