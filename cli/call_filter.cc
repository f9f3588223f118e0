#include <asm/ioctls.h>
#include <fcntl.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <initializer_list>
#include <memory>

#include "cli/sandbox.h"

namespace uzram {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;
#elif defined(__has_feature)
constexpr bool kSanitized =
    __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(undefined_behavior_sanitizer);
#else
constexpr bool kSanitized = false;
#endif

// Whatever their arguments are.
constexpr int kCalls[] = {
    // memory: of the pool as it grows and shrinks, of the heap, of threads' stacks
    SCMP_SYS(brk),
    SCMP_SYS(madvise),
    SCMP_SYS(mincore),
    SCMP_SYS(mlock),
    SCMP_SYS(mlock2),
    SCMP_SYS(mlockall),
    SCMP_SYS(mremap),
    SCMP_SYS(msync),
    SCMP_SYS(munlock),
    SCMP_SYS(munlockall),
    SCMP_SYS(munmap),
    SCMP_SYS(fallocate),
    SCMP_SYS(ftruncate),
    SCMP_SYS(memfd_create),
    // sockets that are there, and those that they accept
    SCMP_SYS(accept),
    SCMP_SYS(accept4),
    SCMP_SYS(getpeername),
    SCMP_SYS(getsockname),
    SCMP_SYS(getsockopt),
    SCMP_SYS(recvfrom),
    SCMP_SYS(recvmmsg),
    SCMP_SYS(recvmsg),
    SCMP_SYS(sendmmsg),
    SCMP_SYS(sendmsg),
    SCMP_SYS(sendto),
    SCMP_SYS(setsockopt),
    SCMP_SYS(shutdown),
    // descriptors
    SCMP_SYS(close),
    SCMP_SYS(dup),
    SCMP_SYS(dup3),
    SCMP_SYS(eventfd2),
    SCMP_SYS(fcntl),
    SCMP_SYS(flock),
    SCMP_SYS(fsync),
    SCMP_SYS(fdatasync),
    SCMP_SYS(lseek),
    SCMP_SYS(poll),
    SCMP_SYS(ppoll),
    SCMP_SYS(pread64),
    SCMP_SYS(preadv),
    SCMP_SYS(pselect6),
    SCMP_SYS(pwrite64),
    SCMP_SYS(pwritev),
    SCMP_SYS(read),
    SCMP_SYS(readv),
    SCMP_SYS(select),
    SCMP_SYS(write),
    SCMP_SYS(writev),
    // files to look at, and its own to remove
    SCMP_SYS(access),
    SCMP_SYS(faccessat),
    SCMP_SYS(fstat),
    SCMP_SYS(fstatfs),
    SCMP_SYS(getcwd),
    SCMP_SYS(getdents64),
    SCMP_SYS(lstat),
    SCMP_SYS(newfstatat),
    SCMP_SYS(readlink),
    SCMP_SYS(readlinkat),
    SCMP_SYS(rmdir),
    SCMP_SYS(stat),
    SCMP_SYS(statfs),
    SCMP_SYS(statx),
    SCMP_SYS(unlink),
    SCMP_SYS(unlinkat),
    // threads, signals, time, and what the C library asks
    SCMP_SYS(clock_getres),
    SCMP_SYS(clock_gettime),
    SCMP_SYS(clock_nanosleep),
    SCMP_SYS(exit),
    SCMP_SYS(exit_group),
    SCMP_SYS(futex),
    SCMP_SYS(getcpu),
    SCMP_SYS(getegid),
    SCMP_SYS(geteuid),
    SCMP_SYS(getgid),
    SCMP_SYS(getpid),
    SCMP_SYS(getppid),
    SCMP_SYS(getrandom),
    SCMP_SYS(getrusage),
    SCMP_SYS(gettid),
    SCMP_SYS(gettimeofday),
    SCMP_SYS(getuid),
    SCMP_SYS(membarrier),
    SCMP_SYS(nanosleep),
    SCMP_SYS(restart_syscall),
    SCMP_SYS(rseq),
    SCMP_SYS(rt_sigaction),
    SCMP_SYS(rt_sigpending),
    SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(rt_sigreturn),
    SCMP_SYS(rt_sigtimedwait),
    SCMP_SYS(sched_getaffinity),
    SCMP_SYS(sched_yield),
    SCMP_SYS(set_robust_list),
    SCMP_SYS(sigaltstack),
    SCMP_SYS(sysinfo),
    SCMP_SYS(time),
    SCMP_SYS(uname),
};

class Filter {
 public:
  Filter() : context_(seccomp_init(SCMP_ACT_ERRNO(EPERM))) {}

