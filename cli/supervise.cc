#include "cli/supervise.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "cli/fd_store.h"
#include "cli/log.h"
#include "cli/notify_socket.h"
#include "cli/run_command.h"
#include "cli/swap_safe.h"

namespace uzram {
namespace {

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

constexpr unsigned kMaxFailures = 5;      // starts in a row that ended before the daemon was ready
constexpr milliseconds kFirstDelay{100};  // doubled with each of them
constexpr milliseconds kShortLife{1000};  // a daemon that lived for less is not started again at once

class Supervisor {
 public:
  Supervisor(bool swap_safe, const std::function<int()>& daemon) : swap_safe_(swap_safe), daemon_(daemon) {
    ::sigemptyset(&signals_);
    for (const int s : {SIGTERM, SIGINT, SIGCHLD}) ::sigaddset(&signals_, s);
    struct sigaction hangup {};
    ::sigaction(SIGHUP, nullptr, &hangup);
    if (hangup.sa_handler != SIG_IGN) ::sigaddset(&signals_, SIGHUP);
    ::sigprocmask(SIG_BLOCK, &signals_, &before_);
    signal_fd_ = nbd::Fd(::signalfd(-1, &signals_, SFD_CLOEXEC | SFD_NONBLOCK));
    kept_ = FdStore::from_environment().take_rest();
  }

  int run() {
    for (;;) {
      if (!start()) return 1;
      while (!status_) wait_and_handle(-1);
      if (const auto code = verdict()) return *code;
      const auto again = Clock::now() + delay();
      while (!stopping_ && Clock::now() < again) {
        wait_and_handle(static_cast<int>(std::chrono::ceil<milliseconds>(again - Clock::now()).count()));
      }
      if (stopping_) return 0;
    }
  }

 private:
  [[nodiscard]] bool start() {
    status_.reset();
    ready_ = false;
    started_ = Clock::now();
    child_ = ::fork();
    if (child_ == 0) become_daemon();
    if (child_ < 0) log_error(std::string("cannot start the daemon: ") + std::strerror(errno));
    return child_ > 0;
  }

  // In the child: what sd_listen_fds and sd_notify look for.
  [[noreturn]] void become_daemon() {
    hand_over_descriptors();
    ::setenv("NOTIFY_SOCKET", notify_.name().c_str(), 1);
    ::setenv("FDSTORE", "64", 1);
    if (announced_) {
      // Who started us has read the line that says we serve.
      const int null = ::open("/dev/null", O_WRONLY | O_CLOEXEC);
      if (null >= 0) ::dup2(null, STDOUT_FILENO);
    }
    ::sigprocmask(SIG_SETMASK, &before_, nullptr);
    std::exit(daemon_());
  }

  void hand_over_descriptors() const {
    const int count = static_cast<int>(kept_.size());
    const int end = SD_LISTEN_FDS_START + count;
    std::vector<int> copies;
    std::string names;
    for (const FdStore::Named& one : kept_) {
      copies.push_back(::fcntl(one.second.get(), F_DUPFD, end));
      names += (names.empty() ? "" : ":") + one.first;
    }
    for (const int own : {notify_.fd(), signal_fd_.get()}) ::close(own);
    for (const FdStore::Named& one : kept_) ::close(one.second.get());
    for (int i = 0; i < count; ++i) {
      ::dup2(copies[static_cast<std::size_t>(i)], SD_LISTEN_FDS_START + i);
      ::close(copies[static_cast<std::size_t>(i)]);
    }
    if (count == 0) return;
    ::setenv("LISTEN_PID", std::to_string(::getpid()).c_str(), 1);
    ::setenv("LISTEN_FDS", std::to_string(count).c_str(), 1);
    ::setenv("LISTEN_FDNAMES", names.c_str(), 1);
  }

  void wait_and_handle(int timeout) {
    pollfd waits[] = {{notify_.fd(), POLLIN, 0}, {signal_fd_.get(), POLLIN, 0}};
    (void)::poll(waits, 2, timeout);
    listen_to_daemon();
    signalfd_siginfo info{};
    while (::read(signal_fd_.get(), &info, sizeof info) == sizeof info) {
      if (info.ssi_signo == SIGCHLD) {
        reap();
      } else {
        stopping_ = true;
        if (!status_) ::kill(child_, static_cast<int>(info.ssi_signo));
      }
    }
  }

