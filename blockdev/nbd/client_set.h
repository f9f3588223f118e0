#pragma once
// The connections being served, each in a thread of its own from its handshake to its end.
//
// Threads: `admit`, `reap` and `drain` belong to one thread at a time, `fence` and `size` to any.

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <list>
#include <mutex>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "allocator/image.h"
#include "blockdev/device_table.h"
#include "blockdev/nbd/connection.h"
#include "blockdev/nbd/crew.h"
#include "blockdev/nbd/handshake.h"
#include "blockdev/nbd/server.h"
#include "blockdev/nbd/small_thread.h"
#include "blockdev/nbd/tls_credentials.h"

namespace uzram::nbd {

class Session;

class ClientSet {
 public:
  // `stop_fd` is readable once the server stops; each connection that ends adds to the eventfd `ended_fd`. Where `tls`
  // is null, none is offered. All of them outlive the set.
  ClientSet(DeviceTable& devices, const ServerOptions& options, Crew& crew, const TlsCredentials* tls, int stop_fd,
            int ended_fd);
  // There are no connections any more: `drain` was called, or nobody was admitted.
  ~ClientSet() = default;
  ClientSet(const ClientSet&) = delete;
  ClientSet& operator=(const ClientSet&) = delete;

  // Serves the client, or closes its socket where there is no place for it. Throws std::bad_alloc with it closed.
  void admit(Fd socket);

  // Frees what connections that have ended held.
  void reap();

  // Behind stop_fd: no request is received any more, those that were are answered, all connections end. What has not
  // ended after `patience` is cut off.
  void drain(std::chrono::seconds patience);

  // As `drain`, for the connections to one device; returns when the last request of each has been executed.
  void fence(const Device& device, std::chrono::seconds patience);

  // Makes every connection stand still between two requests, for another process to go on with; `pause` waits until
  // none is in its handshake before, as long as `patience`, and then for the standstill as long again. False where that
  // is too short: then everything goes on. Nobody is admitted meanwhile. `resume` ends it.
  [[nodiscard]] bool pause(std::chrono::milliseconds patience);
  void resume();

  // While all stand still: what another process needs to go on with each, and the socket of each behind `sockets`.
  // Encrypted connections are not among them.
  void save(ImageWriter& image, std::vector<int>& sockets) const;
  // Takes such connections, and lets them stand still until `resume`; nothing was admitted before. False where the
  // image does not fit the devices, or there is no thread for one.
  [[nodiscard]] bool load(ImageReader& image, std::vector<Fd> sockets);

  // Connections that have not ended.
  [[nodiscard]] std::size_t size() const;

 private:
  enum class Phase { handshake, transmission, ended };
  struct Client {
    ClientSet& set;
    Connection connection;
    SmallThread thread{};
    Phase phase = Phase::handshake;  // guarded by mutex_
    const Device* device = nullptr;  // from transmission on; guarded by mutex_
    bool fenced = false;             // guarded by mutex_
    bool evicted = false;            // guarded by mutex_
    // While it stands still; guarded by mutex_.
    const Session* still = nullptr;
    const Agreement* agreement = nullptr;
    // What it goes on with, where it comes from another process.
    std::optional<Agreement> inherited{};
    std::vector<std::byte> begun{};
  };

  static void* run(void* client);
  void serve(Client& client);
  void negotiate_and_serve(Client& client);
  void enter_transmission(Client& client, const Device& device);
  void transmit(Client& client, const Agreement& agreement, std::span<const std::byte> answer);
  void stand_still(Client& client, const Session& session, const Agreement& agreement);
  [[nodiscard]] bool settle(std::unique_lock<std::mutex>& lock, std::chrono::milliseconds patience);
  template <class Which>
  void end_all(std::unique_lock<std::mutex>& lock, Which which, std::chrono::seconds patience);
  void bound_threads(std::unique_lock<std::mutex>& lock);
  [[nodiscard]] bool make_place();  // under mutex_
  void log(std::string_view what, std::string_view why = {}) const noexcept;

  DeviceTable& devices_;
  const ServerOptions& options_;
  Crew& crew_;
  const TlsCredentials* const tls_;
  const int stop_fd_;
  const int ended_fd_;
  mutable std::mutex mutex_;
  std::condition_variable ended_;
  std::list<Client> clients_;         // the oldest first; guarded by mutex_
  bool draining_ = false;             // guarded by mutex_
  std::atomic<bool> pausing_{false};  // changed under mutex_
  std::condition_variable changed_;   // a connection stands still, or none has to any more
};

}  // namespace uzram::nbd
