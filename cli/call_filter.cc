#include <asm/ioctls.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <bit>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>

#include "allocator/ensure.h"
#include "cli/sandbox.h"

namespace uzram {
namespace {

// Not under the sanitizers, which make calls of their own, nor where gcov is to write its files in the end.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || defined(UZRAM_COVERAGE)
constexpr bool kFiltered = false;
#elif defined(__has_feature)
constexpr bool kFiltered = !__has_feature(address_sanitizer) && !__has_feature(thread_sanitizer) &&
                           !__has_feature(undefined_behavior_sanitizer);
#else
constexpr bool kFiltered = true;
#endif

#if defined(__x86_64__)
constexpr std::uint32_t kMachine = AUDIT_ARCH_X86_64;
#elif defined(__aarch64__)
constexpr std::uint32_t kMachine = AUDIT_ARCH_AARCH64;
#elif defined(__riscv) && __riscv_xlen == 64
constexpr std::uint32_t kMachine = AUDIT_ARCH_RISCV64;
#else
constexpr std::uint32_t kMachine = 0;
#endif

// Whatever their arguments are.
constexpr std::uint32_t kCalls[] = {
    // memory: of the pool as it grows and shrinks, of the heap, of threads' stacks
    SYS_brk,
    SYS_madvise,
    SYS_mincore,
    SYS_mlock,
    SYS_mlock2,
    SYS_mlockall,
    SYS_mremap,
    SYS_msync,
    SYS_munlock,
    SYS_munlockall,
    SYS_munmap,
    SYS_process_madvise,
    SYS_fallocate,
    SYS_ftruncate,
    SYS_memfd_create,
    // sockets that are there, and those that they accept
    SYS_accept,
    SYS_accept4,
    SYS_getpeername,
    SYS_getsockname,
    SYS_getsockopt,
    SYS_recvfrom,
    SYS_recvmmsg,
    SYS_recvmsg,
    SYS_sendmmsg,
    SYS_sendmsg,
    SYS_sendto,
    SYS_setsockopt,
    SYS_shutdown,
    // descriptors
    SYS_close,
    SYS_dup,
    SYS_dup3,
    SYS_eventfd2,
    SYS_fcntl,
    SYS_flock,
    SYS_fsync,
    SYS_fdatasync,
    SYS_lseek,
    SYS_ppoll,
    SYS_pread64,
    SYS_preadv,
    SYS_pselect6,
    SYS_pwrite64,
    SYS_pwritev,
    SYS_read,
    SYS_readv,
    SYS_write,
    SYS_writev,
    // files to look at, and its own to remove
    SYS_faccessat,
    SYS_fstat,
    SYS_fstatfs,
    SYS_getcwd,
    SYS_getdents64,
    SYS_newfstatat,
    SYS_readlinkat,
    SYS_statfs,
    SYS_statx,
    SYS_unlinkat,
    // threads, signals, time, and what the C library asks
    SYS_clock_getres,
    SYS_clock_gettime,
    SYS_clock_nanosleep,
    SYS_exit,
    SYS_exit_group,
    SYS_futex,
    SYS_getcpu,
    SYS_getegid,
    SYS_geteuid,
    SYS_getgid,
    SYS_getpid,
    SYS_getppid,
    SYS_getrandom,
    SYS_getrusage,
    SYS_gettid,
    SYS_gettimeofday,
    SYS_getuid,
    SYS_membarrier,
    SYS_nanosleep,
    SYS_restart_syscall,
    SYS_rseq,
    SYS_rt_sigaction,
    SYS_rt_sigpending,
    SYS_rt_sigprocmask,
    SYS_rt_sigreturn,
    SYS_rt_sigtimedwait,
    SYS_sched_getaffinity,
    SYS_sched_yield,
    SYS_set_robust_list,
    SYS_sigaltstack,
    SYS_sysinfo,
    SYS_uname,
#ifdef SYS_open
    // older forms of those above, which newer machines do without
    SYS_access,
    SYS_lstat,
    SYS_poll,
    SYS_readlink,
    SYS_rmdir,
    SYS_select,
    SYS_stat,
    SYS_time,
    SYS_unlink,
#endif
};

// A part of an argument and what it has to be.
struct Word {
  std::uint32_t offset;  // in seccomp_data
  std::uint32_t mask;
  std::uint32_t value;
};

static_assert(std::endian::native == std::endian::little);
constexpr std::uint32_t at(unsigned argument) {
  return static_cast<std::uint32_t>(offsetof(seccomp_data, args) + argument * sizeof(std::uint64_t));
}
// Of the lower half, all that the kernel looks at in an int and all that flags are in.
constexpr Word bits(unsigned argument, std::uint32_t mask, std::uint32_t value) { return {at(argument), mask, value}; }
constexpr Word equals(unsigned argument, std::uint32_t value) { return bits(argument, ~0U, value); }
constexpr Word upper_half(unsigned argument, std::uint32_t value) { return {at(argument) + 4, ~0U, value}; }

// The program that the kernel runs at each call. It is made here and not by libseccomp, which leaves rules out where
// memory is short and says that all is well; here nothing is allocated.
class Filter {
 public:
  Filter() {
    add(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, arch));
    add(BPF_JMP | BPF_JEQ | BPF_K, kMachine, 1, 0);
    add(BPF_RET | BPF_K, kRefused);
    load_call();
  }
  void allow(std::uint32_t call, std::initializer_list<Word> words = {}) { add_rule(call, words, SECCOMP_RET_ALLOW); }
  void refuse(std::uint32_t call, std::uint32_t error) { add_rule(call, {}, SECCOMP_RET_ERRNO | error); }
  // For all threads. 0, or an errno where the kernel has no filters.
  [[nodiscard]] int install() {
    add(BPF_RET | BPF_K, kRefused);
    sock_fprog program{.len = size_, .filter = program_.data()};
    if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return errno;
    const long result = ::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program);
    if (result < 0) return errno;
    return result == 0 ? 0 : EBUSY;  // a thread with a filter of its own
  }