  void reap() {
    int status = 0;
    if (status_ || ::waitpid(child_, &status, WNOHANG) != child_) return;
    listen_to_daemon();  // its last words
    status_ = status;
    // It may have grown; what came in addition was locked by the daemon alone.
    for (const FdStore::Named& one : kept_) {
      if (one.first == kStateName && swap_safe_) hold_in_memory(one.second.get());
    }
  }

  void listen_to_daemon() {
    while (auto message = notify_.receive(child_)) {
      if (message->value("FDSTORE") == "1") {
        keep(std::move(*message));
      } else if (message->value("FDSTOREREMOVE") == "1") {
        const auto name = message->value("FDNAME");
        std::erase_if(kept_, [&](const FdStore::Named& one) { return one.first == name; });
      } else if (!message->value("BARRIER")) {  // which is answered by closing what came with it
        ready_ = ready_ || message->value("READY") == "1";
        announced_ = announced_ || ready_;
        (void)::sd_notify(0, message->text.c_str());
      }
    }
  }

  void keep(Notification message) {
    const std::string name = message.value("FDNAME").value_or("stored");
    for (nbd::Fd& fd : message.fds) {
      if (name == kStateName && swap_safe_) hold_in_memory(fd.get());
      kept_.emplace_back(name, std::move(fd));
    }
  }

  // A mapping of our own, locked: the daemon's lock ends with it. Only what is there: a hole would be filled.
  void hold_in_memory(int state) {
    struct stat info {};
    const bool known = ::fstat(state, &info) == 0;
    const auto size = static_cast<std::size_t>(info.st_size);
    if (known && size == held_size_) return;
    void* const all = known ? ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, state, 0) : MAP_FAILED;
    // Not for the daemons to come: each has a mapping where it wants it.
    bool held = all != MAP_FAILED && ::madvise(all, size, MADV_DONTFORK) == 0;
    off_t hole = 0;
    for (off_t data = 0; held && (data = ::lseek(state, hole, SEEK_DATA)) >= 0;) {
      hole = ::lseek(state, data, SEEK_HOLE);
      held = ::mlock(static_cast<std::byte*>(all) + data, static_cast<std::size_t>(hole - data)) == 0;
    }
    if (!held) {
      log_warning(
          std::string("the state could be swapped out while the daemon is started again: it cannot be locked (") +
          std::strerror(errno) + "; CAP_IPC_LOCK or LimitMEMLOCK=infinity)");
    }
    if (all == MAP_FAILED) return;
    if (held_ != nullptr) ::munmap(held_, held_size_);
    held_ = all;
    held_size_ = size;
  }

  // The exit status, where the daemon is not to be started again.
  [[nodiscard]] std::optional<int> verdict() {
    const int code = shell_status(*status_);
    if (stopping_ || code == 0) return code;
    if (WIFEXITED(*status_) && !announced_) return code;  // it has said why
    failures_ = ready_ ? 0 : failures_ + 1;
    const std::string how = WIFSIGNALED(*status_) ? std::string("was ended by ") + ::strsignal(WTERMSIG(*status_))
                                                  : "ended with status " + std::to_string(code);
    if (failures_ < kMaxFailures) {
      log_warning("the daemon " + how + ": it is started again");
      return std::nullopt;
    }
    log_error("the daemon " + how + ", for the " + std::to_string(failures_) +
              "th time before it could serve: what was stored is given up");
    return 1;
  }

  [[nodiscard]] milliseconds delay() const {
    if (failures_ != 0) return kFirstDelay * (1U << failures_);
    return Clock::now() - started_ < kShortLife ? kFirstDelay : milliseconds{0};
  }

  const bool swap_safe_;
  const std::function<int()>& daemon_;
  sigset_t signals_{};
  sigset_t before_{};
  nbd::Fd signal_fd_;
  NotifySocket notify_;
  std::vector<FdStore::Named> kept_;
  void* held_ = nullptr;
  std::size_t held_size_ = 0;
  pid_t child_ = -1;
  std::optional<int> status_;  // of the child, once it has ended
  Clock::time_point started_;
  unsigned failures_ = 0;
  bool ready_ = false;      // the child has been
  bool announced_ = false;  // a child has been, ever
  bool stopping_ = false;
};

}  // namespace

int supervise(bool swap_safe, const std::function<int()>& daemon) {
  SwapSafe safe;
  if (swap_safe) {
    safe.before_threads();
    // Not what is mapped later: a mapping of the state would be filled where it has holes.
    safe.before_arena();
  }
  init_log();
  return Supervisor(swap_safe, daemon).run();
}

}  // namespace uzram
