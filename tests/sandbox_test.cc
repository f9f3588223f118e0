// What the daemon has given up, tried in processes of their own.

#include "cli/sandbox.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <spawn.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <functional>
#include <thread>

namespace uzram {
namespace {

// Whether `body` returns true in a process that has restricted its system calls.
bool restricted(const std::function<bool()>& body, pid_t command = 0) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(!restrict_system_calls(command) && body() ? 0 : 1);
  int status = -1;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

bool refused(long result) { return result == -1 && errno == EPERM; }

TEST(CallFilter, StartsNoProgramsAndNoProcesses) {
  EXPECT_TRUE(restricted([] {
    char* const arguments[] = {const_cast<char*>("true"), nullptr};
    return refused(::execve("/bin/true", arguments, nullptr));
  }));
  EXPECT_TRUE(restricted([] { return refused(::fork()); }));
  EXPECT_TRUE(restricted([] {
    char* const arguments[] = {const_cast<char*>("true"), nullptr};
    pid_t child = 0;
    return ::posix_spawn(&child, "/bin/true", nullptr, nullptr, arguments, nullptr) == EPERM;
  }));
}

TEST(CallFilter, ConnectsNowhere) {
  EXPECT_TRUE(restricted([] { return refused(::socket(AF_INET, SOCK_STREAM, 0)); }));
  EXPECT_TRUE(restricted([] { return refused(::socket(AF_NETLINK, SOCK_RAW, 0)); }));
  EXPECT_TRUE(restricted([] {
    sockaddr address{.sa_family = AF_UNIX, .sa_data = {}};
    return refused(::connect(::socket(AF_UNIX, SOCK_STREAM, 0), &address, sizeof address));
  }));
}

TEST(CallFilter, OpensFilesToReadOnly) {
  EXPECT_TRUE(restricted([] { return ::open("/proc/self/status", O_RDONLY) >= 0; }));
  EXPECT_TRUE(restricted([] { return refused(::open("/dev/null", O_WRONLY)); }));
  EXPECT_TRUE(restricted([] { return refused(::open("/dev/null", O_RDWR)); }));
  EXPECT_TRUE(restricted([] { return refused(::open("/tmp", O_TMPFILE | O_RDWR, 0600)); }));
  EXPECT_TRUE(restricted([] { return refused(::rename("/nonexistent/a", "/nonexistent/b")); }));
}

TEST(CallFilter, MakesNoCode) {
  EXPECT_TRUE(restricted([] {
    return ::mmap(nullptr, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED &&
           errno == EPERM;
  }));
  EXPECT_TRUE(restricted([] {
    void* page = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return page != MAP_FAILED && refused(::mprotect(page, 4096, PROT_READ | PROT_EXEC));
  }));
}

TEST(CallFilter, LeavesOthersAlone) {
  EXPECT_TRUE(restricted([] { return refused(::kill(::getppid(), 0)); }));
  EXPECT_TRUE(restricted([] { return refused(::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr)); }));
  EXPECT_TRUE(restricted([] { return refused(::prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)); }));
}

TEST(CallFilter, LooksAtLimitsAndSetsNone) {
  EXPECT_TRUE(restricted([] {
    rlimit limit{};
    return ::prlimit(0, RLIMIT_NOFILE, nullptr, &limit) == 0 && limit.rlim_cur > 0 &&
           refused(::prlimit(0, RLIMIT_NOFILE, &limit, nullptr));
  }));
  // A pointer whose lower half is that of no pointer.
  EXPECT_TRUE(restricted([] { return refused(::syscall(SYS_prlimit64, 0, RLIMIT_NOFILE, 1UL << 32, nullptr)); }));
}

TEST(CallFilter, AsksDescriptorsOnlyWhatItMust) {
  EXPECT_TRUE(restricted([] {
    const int fd = ::socket(AF_UNIX, SOCK_STREAM, 0);
    int waiting = -1;
    return ::ioctl(fd, FIONREAD, &waiting) == 0 && refused(::ioctl(fd, TIOCSTI, "x"));
  }));
}

TEST(CallFilter, MaySignalAndAwaitItsCommand) {
  const pid_t command = ::fork();
  if (command == 0) {
    ::pause();
    ::_exit(0);
  }
  EXPECT_TRUE(restricted([=] { return ::kill(command, SIGTERM) == 0; }, command));
  int status = 0;
  EXPECT_EQ(::waitpid(command, &status, 0), command);
  EXPECT_TRUE(WIFSIGNALED(status));
}

TEST(CallFilter, HoldsForThreadsThatAreThereAndThoseThatCome) {
  EXPECT_TRUE(restricted([] {
    bool late = false;
    std::thread([&] { late = refused(::fork()); }).join();
    return late;
  }));
  const auto earlier = [] {
    const pid_t child = ::fork();
    if (child != 0) {
      int status = -1;
      (void)::waitpid(child, &status, 0);
      return WIFEXITED(status) && WEXITSTATUS(status) == 0;
    }
    std::atomic<bool> go = false;
    bool held = false;
    std::thread thread([&] {
      while (!go) std::this_thread::yield();
      held = refused(::fork());
    });
    const bool done = !restrict_system_calls(0);
    go = true;
    thread.join();
    ::_exit(done && held ? 0 : 1);
  };
  EXPECT_TRUE(earlier());
}

TEST(Privileges, NoCapabilityIsKeptButTwo) {
  const pid_t child = ::fork();
  if (child == 0) {
    if (!drop_privileges("")) ::_exit(1);
    std::ifstream status("/proc/self/status");
    std::string word;
    while (status >> word && word != "CapEff:") continue;
    std::uint64_t effective = ~std::uint64_t{0};
    status >> std::hex >> effective;
    constexpr std::uint64_t kKept = 1U << 14 | 1U << 24;  // CAP_IPC_LOCK, CAP_SYS_RESOURCE
    ::_exit((effective & ~kKept) == 0 ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

TEST(Privileges, UserAndGroupMustExist) {
  EXPECT_FALSE(find_group("no such group"));
  EXPECT_EQ(*find_group("0"), 0U);
  EXPECT_EQ(*find_group("root"), 0U);
  EXPECT_FALSE(give_to_user("no such user", {}));
}

}  // namespace
}  // namespace uzram
