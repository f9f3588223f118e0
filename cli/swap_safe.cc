#include "cli/swap_safe.h"

#include <link.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstring>
#include <fstream>
#include <string_view>

#include "cli/vm_setting.h"

namespace uzram {
namespace {

constexpr char kOomScore[] = "/proc/self/oom_score_adj";
constexpr int kNeverKilled = -1000;

bool become_io_flusher() { return prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) == 0 && is_io_flusher(); }

bool escape_oom_killer() {
  std::ofstream(kOomScore) << kNeverKilled << '\n';
  int now = 0;
  std::ifstream(kOomScore) >> now;
  return now == kNeverKilled;
}

// Every arena but the first reserves 64 MiB, and what is given back would have to be asked for again.
bool keep_heap_small() {
  return mallopt(M_ARENA_MAX, 1) == 1 && mallopt(M_TRIM_THRESHOLD, INT_MAX) == 1 && mallopt(M_MMAP_MAX, 0) == 1;
}

bool keep_stacks_small() {
  pthread_attr_t attributes;
  if (pthread_attr_init(&attributes) != 0) return false;
  const bool done = pthread_attr_setstacksize(&attributes, SwapSafe::kStackBytes) == 0 &&
                    pthread_setattr_default_np(&attributes) == 0;
  pthread_attr_destroy(&attributes);
  return done;
}

// A realtime thread is let into the last quarter of what vm.min_free_kbytes keeps (on kernels from 6.4 on: half): what
// everybody else who is short of memory, and waits for this process to free some, cannot take from it. And it is not
// behind them in the queue for a processor.
bool become_realtime() {
  sched_param lowest{};
  lowest.sched_priority = sched_get_priority_min(SCHED_RR);
  return sched_setscheduler(0, SCHED_RR, &lowest) == 0 && is_realtime();
}

// Code of libraries that ours bring along, or that serve TLS: no request of this machine's kernel comes there. Twice as
// much as all code that it does need, and of uzramctl's, thirty megabytes are Unicode's tables.
constexpr std::array<std::string_view, 17> kUnneeded = {
    "libcrypto.",    "libssl.",          "libgnutls.",  "libnettle.",  "libhogweed.", "libgmp.",
    "libunistring.", "libidn2.",         "libp11-kit.", "libtasn1.",   "libffi.",     "libgcrypt.",
    "libbrotlienc.", "libbrotlicommon.", "liblzma.",    "libicudata.", "libicuuc."};

int unlock_unneeded(dl_phdr_info* library, std::size_t, void*) {
  std::string_view name = library->dlpi_name;
  name.remove_prefix(name.rfind('/') + 1);
  if (std::none_of(kUnneeded.begin(), kUnneeded.end(), [&](auto one) { return name.starts_with(one); })) return 0;
  for (int i = 0; i < library->dlpi_phnum; ++i) {
    const auto& part = library->dlpi_phdr[i];
    // What is written has no file to come back from. The first part has the names, which the loader goes through when
    // any library's function is called for the first time.
    if (part.p_type != PT_LOAD || (part.p_flags & PF_W) != 0 || part.p_offset == 0) continue;
    // NOLINTNEXTLINE(performance-no-int-to-ptr): an address is all there is
    munlock(reinterpret_cast<const void*>(library->dlpi_addr + part.p_vaddr), part.p_memsz);
  }
  return 0;
}

std::string lock_refused(const char* what) {
  const std::string why = std::strerror(errno);
  return std::string(what) + " (" + why + "; CAP_IPC_LOCK or LimitMEMLOCK=infinity)";
}

}  // namespace

bool is_realtime() { return sched_getscheduler(0) == SCHED_RR; }

bool is_io_flusher() { return prctl(PR_GET_IO_FLUSHER, 0, 0, 0, 0) == 1; }

void SwapSafe::before_threads() {
  if (!become_io_flusher()) refused_.emplace_back("PR_SET_IO_FLUSHER (CAP_SYS_RESOURCE)");
  if (!become_realtime()) refused_.emplace_back("realtime scheduling (CAP_SYS_NICE or LimitRTPRIO=1)");
  if (!escape_oom_killer()) refused_.emplace_back("oom_score_adj -1000 (CAP_SYS_RESOURCE)");
  if (!keep_heap_small()) refused_.emplace_back("a single malloc arena");
  if (!keep_stacks_small()) refused_.emplace_back("small thread stacks");
}

void SwapSafe::before_arena() {
  if (mlockall(MCL_CURRENT) != 0) refused_.push_back(lock_refused("locked memory"));
  dl_iterate_phdr(unlock_unneeded, nullptr);
}

void SwapSafe::after_arena() {
  // On fault: a sparse range must not be filled now, and what is present of it is locked all the same.
  if (mlockall(MCL_CURRENT | MCL_ONFAULT) != 0 || mlockall(MCL_FUTURE) != 0)
    refused_.push_back(lock_refused("locked memory for the arena's tables and new threads"));
  dl_iterate_phdr(unlock_unneeded, nullptr);
}

std::optional<std::string> SwapSafe::warning() const {
  std::vector<std::string> missing = refused_;
  if (const VmSetting min_free = min_free_setting(memory_kilobytes()); min_free.low()) {
    missing.push_back("vm.min_free_kbytes at " + std::to_string(min_free.wanted) + " or more (it is " +
                      std::to_string(min_free.now()) + "; sysctl)");
  }
  if (missing.empty()) return std::nullopt;
  std::string text = "not safe for this machine's own swap, missing: ";
  for (const std::string& one : missing) text += (&one == &missing.front() ? "" : ", ") + one;
  return text;
}

bool group_may_be_swapped() {
  std::ifstream groups("/proc/self/cgroup");
  std::string limit;
  for (std::string line; std::getline(groups, line);) {
    if (line.starts_with("0::")) std::ifstream("/sys/fs/cgroup" + line.substr(3) + "/memory.swap.max") >> limit;
  }
  return limit != "0";
}

}  // namespace uzram
