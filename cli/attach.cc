#include "cli/attach.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/swap.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <thread>

#include "cli/mounts.h"
#include "cli/nbd_netlink.h"
#include "cli/nbd_sockets.h"
#include "cli/run_tool.h"
#include "cli/vm_setting.h"
#include "cli/watch.h"

namespace uzram {
namespace {

// Takes back what was done, last first, unless it is told to keep it.
class Undo {
 public:
  explicit Undo(const Say& say) : say_(say) {}
  Undo(const Undo&) = delete;
  Undo& operator=(const Undo&) = delete;
  ~Undo() {
    for (auto step = steps_.rbegin(); step != steps_.rend(); ++step) {
      if (auto done = (*step)(); !done) say_("while taking it back: " + done.error().message);
    }
  }
  void add(std::function<Result<void>()> step) { steps_.push_back(std::move(step)); }
  void keep() { steps_.clear(); }

 private:
  const Say& say_;
  std::vector<std::function<Result<void>()>> steps_;
};

// Holds back the signals that would end the program between two steps.
class HeldSignals {
 public:
  HeldSignals() {
    sigemptyset(&held_);
    for (const int signal : {SIGINT, SIGTERM, SIGHUP}) sigaddset(&held_, signal);
    pthread_sigmask(SIG_BLOCK, &held_, &before_);
  }
  HeldSignals(const HeldSignals&) = delete;
  HeldSignals& operator=(const HeldSignals&) = delete;
  ~HeldSignals() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

  [[nodiscard]] Result<void> none_waiting() const {
    sigset_t waiting;
    sigpending(&waiting);
    for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
      if (sigismember(&waiting, signal) == 1) return fail(EINTR, "interrupted");
    }
    return {};
  }

 private:
  sigset_t held_;
  sigset_t before_;
};

Result<void> check_mount_point(const std::string& folder) {
  std::error_code error;
  if (!std::filesystem::is_directory(folder, error)) return fail(ENOTDIR, folder + " is not a folder to mount at");
  if (is_mount_point(folder)) return fail(EBUSY, folder + " is a mount point already");
  return {};
}

Result<void> check(const AttachTarget& target, const AttachOptions& o) {
  if (o.connections < 1 || o.connections > kMaxConnections) {
    return fail(EINVAL, "connections: 1 to " + std::to_string(kMaxConnections));
  }
  if (o.swap && !(o.mkfs.empty() && o.mount.empty())) return fail(EINVAL, "a device is swap or a filesystem, not both");
  if (o.priority && !o.swap) return fail(EINVAL, "a priority is for swap");
  if (o.priority && (*o.priority < 0 || *o.priority > kMaxSwapPriority)) {
    return fail(ERANGE, "swap priority " + std::to_string(*o.priority) + " is out of range, 0 to " +
                            std::to_string(kMaxSwapPriority));
  }
  if (!std::all_of(o.mkfs.begin(), o.mkfs.end(), [](unsigned char c) { return std::isalnum(c) != 0; })) {
    return fail(EINVAL, o.mkfs + " is not a filesystem type");
  }
  if (o.swap && !target.swap_safe) {
    return fail(EPERM, target.name + ": its daemon runs without --swap-safe and could hang the machine as swap");
  }
  for (const NbdUse& use : nbd_uses()) {
    if (use.number == o.number) return fail(EBUSY, use.path() + " is in use: " + use.describe());
    // Two block devices of one store would each cache what the other changes.
    if (use.backend == target.uuid) return fail(EBUSY, target.name + " is attached already: " + use.describe());
  }
  return o.mount.empty() ? Result<void>{} : check_mount_point(o.mount);
}

// A store in memory: no seeks to avoid, requests as long as the daemon's window, nothing to gain from reordering.
// A kernel without one of these settings is as good.
void set_queue(unsigned number) {
  const std::string queue = "/sys/block/nbd" + std::to_string(number) + "/queue/";
  std::ofstream(queue + "rotational") << "0\n";
  std::ofstream(queue + "add_random") << "0\n";
  std::ofstream(queue + "scheduler") << "none\n";
  std::ofstream(queue + "max_sectors_kb") << "1024\n";
}

// What the device holds, in blkid's words; empty for nothing known.
Result<std::string> contents(const std::string& path) {
  auto probe = run_tool({"blkid", "-p", "-o", "value", "-s", "TYPE", "-s", "PTTYPE", path});
  if (!probe) return tl::unexpected(probe.error());
  if (probe->status != 0 && probe->status != 2) return fail(EIO, "blkid cannot read " + path);
  std::string type = probe->output;
  type.erase(std::min(type.find('\n'), type.size()));
  return type;
}

// Makes a filesystem, or swap, where there is nothing yet; refuses to write over anything else.
Result<void> make_contents(const std::string& path, const std::string& type, const std::string& tool) {
  auto found = contents(path);
  if (!found) return tl::unexpected(found.error());
  if (*found == type) return {};
  if (!found->empty()) return fail(EEXIST, path + " holds " + *found + ", not " + type + ": reset the device first");
  // mke2fs says its version before it says what is wrong.
  return type.starts_with("ext") ? must_run({tool, "-q", path}) : must_run({tool, path});
}

void raise(const VmSetting& setting, Undo& undo, const Say& say) {
  if (!setting.low()) return;
  const std::uint64_t before = setting.now();
  const std::string step =
      "vm." + setting.name + " from " + std::to_string(before) + " to " + std::to_string(setting.wanted);
  if (!setting.set(setting.wanted)) return say("warning: could not raise " + step + ": " + setting.otherwise);
  say("raised " + step);
  undo.add([setting, before]() -> Result<void> {
    return setting.set(before) ? Result<void>{} : fail(EIO, "vm." + setting.name + " stays as it is");
  });
}

Result<void> start_swap(const std::string& path, std::optional<int> priority) {
  // Without discard the kernel never says which pages are free again, and the store only fills.
  int flags = SWAP_FLAG_DISCARD;
  if (priority) flags |= SWAP_FLAG_PREFER | ((*priority << SWAP_FLAG_PRIO_SHIFT) & SWAP_FLAG_PRIO_MASK);
  if (swapon(path.c_str(), flags) != 0) return fail_errno("swapon " + path);
  return {};
}

Result<void> mount_there(const std::string& path, const AttachOptions& o) {
  std::vector<std::string> words = {"mount", "-o", "discard"};
  if (!o.mkfs.empty()) words.insert(words.end(), {"-t", o.mkfs});
  words.insert(words.end(), {path, o.mount});
  return must_run(words);
}

Result<void> stop_using(const NbdUse& use) {
  if (use.swap_priority && swapoff(use.path().c_str()) != 0) {
    return errno == ENOMEM ? fail(ENOMEM, use.path() + ": not enough memory to take back what is swapped out")
                           : fail_errno("swapoff " + use.path());
  }
  for (auto folder = use.mounts.rbegin(); folder != use.mounts.rend(); ++folder) {
    if (umount2(folder->c_str(), UMOUNT_NOFOLLOW) == 0) continue;
    // At shutdown systemd may be faster.
    if (errno != EINVAL || is_mount_point(*folder)) return fail_errno("umount " + *folder);
  }
  return {};
}

// What remains in use is so in another mount namespace, or below another block device.
Result<void> write_back(const std::string& path) {
  const nbd::Fd device(open(path.c_str(), O_RDONLY | O_EXCL | O_CLOEXEC));
  if (!device.valid() && errno == EBUSY) return fail(EBUSY, path + " is in use elsewhere");
  if (!device.valid()) return fail_errno(path);
  // A device whose daemon is gone cannot take back what the kernel still holds; it is detached all the same.
  fsync(device.get());
  ioctl(device.get(), BLKFLSBUF, 0);
  return {};
}

// The steps of one attach; each is taken back by `undo`.
struct Attaching {
  const AttachTarget& target;
  const AttachOptions& options;
  const Say& say;
  NbdNetlink netlink;
  HeldSignals signals;
  Undo undo;

