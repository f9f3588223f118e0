// How the connections of a ClientSet stand still, and go on in another process.

#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <utility>

#include "blockdev/nbd/client_set.h"
#include "blockdev/nbd/session.h"

namespace uzram::nbd {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr milliseconds kTick{1};

// What a thread that receives is woken with: it only has to return from its system call.
void handle_interrupts() {
  struct sigaction nothing {};
  nothing.sa_handler = [](int) {};
  (void)sigaction(Connection::kInterruptSignal, &nothing, nullptr);
}

}  // namespace

void ClientSet::stand_still(Client& client, const Session& session, const Agreement& agreement) {
  std::unique_lock lock(mutex_);
  client.still = &session;
  client.agreement = &agreement;
  changed_.notify_all();
  changed_.wait(lock, [this] { return !pausing_; });
  client.still = nullptr;
}

bool ClientSet::pause(milliseconds patience) {
  handle_interrupts();
  std::unique_lock lock(mutex_);
  // While the others are still served. A handshake that takes longer has no request yet that could be lost.
  const auto any_handshake = [this] {
    return std::any_of(clients_.begin(), clients_.end(), [](const Client& c) { return c.phase == Phase::handshake; });
  };
  for (const auto end = Clock::now() + patience; any_handshake() && Clock::now() < end;) changed_.wait_for(lock, kTick);
  pausing_ = true;
  if (settle(lock, patience)) return true;
  lock.unlock();
  resume();
  return false;
}

// Waits until all connections that have requests stand still. One that is about to receive may miss its signal: it gets
// another.
bool ClientSet::settle(std::unique_lock<std::mutex>& lock, milliseconds patience) {
  const auto moving = [](const Client& client) {
    return client.phase == Phase::transmission && client.still == nullptr;
  };
  for (const auto end = Clock::now() + patience;;) {
    if (std::none_of(clients_.begin(), clients_.end(), moving)) return true;
    if (Clock::now() > end) return false;
    for (Client& client : clients_) {
      if (moving(client)) client.thread.signal(Connection::kInterruptSignal);
    }
    changed_.wait_for(lock, kTick);
  }
}

void ClientSet::resume() {
  const std::lock_guard lock(mutex_);
  pausing_ = false;
  changed_.notify_all();
}

void ClientSet::save(ImageWriter& image, std::vector<int>& sockets) const {
  const std::lock_guard lock(mutex_);
  const auto goes_on = [](const Client& client) {
    return client.still != nullptr && !client.connection.is_encrypted();
  };
  image.put(static_cast<std::uint32_t>(std::count_if(clients_.begin(), clients_.end(), goes_on)));
  for (const Client& client : clients_) {
    if (!goes_on(client)) continue;
    image.put_text(client.agreement->device->options().name);
    image.put(client.agreement->read_only);
    image.put(client.agreement->structured);
    image.put(client.agreement->extended);
    image.put(client.agreement->contexts);
    ImageWriter session;
    client.still->save(session);
    image.put(static_cast<std::uint32_t>(session.bytes().size()));
    image.put_all(session.bytes());
    sockets.push_back(client.connection.fd());
  }
}

bool ClientSet::load(ImageReader& image, std::vector<Fd> sockets) {
  handle_interrupts();
  std::unique_lock lock(mutex_);
  pausing_ = true;
  if (image.get<std::uint32_t>() != sockets.size()) return false;
  for (Fd& socket : sockets) {
    auto device = devices_.open(image.text());
    if (!device) return false;
    Agreement agreement{.device = std::move(*device), .contexts = {}};
    agreement.read_only = image.get<bool>();
    agreement.structured = image.get<bool>();
    agreement.extended = image.get<bool>();
    agreement.contexts = image.get<Contexts>();
    const auto begun = image.view(image.get<std::uint32_t>());
    if (!image.good()) return false;
    Client& client = clients_.emplace_back(Client{.set = *this, .connection = Connection(std::move(socket), stop_fd_)});
    client.connection.obey(pausing_);
    client.inherited.emplace(std::move(agreement));
    client.begun.assign(begun.begin(), begun.end());
    if (client.thread.start(&ClientSet::run, &client)) continue;
    clients_.pop_back();
    return false;
  }
  // Everything that a connection allocates, it has when it stands still.
  const auto ready = [](const Client& client) { return client.still != nullptr; };
  changed_.wait(lock, [&] {
    return std::all_of(clients_.begin(), clients_.end(),
                       [&](const Client& client) { return ready(client) || client.phase == Phase::ended; });
  });
  return std::all_of(clients_.begin(), clients_.end(), ready);
}

}  // namespace uzram::nbd
