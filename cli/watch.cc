#include "cli/watch.h"

#include <poll.h>

#include <algorithm>
#include <cerrno>

#include "cli/mounts.h"
#include "cli/nbd_netlink.h"
#include "cli/nbd_sockets.h"

namespace uzram {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr milliseconds kRetry{50};  // while connections are dead
constexpr std::chrono::seconds kResend{1};
constexpr milliseconds kHurry{5000};            // every request has met its timeout once by then
constexpr std::chrono::seconds kUnwatched{60};  // as NbdConnection::request_timeout
constexpr milliseconds kGlance{1000};           // is it still attached?
constexpr milliseconds kFenceTime{2000};        // for the kernel to notice that the daemon closed its connections

class Watcher {
 public:
  Watcher(const AttachTarget& target, const AttachOptions& options, const WatchHooks& hooks, NbdNetlink netlink,
          NbdDeaths deaths, unsigned dead)
      : target_(target),
        options_(options),
        hooks_(hooks),
        netlink_(std::move(netlink)),
        deaths_(std::move(deaths)),
        dead_(dead) {}

  Result<void> run(int stop_fd) {
    // Until it is known that the connection lives.
    hurry();
    while (attached()) {
      if (wait(stop_fd, dead_ > 0 ? kRetry : kGlance)) {
        resend_after(kUnwatched);
        return {};
      }
      if (dead_ == 0) {
        if (Clock::now() > hurry_until_) be_patient();
        continue;
      }
      hurry();
      if (auto done = reconnect(); !done) {
        say_once(done.error());
      } else {
        dead_ = 0;
        said_ = 0;
        say("connected again");
      }
    }
    return {};
  }

 private:
  // What was in flight when the only connection died is sent again by its timeout, and by nothing else; but a short
  // timeout would give up a daemon that is only slow. So there is none while the connection lives, and a short one from
  // its death until all of it has been sent. With several connections the kernel sends it on another one, perhaps while
  // a slow daemon is still at the first copy: the timeout stays long.
  void be_patient() {
    if (!hurrying_) return;
    resend_after(std::chrono::seconds(0));
    hurrying_ = false;
  }
  void hurry() {
    if (!hurrying_) resend_after(kResend);
    hurrying_ = true;
    hurry_until_ = Clock::now() + kHurry;
  }
  void resend_after(std::chrono::seconds timeout) {
    if (options_.connections != 1) return;
    const auto look = std::max<milliseconds>(timeout, kResend);
    if (auto done = netlink_.set_request_timeout(options_.number, target_.uuid, timeout, look); !done) {
      say("what is in flight may wait: " + done.error().message);
    }
  }

  [[nodiscard]] bool attached() const {
    const auto use = nbd_use(options_.number);
    return use && use->backend == target_.uuid;
  }

  // Counts the deaths; true when it is time to stop.
  bool wait(int stop_fd, milliseconds time) {
    pollfd fds[] = {{deaths_.fd(), POLLIN, 0}, {stop_fd, POLLIN, 0}};
    poll(fds, 2, static_cast<int>(time.count()));
    dead_ += deaths_.take(options_.number);
    return fds[1].revents != 0;
  }

  Result<void> check_same() {
    auto now = hooks_.find();
    if (!now) return tl::unexpected(now.error());
    uri_ = now->uri;
    if (now->uuid == target_.uuid) return {};
    return fail(ESTALE, target_.name + " is not what was attached (UUID " + target_.uuid + ", now " + now->uuid +
                            "): it is left disconnected");
  }

  // Ends the connections that are left, too: what is in flight on them is either done or sent again.
  Result<void> fence() {
    if (auto done = hooks_.fence(); !done) return done;
    const auto end = Clock::now() + kFenceTime;
    while (dead_ < options_.connections && Clock::now() < end) wait(-1, kRetry);
    return {};
  }

  Result<void> reconnect() {
    if (auto same = check_same(); !same) return same;
    if (auto done = fence(); !done) return done;
    auto sockets = connect_nbd(uri_, options_.connections);
    if (!sockets) return tl::unexpected(sockets.error());
    // Again: another daemon may have come in between. One that comes later has not got these connections.
    if (auto same = check_same(); !same) return same;
    return netlink_.reconnect(options_.number, target_.uuid, sockets->fds());
  }

  // One line an outage for each of its two reasons: there is no daemon, or it is the wrong one.
  void say_once(const Error& why) {
    const int reason = why.code == ESTALE ? ESTALE : ENOTCONN;
    if (reason == said_) return;
    said_ = reason;
    say(reason == ESTALE ? why.message : "not connected, I/O waits: " + why.message);
  }
  void say(const std::string& line) { hooks_.say("/dev/nbd" + std::to_string(options_.number) + ": " + line); }

  const AttachTarget& target_;
  const AttachOptions& options_;
  const WatchHooks& hooks_;
  NbdNetlink netlink_;
  NbdDeaths deaths_;
  unsigned dead_;  // connections that died since the last reconnect
  std::string uri_;
  bool hurrying_ = false;
  Clock::time_point hurry_until_;
  int said_ = 0;  // the reason that was said last, 0 for none
};

}  // namespace

Result<void> watch(const AttachTarget& target, const AttachOptions& options, NbdDeaths deaths, bool resumed,
                   int stop_fd, const WatchHooks& hooks) {
  auto netlink = NbdNetlink::open();
  if (!netlink) return tl::unexpected(netlink.error());
  Watcher watcher(target, options, hooks, std::move(*netlink), std::move(deaths), resumed ? 1 : 0);
  return watcher.run(stop_fd);
}

}  // namespace uzram