 private:
  static constexpr std::uint32_t kRefused = SECCOMP_RET_ERRNO | EPERM;

  void add(unsigned code, std::uint32_t value, unsigned if_true = 0, unsigned if_false = 0) {
    ensure(size_ < program_.size() && if_true < 256 && if_false < 256, "a filter's program fits");
    program_[size_++] = {static_cast<std::uint16_t>(code), static_cast<std::uint8_t>(if_true),
                         static_cast<std::uint8_t>(if_false), value};
  }
  void load_call() { add(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)); }

  // Where the call is another, or a word is not as it has to be, the next rule is tried.
  void add_rule(std::uint32_t call, std::initializer_list<Word> words, std::uint32_t action) {
    constexpr unsigned kOfWord = 3;
    auto left = static_cast<unsigned>(words.size());
    add(BPF_JMP | BPF_JEQ | BPF_K, call, 0, left == 0 ? 1 : kOfWord * left + 2);
    for (const Word& word : words) {
      --left;
      add(BPF_LD | BPF_W | BPF_ABS, word.offset);
      add(BPF_ALU | BPF_AND | BPF_K, word.mask);
      add(BPF_JMP | BPF_JEQ | BPF_K, word.value, 0, kOfWord * left + 1);
    }
    add(BPF_RET | BPF_K, action);
    if (words.size() > 0) load_call();
  }

  std::array<sock_filter, 512> program_{};
  std::uint16_t size_ = 0;
};

void add_rules(Filter& filter, pid_t command) {
  for (const std::uint32_t call : kCalls) filter.allow(call);
  // No memory becomes code.
  filter.allow(SYS_mmap, {bits(2, PROT_EXEC, 0)});
  filter.allow(SYS_mprotect, {bits(2, PROT_EXEC, 0)});
  // Threads, but no processes. The flags of clone3 are out of a filter's reach: the C library then uses clone.
  filter.allow(SYS_clone, {bits(0, CLONE_THREAD, CLONE_THREAD)});
  filter.refuse(SYS_clone3, ENOSYS);
  // Files to read; datagrams to systemd.
  filter.allow(SYS_openat, {bits(2, O_ACCMODE | O_CREAT | O_TRUNC, O_RDONLY)});
#ifdef SYS_open
  filter.allow(SYS_open, {bits(1, O_ACCMODE | O_CREAT | O_TRUNC, O_RDONLY)});
#endif
  filter.allow(SYS_socket, {equals(0, AF_UNIX)});
  for (const auto request : {TCGETS, FIONREAD, FIONBIO})
    filter.allow(SYS_ioctl, {equals(1, static_cast<std::uint32_t>(request))});
  for (const auto what : {PR_SET_NAME, PR_GET_NAME, PR_SET_IO_FLUSHER, PR_GET_IO_FLUSHER, PR_SET_VMA}) {
    filter.allow(SYS_prctl, {equals(0, static_cast<std::uint32_t>(what))});
  }
  // Limits to look at; signals to itself, as abort does, and to the command.
  filter.allow(SYS_prlimit64, {equals(2, 0), upper_half(2, 0)});
  filter.allow(SYS_tgkill, {equals(0, static_cast<std::uint32_t>(::getpid()))});
  if (command > 0) {
    filter.allow(SYS_kill, {equals(0, static_cast<std::uint32_t>(command))});
    filter.allow(SYS_wait4, {equals(0, static_cast<std::uint32_t>(command))});
  }
}

}  // namespace

std::optional<std::string> restrict_system_calls(pid_t command) {
  if (!kFiltered) return std::nullopt;
  if (kMachine == 0) return "no filter has been made for this processor";
  Filter filter;
  add_rules(filter, command);
  if (const int error = filter.install(); error != 0) return std::strerror(error);
  return std::nullopt;
}

}  // namespace uzram
