// Preloaded into linux.uml, so that user-mode-linux starts on today's processors, and may be stopped and continued.
//
// The kernel of Debian 12's user-mode-linux keeps a task's vector registers in a buffer of about 2.7 KB and restores
// them with PTRACE_SETREGSET. Where the processor has AMX, the host's state is about 11 KB, the host refuses the short
// buffer with EINVAL, and the guest panics in put_fp_registers before its first program. Here a short buffer is
// completed with zeroes (the state of registers that the guest never saved, and so never used).
//
// A stub, the host's process for one of the guest's, that stops for another reason than the guest's own ends in a
// panic, too: "child stopped with signal 19". So Ctrl-Z, or who stops everything for a moment of quiet, would kill the
// guest. Here such a stub is sent on, as it was before; the guest itself stops and continues as any process does.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/wait.h>

typedef long (*ptrace_function)(int, ...);
typedef int (*clone_function)(int (*)(void*), void*, int, void*, ...);
typedef pid_t (*waitpid_function)(pid_t, int*, int);

// How the guest sent each of its stubs on last; none for one that has not run yet, which begins with a stop of its own.
enum { kNever = -1, kStubs = 1 << 16 };
static struct {
  pid_t pid;
  int request;
} stubs[kStubs];

static int is_resume(int request) {
  return request == PTRACE_CONT || request == PTRACE_SYSCALL || request == PTRACE_SINGLESTEP ||
         request == PTRACE_SYSEMU || request == PTRACE_SYSEMU_SINGLESTEP;
}

static void remember(pid_t pid, int request) {
  stubs[pid % kStubs].pid = pid;
  stubs[pid % kStubs].request = request;
}

static int last_resume(pid_t pid) { return stubs[pid % kStubs].pid == pid ? stubs[pid % kStubs].request : kNever; }

static ptrace_function real_ptrace(void) {
  static ptrace_function real;
  if (!real) *(void**)&real = dlsym(RTLD_NEXT, "ptrace");
  return real;
}

int clone(int (*body)(void*), void* stack, int flags, void* argument, ...) {
  static clone_function real;
  if (!real) *(void**)&real = dlsym(RTLD_NEXT, "clone");
  const int pid = real(body, stack, flags, argument);
  if (pid > 0) remember(pid, kNever);
  return pid;
}

pid_t waitpid(pid_t pid, int* status, int options) {
  static waitpid_function real;
  if (!real) *(void**)&real = dlsym(RTLD_NEXT, "waitpid");
  for (;;) {
    const pid_t stopped = real(pid, status, options);
    if (stopped <= 0 || !status || !WIFSTOPPED(*status)) return stopped;
    const int signal = WSTOPSIG(*status);
    const int foreign = signal == SIGSTOP || signal == SIGCONT || signal == SIGTSTP;
    const int request = last_resume(stopped);
    if (!foreign || request == kNever) return stopped;
    if (real_ptrace()(request, stopped, 0, 0) != 0) return stopped;
  }
}

// The size of the host's state, asked of the host once; 0 while it is not known.
static size_t host_state_size(ptrace_function real, pid_t pid, void* kind) {
  static size_t size;
  static char state[65536];
  struct iovec whole = {state, sizeof state};
  if (size == 0 && real(PTRACE_GETREGSET, pid, kind, &whole) == 0) size = whole.iov_len;
  return size;
}

long ptrace(enum __ptrace_request request, ...) {
  va_list arguments;
  va_start(arguments, request);
  const pid_t pid = va_arg(arguments, pid_t);
  void* const address = va_arg(arguments, void*);
  void* const data = va_arg(arguments, void*);
  va_end(arguments);

  const ptrace_function real = real_ptrace();
  if (is_resume(request)) remember(pid, request);
  if (request != PTRACE_SETREGSET || (long)address != NT_X86_XSTATE) return real(request, pid, address, data);

  const size_t size = host_state_size(real, pid, address);
  const struct iovec* const given = data;
  if (given->iov_len >= size) return real(request, pid, address, data);
  static char state[65536];
  memset(state, 0, size);
  memcpy(state, given->iov_base, given->iov_len);
  struct iovec completed = {state, size};
  return real(request, pid, address, &completed);
}