  [[nodiscard]] std::string path() const { return "/dev/nbd" + std::to_string(options.number); }

  Result<void> connect() {
    auto sockets = connect_nbd(target.uri, options.connections);
    if (!sockets) return tl::unexpected(sockets.error());
    NbdConnection connection;
    connection.number = options.number;
    connection.size = sockets->size;
    connection.flags = sockets->flags;
    connection.backend = target.uuid;
    if (auto done = netlink.connect(connection, sockets->fds()); !done) return done;
    undo.add([this]() -> Result<void> {
      if (auto done = netlink.disconnect(options.number); !done) return done;
      return NbdNetlink::wait_until_free(options.number);
    });
    set_queue(options.number);
    if (access(path().c_str(), F_OK) != 0) return fail_errno(path());
    return signals.none_waiting();
  }

  Result<void> prepare() {
    if (options.swap) {
      raise(min_free_setting(memory_kilobytes()), undo, say);
      raise(page_lists_setting(memory_kilobytes()), undo, say);
      if (auto done = make_contents(path(), "swap", "mkswap"); !done) return done;
    } else if (!options.mkfs.empty()) {
      if (auto done = make_contents(path(), options.mkfs, "mkfs." + options.mkfs); !done) return done;
    }
    return signals.none_waiting();
  }

  // The last step: nothing that comes after it can fail.
  Result<void> use() {
    if (auto done = netlink.set_patience(options.number, target.uuid, kPatience); !done) return done;
    if (options.swap) return start_swap(path(), options.priority);
    if (!options.mount.empty()) return mount_there(path(), options);
    return {};
  }
};

}  // namespace

unsigned default_connections() { return std::clamp(std::thread::hardware_concurrency(), 1U, 4U); }

Result<void> attach(const AttachTarget& target, const AttachOptions& options, const Say& say) {
  if (auto right = check(target, options); !right) return right;
  auto netlink = NbdNetlink::open();
  if (!netlink) return tl::unexpected(netlink.error());
  Attaching steps{target, options, say, std::move(*netlink), {}, Undo(say)};
  if (auto done = steps.connect(); !done) return done;
  if (auto done = steps.prepare(); !done) return done;
  if (auto done = steps.use(); !done) return done;
  steps.undo.keep();
  return {};
}

Result<void> detach(unsigned number, bool now) {
  const HeldSignals signals;
  auto netlink = NbdNetlink::open();
  if (!netlink) return tl::unexpected(netlink.error());
  const auto use = nbd_use(number);
  if (!use) return fail(ENODEV, "/dev/nbd" + std::to_string(number) + " is not attached");
  if (now) {
    if (auto done = netlink->disconnect(number); !done) return done;
  }
  if (auto done = stop_using(*use); !done) return done;
  if (!now) {
    if (auto done = write_back(use->path()); !done) return done;
    if (auto done = netlink->disconnect(number); !done) return done;
  }
  return NbdNetlink::wait_until_free(number);
}

}  // namespace uzram
