#include "cli/swap_safe.h"

#include <dlfcn.h>
#include <gtest/gtest.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <functional>
#include <sstream>
#include <thread>
#include <vector>

#include "cli/vm_setting.h"

namespace uzram {
namespace {

// What `body` says in a process of its own: nothing of it comes back to this one.
std::string in_child(const std::function<std::string()>& body) {
  int ends[2];
  if (pipe(ends) != 0) return "no pipe";
  const pid_t child = fork();
  if (child == 0) {
    const std::string said = body();
    _exit(write(ends[1], said.data(), said.size()) == static_cast<ssize_t>(said.size()) ? 0 : 1);
  }
  close(ends[1]);
  std::string said;
  char part[4096];
  for (ssize_t n = 0; (n = read(ends[0], part, sizeof part)) > 0;) said.append(part, static_cast<std::size_t>(n));
  close(ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  return status == 0 ? said : said + " and it ended with status " + std::to_string(status);
}

// Gives up every privilege, as a user who starts the daemon by hand has none.
void become_nobody() {
  const rlimit none{0, 0};
  for (const auto limit : {RLIMIT_MEMLOCK, RLIMIT_RTPRIO}) setrlimit(limit, &none);
  if (geteuid() == 0 && setresuid(65534, 65534, 65534) != 0) _exit(1);
}

// A figure of /proc/self/status, in KiB.
long status_kib(const std::string& name) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with(name + ":")) return std::stol(line.substr(name.size() + 1));
  }
  return -1;
}

// How much of this library's, or program's, code is locked; -1 where it is not there.
long locked_code_kib(const std::string& name) {
  std::ifstream maps("/proc/self/smaps");
  bool its_code = false;
  long sum = -1;
  for (std::string line; std::getline(maps, line);) {
    if (line.find(" r-xp ") != std::string::npos) its_code = line.find('/' + name) != std::string::npos;
    if (line.find(" r--p ") != std::string::npos || line.find(" rw-p ") != std::string::npos) its_code = false;
    if (its_code && line.starts_with("Locked:")) sum = std::max(sum, 0L) + std::stol(line.substr(7));
  }
  return sum;
}

bool resident(void* at, std::size_t bytes) {
  std::vector<unsigned char> pages(bytes / 4096);
  if (mincore(at, bytes, pages.data()) != 0) return false;
  return std::all_of(pages.begin(), pages.end(), [](unsigned char page) { return (page & 1) != 0; });
}

void* map(std::size_t bytes) {
  return mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

constexpr std::size_t kMiB = std::size_t{1} << 20;

// Where this machine refuses a protection (user-mode-linux refuses none), the warning has to say so.
TEST(SwapSafe, EveryProtectionHoldsInLaterThreadsOrIsNamed) {
  const std::string said = in_child([] {
    SwapSafe safe;
    safe.before_threads();
    const std::string warning = safe.warning().value_or("");
    const auto named = [&](const char* what) { return warning.find(what) != std::string::npos; };
    int score = 0;
    std::ifstream("/proc/self/oom_score_adj") >> score;
    std::ostringstream out;
    out << ((score == -1000) != named("oom_score_adj"));
    std::thread([&] {
      pthread_attr_t attributes;
      std::size_t stack = 0;
      pthread_getattr_np(pthread_self(), &attributes);
      pthread_attr_getstacksize(&attributes, &stack);
      out << (is_io_flusher() != named("PR_SET_IO_FLUSHER")) << (is_realtime() != named("realtime")) << ' ' << stack;
    }).join();
    return out.str();
  });
  EXPECT_EQ(said, "111 " + std::to_string(SwapSafe::kStackBytes));
}

TEST(SwapSafe, LocksWhatIsMappedAndFillsNoSparseRangeThatComesBetween) {
  const std::string said = in_child([] {
    void* const early = map(kMiB);
    SwapSafe safe;
    safe.before_threads();
    safe.before_arena();
    const bool early_is_there = resident(early, kMiB);
    const long locked = status_kib("VmLck");
    void* const sparse = map(1024 * kMiB);
    static_cast<char*>(sparse)[0] = 1;
    safe.after_arena();
    const bool sparse_is_filled = resident(sparse, 2 * 4096);
    void* const late = map(kMiB);
    std::ostringstream out;
    out << early_is_there << (locked >= status_kib("VmRSS") - 4096) << sparse_is_filled << resident(late, kMiB);
    return out.str();
  });
  EXPECT_EQ(said, "1101");
}

TEST(SwapSafe, NamesEveryProtectionThatWasRefused) {
  const std::string said = in_child([] {
    become_nobody();
    SwapSafe safe;
    safe.before_threads();
    safe.before_arena();
    safe.after_arena();
    return safe.warning().value_or("nothing");
  });
  for (const char* missing :
       {"PR_SET_IO_FLUSHER (CAP_SYS_RESOURCE)", "realtime scheduling (CAP_SYS_NICE or LimitRTPRIO=1)",
        "oom_score_adj -1000 (CAP_SYS_RESOURCE)", "CAP_IPC_LOCK or LimitMEMLOCK=infinity"}) {
    EXPECT_NE(said.find(missing), std::string::npos) << said;
  }
  EXPECT_EQ(said.find('\n'), std::string::npos) << said;
}

TEST(SwapSafe, AThreadIsNoFlusherAndNotRealTimeUnlessItIsAskedFor) {
  EXPECT_FALSE(is_io_flusher());
  EXPECT_FALSE(is_realtime());
}

TEST(SwapSafe, LocksNoCodeThatServesTlsButAllOfItsOwn) {
  const std::string said = in_child([] {
    if (dlopen("libgnutls.so.30", RTLD_NOW) == nullptr) return std::string("there is no libgnutls.so.30");
    SwapSafe safe;
    safe.before_threads();
    safe.before_arena();
    safe.after_arena();
    std::ostringstream out;
    for (const char* library : {"libgnutls.", "libunistring.", "libc.", "libstdc++.", "swap_safe_test"}) {
      const long locked = locked_code_kib(library);
      out << library << (locked < 0 ? " absent, " : locked > 0 ? " locked, " : " not, ");
    }
    return out.str();
  });
  EXPECT_EQ(said, "libgnutls. not, libunistring. not, libc. locked, libstdc++. locked, swap_safe_test locked, ");
}

TEST(VmSetting, OfFreeMemoryIsATenthOfASmallMachineAndNoMoreThan32MiB) {
  EXPECT_EQ(min_free_setting(1 << 20).wanted, 32768U);
  EXPECT_EQ(min_free_setting(100 << 10).wanted, 10240U);
  EXPECT_GT(min_free_setting(memory_kilobytes()).wanted, 0U);
}

TEST(VmSetting, OfPageListsIsForSmallMachines) {
  EXPECT_EQ(page_lists_setting(600 << 10).wanted, 150U);
  EXPECT_EQ(page_lists_setting(16 << 10).wanted, 8U);
  EXPECT_EQ(page_lists_setting(2 << 20).wanted, 0U);
}

TEST(VmSetting, ReadsWhatTheKernelHasAndSaysWhenItCannotBeSet) {
  EXPECT_GT(min_free_setting(0).now(), 0U);
  const VmSetting none{"no_such_setting", 1, ""};
  EXPECT_EQ(none.now(), 0U);
  EXPECT_FALSE(none.set(1));
}

}  // namespace
}  // namespace uzram
