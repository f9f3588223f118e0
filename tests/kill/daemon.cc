#include "tests/kill/daemon.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <stdexcept>
#include <system_error>

namespace uzram::kill {

Daemon::Daemon(const std::string& program, const std::string& directory, std::uint64_t size) : directory_(directory) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) throw std::system_error(errno, std::generic_category(), "pipe");
  pid_ = ::fork();
  if (pid_ < 0) throw std::system_error(errno, std::generic_category(), "fork");
  if (pid_ == 0) exec(program, size, ends[1]);
  ::close(ends[1]);
  out_ = ends[0];
}

// In the child: becomes the daemon, and ends with its parent.
void Daemon::exec(const std::string& program, std::uint64_t size, int out) const {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  const int log = ::open((directory_ + "/uzramd.log").c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  ::dup2(out, STDOUT_FILENO);
  ::dup2(log, STDERR_FILENO);
  const std::string bytes = std::to_string(size);
  const std::string nbd = directory_ + "/nbd.sock";
  const std::string control = directory_ + "/control.sock";
  ::execl(program.c_str(), program.c_str(), "--size", bytes.c_str(), "--state", directory_.c_str(), "--unix",
          nbd.c_str(), "--control", control.c_str(), static_cast<char*>(nullptr));
  ::_exit(127);
}

Daemon::~Daemon() {
  if (pid_ > 0) {
    kill();
    wait_gone();
  }
  ::close(out_);
}

void Daemon::wait_ready() {
  char byte = 0;
  // One line, the URI; the end of the file where the daemon has ended.
  do {
    const ssize_t n = ::read(out_, &byte, 1);
    if (n == 0) throw std::runtime_error("the daemon does not serve its state");
    if (n < 0 && errno != EINTR) throw std::system_error(errno, std::generic_category(), "read");
  } while (byte != '\n');
}

void Daemon::kill() const { ::kill(pid_, SIGKILL); }

void Daemon::wait_gone() {
  int status = 0;
  while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) continue;
  pid_ = -1;
  if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL) {
    throw std::runtime_error("the daemon ended by itself, with status " + std::to_string(status));
  }
}

Nbd connect(const std::string& uri) {
  Nbd nbd(nbd_create());
  if (!nbd) throw std::bad_alloc();
  return nbd_connect_uri(nbd.get(), uri.c_str()) == 0 ? std::move(nbd) : nullptr;
}

bool read_all(nbd_handle* nbd, std::uint64_t offset, std::span<std::byte> out) {
  constexpr std::size_t kMost = 1 << 20;
  while (!out.empty()) {
    const auto part = out.first(std::min(kMost, out.size()));
    if (nbd_pread(nbd, part.data(), part.size(), offset, 0) != 0) {
      if (nbd_aio_is_ready(nbd) == 1) throw std::runtime_error(std::string("a read failed: ") + nbd_get_error());
      return false;
    }
    out = out.subspan(part.size());
    offset += part.size();
  }
  return true;
}

}  // namespace uzram::kill
