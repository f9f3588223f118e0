/* Preloaded into a program (LD_PRELOAD), it counts the program's allocations and system calls and makes those fail that
 * a plan names. The plan is a page shared with the test: the file that UZRAM_FAULT_PLAN names. Counting begins with
 * main.
 *
 * Not counted: what libc does inside itself, and what cannot fail or has no way to tell. A close does its work before
 * it fails, as the kernel's does.
 *
 * Threads: any. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <unistd.h>

/* tests/lib/daemon.py has the same layout. */
struct plan {
  _Atomic uint64_t calls;   /* counted so far */
  _Atomic uint64_t fail_at; /* the first call that fails; 0: none */
  _Atomic uint64_t run;     /* how many fail from there on */
  _Atomic uint64_t failed;  /* how many have */
  _Atomic int64_t blocks;   /* allocated and not freed */
  _Atomic uint64_t partial; /* not 0: transfers are cut short, and every so manieth call is interrupted */
  _Atomic uint64_t transfers;
  char last[40]; /* the name of the last that failed */
};

static struct plan* _Atomic plan;

static void take_plan(void) {
  const char* path = getenv("UZRAM_FAULT_PLAN");
  if (path == NULL) return;
  const int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0);
  void* page = fd < 0 ? MAP_FAILED : (void*)syscall(SYS_mmap, NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (page == MAP_FAILED) abort();
  syscall(SYS_close, fd);
  plan = page;
}

typedef int (*main_function)(int, char**, char**);
static main_function real_main;

/* What the program starts is not under test. */
static int main_with_plan(int argc, char** argv, char** variables) {
  take_plan();
  unsetenv("UZRAM_FAULT_PLAN");
  unsetenv("LD_PRELOAD");
  return real_main(argc, argv, variables);
}

int __libc_start_main(main_function, int, char**, void (*)(void), void (*)(void), void (*)(void), void*);
int __libc_start_main(main_function body, int argc, char** argv, void (*init)(void), void (*fini)(void),
                      void (*rtld_fini)(void), void* stack_end) {
  int (*real)(main_function, int, char**, void (*)(void), void (*)(void), void (*)(void), void*);
  *(void**)&real = dlsym(RTLD_NEXT, "__libc_start_main");
  real_main = body;
  return real(main_with_plan, argc, argv, init, fini, rtld_fini, stack_end);
}

/* Whether this call is one that the plan fails. */
static int fails(const char* name) {
  struct plan* p = plan;
  if (p == NULL) return 0;
  const uint64_t call = ++p->calls;
  const uint64_t first = p->fail_at;
  if (first == 0 || call < first || call - first >= p->run) return 0;
  strncpy(p->last, name, sizeof p->last - 1);
  ++p->failed;
  return 1;
}

/* ---- allocations */

void* __libc_malloc(size_t);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);
void* __libc_memalign(size_t, size_t);
void __libc_free(void*);

static void* counted(void* block) {
  if (block != NULL && plan != NULL) ++plan->blocks;
  return block;
}
static void* no_memory(void) {
  errno = ENOMEM;
  return NULL;
}

void* malloc(size_t size) { return fails("malloc") ? no_memory() : counted(__libc_malloc(size)); }
void* calloc(size_t n, size_t size) { return fails("calloc") ? no_memory() : counted(__libc_calloc(n, size)); }
void* memalign(size_t alignment, size_t size) {
  return fails("memalign") ? no_memory() : counted(__libc_memalign(alignment, size));
}
void* aligned_alloc(size_t alignment, size_t size) { return memalign(alignment, size); }
int posix_memalign(void** out, size_t alignment, size_t size) {
  void* block = memalign(alignment, size);
  if (block == NULL) return ENOMEM;
  *out = block;
  return 0;
}
void* realloc(void* old, size_t size) {
  if (fails("realloc")) return no_memory();
  void* block = __libc_realloc(old, size);
  return old == NULL ? counted(block) : block;
}
void free(void* block) {
  if (block != NULL && plan != NULL) --plan->blocks;
  __libc_free(block);
}

/* ---- calls that return -1 and set errno, or that return what went wrong */

