#include "tests/store_trap.h"

#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <cstdio>

namespace uzram::testing {
namespace {

constexpr greg_t kTrapFlag = 0x100;  // of EFLAGS: a trap after the next instruction

// A signal's handler has no other way to what it works on.
struct {
  std::span<std::byte> range;
  const std::function<void()>* after_store = nullptr;
} armed;

void protect(int access) {
  if (mprotect(armed.range.data(), armed.range.size(), access) == 0) return;
  std::perror("mprotect");
  _exit(1);
}

void on_fault(int, siginfo_t* info, void* context) {
  const auto* const at = static_cast<std::byte*>(info->si_addr);
  if (at < armed.range.data() || at >= armed.range.data() + armed.range.size()) {
    signal(SIGSEGV, SIG_DFL);  // a fault like any other: it comes again
    return;
  }
  protect(PROT_READ | PROT_WRITE);
  static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_EFL] |= kTrapFlag;
}

void on_trap(int, siginfo_t*, void* context) {
  static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_EFL] &= ~kTrapFlag;
  (*armed.after_store)();
  protect(PROT_READ);
}

struct sigaction handle(int signal, void (*handler)(int, siginfo_t*, void*)) {
  struct sigaction action {};
  struct sigaction old {};
  action.sa_sigaction = handler;
  action.sa_flags = SA_SIGINFO;
  sigaction(signal, &action, &old);
  return old;
}

}  // namespace

void at_each_store(std::span<std::byte> range, const std::function<void()>& act,
                   const std::function<void()>& after_store) {
  armed = {range, &after_store};
  const struct sigaction old_fault = handle(SIGSEGV, on_fault);
  const struct sigaction old_trap = handle(SIGTRAP, on_trap);
  protect(PROT_READ);
  act();
  protect(PROT_READ | PROT_WRITE);
  sigaction(SIGSEGV, &old_fault, nullptr);
  sigaction(SIGTRAP, &old_trap, nullptr);
}

}  // namespace uzram::testing