  void allow(int call, std::initializer_list<scmp_arg_cmp> arguments = {}) { add(SCMP_ACT_ALLOW, call, arguments); }
  void add(std::uint32_t action, int call, std::initializer_list<scmp_arg_cmp> arguments = {}) {
    if (error_ == 0) {
      error_ = seccomp_rule_add_array(context_.get(), action, call, static_cast<unsigned>(arguments.size()),
                                      arguments.begin());
    }
  }
  // A negative errno where a rule was not taken, or the kernel has no filters. All threads get it.
  [[nodiscard]] int load() {
    if (error_ == 0) error_ = seccomp_attr_set(context_.get(), SCMP_FLTATR_CTL_TSYNC, 1);
    return error_ == 0 ? seccomp_load(context_.get()) : error_;
  }
  [[nodiscard]] bool valid() const { return context_ != nullptr; }

 private:
  struct Release {
    void operator()(void* context) const { seccomp_release(context); }
  };
  std::unique_ptr<void, Release> context_;
  int error_ = 0;
};

scmp_arg_cmp equals(unsigned argument, scmp_datum_t value) { return {argument, SCMP_CMP_EQ, value, 0}; }
scmp_arg_cmp bits(unsigned argument, scmp_datum_t mask, scmp_datum_t value) {
  return {argument, SCMP_CMP_MASKED_EQ, mask, value};
}

void add_rules(Filter& filter, pid_t command) {
  for (const int call : kCalls) filter.allow(call);
  // No memory becomes code.
  filter.allow(SCMP_SYS(mmap), {bits(2, PROT_EXEC, 0)});
  filter.allow(SCMP_SYS(mprotect), {bits(2, PROT_EXEC, 0)});
  // Threads, but no processes. The flags of clone3 are out of a filter's reach: the C library then uses clone.
  filter.allow(SCMP_SYS(clone), {bits(0, CLONE_THREAD, CLONE_THREAD)});
  filter.add(SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3));
  // Files to read; datagrams to systemd.
  filter.allow(SCMP_SYS(openat), {bits(2, O_ACCMODE | O_CREAT | O_TRUNC, O_RDONLY)});
  filter.allow(SCMP_SYS(open), {bits(1, O_ACCMODE | O_CREAT | O_TRUNC, O_RDONLY)});
  filter.allow(SCMP_SYS(socket), {equals(0, AF_UNIX)});
  for (const auto request : {TCGETS, FIONREAD, FIONBIO})
    filter.allow(SCMP_SYS(ioctl), {equals(1, static_cast<scmp_datum_t>(request))});
  for (const auto what : {PR_SET_NAME, PR_GET_NAME, PR_SET_IO_FLUSHER, PR_GET_IO_FLUSHER, PR_SET_VMA}) {
    filter.allow(SCMP_SYS(prctl), {equals(0, static_cast<scmp_datum_t>(what))});
  }
  // Limits to look at; signals to itself, as abort does, and to the command.
  filter.allow(SCMP_SYS(prlimit64), {equals(2, 0)});
  filter.allow(SCMP_SYS(tgkill), {equals(0, static_cast<scmp_datum_t>(::getpid()))});
  if (command > 0) {
    filter.allow(SCMP_SYS(kill), {equals(0, static_cast<scmp_datum_t>(command))});
    filter.allow(SCMP_SYS(wait4), {equals(0, static_cast<scmp_datum_t>(command))});
  }
}

}  // namespace

std::optional<std::string> restrict_system_calls(pid_t command) {
  if (kSanitized) return std::nullopt;
  Filter filter;
  if (!filter.valid()) return "no memory for a filter";
  add_rules(filter, command);
  if (const int error = filter.load(); error != 0) return std::strerror(-error);
  return std::nullopt;
}

}  // namespace uzram
