#pragma once
// What the daemon gives up before it serves: another user's rights, capabilities, and every system call that serving
// does not need. A call that is refused fails with EPERM; it does not end the process, which would lose what is stored.
//
// Threads: before there is a second one; what is given up, every later thread goes without.

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "blockdev/types.h"

namespace uzram {

// By name or number. EINVAL where there is none.
[[nodiscard]] Result<gid_t> find_group(const std::string& name);

// Makes `paths`, sockets and their folder, the user's, who is to remove them in the end.
[[nodiscard]] Result<void> give_to_user(const std::string& user, const std::vector<std::string>& paths);

// Becomes `user`, or stays who it is where that is empty, and keeps of its capabilities only those that locking memory
// and reclaiming it take. Only root can become another.
[[nodiscard]] Result<void> drop_privileges(const std::string& user);

// No system calls from here on but those that serving needs; above all no new programs, no processes, no connections,
// and no files to write to. `command` is the one process that may be waited for and signalled, 0 for none. Says why
// where the kernel cannot do it. In builds with sanitizers or for gcov it does nothing.
[[nodiscard]] std::optional<std::string> restrict_system_calls(pid_t command);

}  // namespace uzram
