#include "blockdev/nbd/client_set.h"

#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <exception>
#include <string>
#include <utility>

#include "blockdev/nbd/event.h"
#include "blockdev/nbd/handshake.h"
#include "blockdev/nbd/session.h"

namespace uzram::nbd {

ClientSet::ClientSet(DeviceTable& devices, const ServerOptions& options, Crew& crew, const TlsCredentials* tls,
                     int stop_fd, int ended_fd)
    : devices_(devices), options_(options), crew_(crew), tls_(tls), stop_fd_(stop_fd), ended_fd_(ended_fd) {}

void ClientSet::admit(Fd socket) {
  std::unique_lock lock(mutex_);
  bound_threads(lock);
  if (!make_place()) return log("a client was refused: too many connections");
  Client& client = clients_.emplace_back(Client{.set = *this, .connection = Connection(std::move(socket), stop_fd_)});
  client.connection.obey(pausing_);
  if (client.thread.start(&ClientSet::run, &client)) return;
  clients_.pop_back();
  log("a client was refused: no thread for it");
}

// In a flood, connections come faster than those that were evicted for them end. At twice the limit at least half are
// on their way out, and nobody is let in before one of them is.
void ClientSet::bound_threads(std::unique_lock<std::mutex>& lock) {
  const auto any_ended = [this] {
    return std::any_of(clients_.begin(), clients_.end(), [](const Client& c) { return c.phase == Phase::ended; });
  };
  while (clients_.size() >= 2 * std::size_t{options_.max_connections}) {
    ended_.wait(lock, any_ended);
    lock.unlock();
    reap();
    lock.lock();
  }
}

// Idle handshakes do not keep others out: the oldest of them goes.
bool ClientSet::make_place() {
  const auto counts = [](const Client& client) { return client.phase != Phase::ended && !client.evicted; };
  if (std::count_if(clients_.begin(), clients_.end(), counts) < options_.max_connections) return true;
  const auto oldest = std::find_if(clients_.begin(), clients_.end(), [&](const Client& client) {
    return counts(client) && client.phase == Phase::handshake;
  });
  if (oldest == clients_.end()) return false;
  oldest->evicted = true;
  oldest->connection.interrupt(Connection::Interrupt::everything);
  return true;
}

void* ClientSet::run(void* client) {
  sigset_t interrupt;
  sigemptyset(&interrupt);
  sigaddset(&interrupt, Connection::kInterruptSignal);
  (void)pthread_sigmask(SIG_UNBLOCK, &interrupt, nullptr);
  auto& self = *static_cast<Client*>(client);
  self.set.serve(self);
  return nullptr;
}

void ClientSet::serve(Client& client) {
  try {
    negotiate_and_serve(client);
  } catch (const std::exception& e) {
    log("a connection was closed: ", e.what());
  }
  client.connection.say_goodbye();
  // The client learns of the end now; its descriptor lives until the thread is joined.
  client.connection.interrupt(Connection::Interrupt::everything);
  const std::lock_guard lock(mutex_);
  client.phase = Phase::ended;
  ended_.notify_all();
  changed_.notify_all();
  raise_event(ended_fd_);
}

void ClientSet::negotiate_and_serve(Client& client) {
  if (client.inherited) return transmit(client, *client.inherited, {});
  HandshakeOptions options{.access = &options_.access,
                           .tls = tls_,
                           .tls_required = options_.tls.require,
                           .multi_conn = options_.max_connections > 1,
                           .timeout = options_.handshake_timeout};
  const HandshakeResult result = negotiate(client.connection, devices_, options);
  if (!result.failure.empty()) log("a connection was closed: ", result.failure);
  if (!result.agreement) return;
  transmit(client, *result.agreement, result.answer);
}

void ClientSet::transmit(Client& client, const Agreement& agreement, std::span<const std::byte> answer) {
  Session session(client.connection, agreement, crew_);
  ImageReader begun(client.begun);
  if (client.inherited && !session.load(begun)) return log("a connection was closed: it cannot be taken over");
  enter_transmission(client, *agreement.device);
  const std::function<void()> still = [&] { stand_still(client, session, agreement); };
  // One that was taken over stands still until all of them are here.
  if (client.inherited) still();
  client.connection.limit_sends(std::chrono::seconds(Connection::kStallSeconds));
  if (client.connection.send_all(answer)) session.run(still);
}

// From here on the client is not evicted; a receive waits for it alone, so that a stop has to shut its read side.
void ClientSet::enter_transmission(Client& client, const Device& device) {
  // A connection that is not known to be between two requests takes none while the others stand still.
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return !pausing_ || client.inherited; });
  client.phase = Phase::transmission;
  client.device = &device;
  if (draining_) client.connection.interrupt(Connection::Interrupt::reading);
}

void ClientSet::reap() {
  std::list<Client> ended;
  {
    const std::lock_guard lock(mutex_);
    for (auto it = clients_.begin(); it != clients_.end();) {
      const auto next = std::next(it);
      if (it->phase == Phase::ended) ended.splice(ended.end(), clients_, it);
      it = next;
    }
  }
  for (Client& client : ended) client.thread.join();
}

// A client may be freed while the lock is let go: none is remembered across the wait.
template <class Which>
void ClientSet::end_all(std::unique_lock<std::mutex>& lock, Which which, std::chrono::seconds patience) {
  const auto wanted = [&](const Client& client) { return client.phase != Phase::ended && which(client); };
  const auto all_ended = [&] { return std::none_of(clients_.begin(), clients_.end(), wanted); };
  for (Client& client : clients_) {
    if (client.phase == Phase::transmission && wanted(client)) {
      client.connection.interrupt(Connection::Interrupt::reading);
    }
  }
  if (ended_.wait_for(lock, patience, all_ended)) return;
  for (Client& client : clients_) {
    if (wanted(client)) client.connection.interrupt(Connection::Interrupt::everything);
  }
  ended_.wait(lock, all_ended);
}

void ClientSet::drain(std::chrono::seconds patience) {
  std::unique_lock lock(mutex_);
  draining_ = true;
  end_all(
      lock, [](const Client&) { return true; }, patience);
  lock.unlock();
  reap();
}

void ClientSet::fence(const Device& device, std::chrono::seconds patience) {
  std::unique_lock lock(mutex_);
  // Who comes while this waits is not meant.
  for (Client& client : clients_) client.fenced |= client.device == &device;
  end_all(
      lock, [](const Client& client) { return client.fenced; }, patience);
}

std::size_t ClientSet::size() const {
  const std::lock_guard lock(mutex_);
  return static_cast<std::size_t>(std::count_if(clients_.begin(), clients_.end(),
                                                [](const Client& client) { return client.phase != Phase::ended; }));
}

// A line for which there is no memory is lost, and nothing with it.
void ClientSet::log(std::string_view what, std::string_view why) const noexcept {
  if (!options_.log) return;
  try {
    options_.log(std::string(what) += why);
  } catch (const std::exception&) {
    options_.log(what);
  }
}

}  // namespace uzram::nbd
