#pragma once
// Settings of the kernel's memory management that swapping to a process of the same machine depends on. They are the
// machine's: uzramd looks at them, and `uzramctl attach --swap` raises them.
//
// Threads: any.

#include <cstdint>
#include <string>

namespace uzram {

struct VmSetting {
  std::string name;          // below vm., as sysctl says it
  std::uint64_t wanted = 0;  // at least; 0: any value will do
  std::string otherwise;     // what may happen below that

  // 0 where the kernel has no such setting.
  [[nodiscard]] std::uint64_t now() const;
  [[nodiscard]] bool low() const { return now() < wanted; }
  // False where the kernel refuses.
  [[nodiscard]] bool set(std::uint64_t value) const;
};

[[nodiscard]] std::uint64_t memory_kilobytes();

// What only who frees memory may take. Swapping to a daemon was measured to need 32 MiB, on a small machine a tenth of
// its memory.
[[nodiscard]] VmSetting min_free_setting(std::uint64_t memory_kilobytes);

// How small a part of the memory the processors' lists of free pages may hold. Without it they hold as much as
// vm.min_free_kbytes and a quarter; what is there is not free to the OOM killer, which was seen to kill everything on a
// machine with one processor, 640 MiB and 23 MiB free in such a list. 4 MiB are enough; from 2 GiB on it matters
// little.
[[nodiscard]] VmSetting page_lists_setting(std::uint64_t memory_kilobytes);

}  // namespace uzram
