// Preloaded into linux.uml, so that user-mode-linux starts on today's processors.
//
// The kernel of Debian 12's user-mode-linux keeps a task's vector registers in a buffer of about 2.7 KB and restores
// them with PTRACE_SETREGSET. Where the processor has AMX, the host's state is about 11 KB, the host refuses the short
// buffer with EINVAL, and the guest panics in put_fp_registers before its first program. Here a short buffer is
// completed with zeroes (the state of registers that the guest never saved, and so never used).
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/uio.h>

typedef long (*ptrace_function)(int, ...);

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

  static ptrace_function real;
  if (!real) *(void**)&real = dlsym(RTLD_NEXT, "ptrace");
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