#define REAL(type, name, ...)       \
  static type (*real)(__VA_ARGS__); \
  if (real == NULL) *(void**)&real = dlsym(RTLD_NEXT, #name);
#define FAIL_WITH(name, code, result) \
  if (fails(#name)) {                 \
    errno = (code);                   \
    return (result);                  \
  }
#define INTERPOSE(type, name, code, parameters, arguments, ...) \
  type name parameters {                                        \
    REAL(type, name, __VA_ARGS__)                               \
    FAIL_WITH(name, code, (type)-1)                             \
    return real arguments;                                      \
  }
#define INTERPOSE_CODE(name, code, parameters, arguments, ...) \
  int name parameters {                                        \
    REAL(int, name, __VA_ARGS__)                               \
    return fails(#name) ? (code) : real arguments;             \
  }

INTERPOSE(int, madvise, ENOMEM, (void* at, size_t n, int what), (at, n, what), void*, size_t, int)
INTERPOSE(ssize_t, process_madvise, EINVAL, (int pid, const struct iovec* ranges, size_t n, int what, unsigned flags),
          (pid, ranges, n, what, flags), int, const struct iovec*, size_t, int, unsigned)
INTERPOSE(int, mlock, ENOMEM, (const void* at, size_t n), (at, n), const void*, size_t)
INTERPOSE(int, munlock, ENOMEM, (const void* at, size_t n), (at, n), const void*, size_t)
INTERPOSE(int, mlockall, EPERM, (int flags), (flags), int)
INTERPOSE(void*, mmap, ENOMEM, (void* at, size_t n, int protection, int flags, int fd, off_t offset),
          (at, n, protection, flags, fd, offset), void*, size_t, int, int, int, off_t)
INTERPOSE(int, fallocate, ENOSPC, (int fd, int mode, off_t from, off_t n), (fd, mode, from, n), int, int, off_t, off_t)
INTERPOSE(int, ftruncate, EIO, (int fd, off_t size), (fd, size), int, off_t)
INTERPOSE(int, flock, EINTR, (int fd, int operation), (fd, operation), int, int)
INTERPOSE(off_t, lseek, EIO, (int fd, off_t to, int whence), (fd, to, whence), int, off_t, int)
INTERPOSE(ssize_t, getrandom, ENOSYS, (void* out, size_t n, unsigned flags), (out, n, flags), void*, size_t, unsigned)
INTERPOSE(int, eventfd, EMFILE, (unsigned value, int flags), (value, flags), unsigned, int)
INTERPOSE(int, socket, EMFILE, (int domain, int type, int protocol), (domain, type, protocol), int, int, int)
INTERPOSE(int, bind, EADDRINUSE, (int fd, const struct sockaddr* to, socklen_t n), (fd, to, n), int,
          const struct sockaddr*, socklen_t)
INTERPOSE(int, listen, ENOBUFS, (int fd, int backlog), (fd, backlog), int, int)
INTERPOSE(int, connect, EAGAIN, (int fd, const struct sockaddr* to, socklen_t n), (fd, to, n), int,
          const struct sockaddr*, socklen_t)
INTERPOSE(int, accept, EMFILE, (int fd, struct sockaddr* from, socklen_t* n), (fd, from, n), int, struct sockaddr*,
          socklen_t*)
INTERPOSE(int, accept4, EMFILE, (int fd, struct sockaddr* from, socklen_t* n, int flags), (fd, from, n, flags), int,
          struct sockaddr*, socklen_t*, int)
INTERPOSE(int, setsockopt, ENOBUFS, (int fd, int level, int name, const void* value, socklen_t n),
          (fd, level, name, value, n), int, int, int, const void*, socklen_t)
INTERPOSE(int, getsockopt, ENOBUFS, (int fd, int level, int name, void* value, socklen_t* n),
          (fd, level, name, value, n), int, int, int, void*, socklen_t*)
INTERPOSE(int, getsockname, ENOBUFS, (int fd, struct sockaddr* to, socklen_t* n), (fd, to, n), int, struct sockaddr*,
          socklen_t*)
INTERPOSE(int, shutdown, ENOTCONN, (int fd, int how), (fd, how), int, int)
INTERPOSE(int, fstat, EIO, (int fd, struct stat* out), (fd, out), int, struct stat*)
INTERPOSE(int, stat, EACCES, (const char* path, struct stat* out), (path, out), const char*, struct stat*)
INTERPOSE(int, lstat, EACCES, (const char* path, struct stat* out), (path, out), const char*, struct stat*)
INTERPOSE(int, statfs, EIO, (const char* path, struct statfs* out), (path, out), const char*, struct statfs*)
INTERPOSE(int, fchmod, EPERM, (int fd, mode_t mode), (fd, mode), int, mode_t)
INTERPOSE(int, mkdir, EACCES, (const char* path, mode_t mode), (path, mode), const char*, mode_t)
INTERPOSE(int, rmdir, EACCES, (const char* path), (path), const char*)
INTERPOSE(int, unlink, EACCES, (const char* path), (path), const char*)
INTERPOSE(int, linkat, EACCES, (int from, const char* old, int to, const char* path, int flags),
          (from, old, to, path, flags), int, const char*, int, const char*, int)
INTERPOSE_CODE(pthread_create, EAGAIN,
               (pthread_t * thread, const pthread_attr_t* attributes, void* (*body)(void*), void* argument),
               (thread, attributes, body, argument), pthread_t*, const pthread_attr_t*, void* (*)(void*), void*)
INTERPOSE_CODE(posix_spawn, ENOMEM,
               (pid_t * pid, const char* path, const posix_spawn_file_actions_t* actions,
                const posix_spawnattr_t* attributes, char* const argv[], char* const variables[]),
               (pid, path, actions, attributes, argv, variables), pid_t*, const char*,
               const posix_spawn_file_actions_t*, const posix_spawnattr_t*, char* const[], char* const[])
INTERPOSE_CODE(getaddrinfo, EAI_MEMORY,
               (const char* node, const char* service, const struct addrinfo* hints, struct addrinfo** found),
               (node, service, hints, found), const char*, const char*, const struct addrinfo*, struct addrinfo**)

char* mkdtemp(char* path) {
  REAL(char*, mkdtemp, char*)
  FAIL_WITH(mkdtemp, EACCES, NULL)
  return real(path);
}
FILE* fopen(const char* path, const char* mode) {
  REAL(FILE*, fopen, const char*, const char*)
  FAIL_WITH(fopen, EMFILE, NULL)
  return real(path, mode);
}
FILE* fopen64(const char* path, const char* mode) { return fopen(path, mode); }

int open(const char* path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  const mode_t mode = (flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(rest, mode_t) : 0;
  va_end(rest);
  FAIL_WITH(open, EMFILE, -1)
  return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}
int fcntl(int fd, int command, ...) {
  va_list rest;
  va_start(rest, command);
  void* argument = va_arg(rest, void*);
  va_end(rest);
  FAIL_WITH(fcntl, command == F_DUPFD || command == F_DUPFD_CLOEXEC ? EMFILE : ENOLCK, -1)
  return (int)syscall(SYS_fcntl, fd, command, argument);
}
int fcntl64(int fd, int command, ...) {
  va_list rest;
  va_start(rest, command);
  void* argument = va_arg(rest, void*);
  va_end(rest);
  return fcntl(fd, command, argument);
}
int close(int fd) {
  const int result = (int)syscall(SYS_close, fd);
  FAIL_WITH(close, EIO, -1)
  return result;
}

/* ---- transfers and waits: they may also be cut short, or interrupted */

static int interrupted(void) {
  struct plan* p = plan;
  if (p == NULL || p->partial == 0 || ++p->transfers % p->partial != 0) return 0;
  errno = EINTR;
  return 1;
}
/* 1 to 61 bytes of what was asked, other ones each time. */
static size_t cut(size_t n) {
  struct plan* p = plan;
  if (p == NULL || p->partial == 0) return n;
  const size_t most = 1 + (size_t)(p->transfers * 2654435761U >> 7) % 61;
  return n < most ? n : most;
}

#define TRANSFER(type, name, code, parameters, arguments, ...) \
  type name parameters {                                       \
    REAL(type, name, __VA_ARGS__)                              \
    FAIL_WITH(name, code, (type)-1)                            \
    return interrupted() ? (type)-1 : real arguments;          \
  }

TRANSFER(ssize_t, recv, ECONNRESET, (int fd, void* out, size_t n, int flags), (fd, out, cut(n), flags), int, void*,
         size_t, int)
TRANSFER(ssize_t, send, ECONNRESET, (int fd, const void* in, size_t n, int flags), (fd, in, cut(n), flags), int,
         const void*, size_t, int)
TRANSFER(ssize_t, recvmsg, ECONNRESET, (int fd, struct msghdr* message, int flags), (fd, message, flags), int,
         struct msghdr*, int)
TRANSFER(ssize_t, sendmsg, ECONNRESET, (int fd, const struct msghdr* message, int flags), (fd, message, flags), int,
         const struct msghdr*, int)
TRANSFER(ssize_t, read, EIO, (int fd, void* out, size_t n), (fd, out, n), int, void*, size_t)
TRANSFER(ssize_t, write, EIO, (int fd, const void* in, size_t n), (fd, in, n), int, const void*, size_t)
TRANSFER(ssize_t, pread, EIO, (int fd, void* out, size_t n, off_t from), (fd, out, n, from), int, void*, size_t, off_t)
TRANSFER(ssize_t, pwrite, ENOSPC, (int fd, const void* in, size_t n, off_t to), (fd, in, n, to), int, const void*,
         size_t, off_t)
TRANSFER(int, poll, ENOMEM, (struct pollfd * waits, nfds_t n, int timeout), (waits, n, timeout), struct pollfd*, nfds_t,
         int)
