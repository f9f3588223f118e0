// What attaching needs to know before it touches the kernel; tests/kernel has the rest, under a real one.

#include "cli/attach.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <filesystem>

#include "blockdev/device_table.h"
#include "blockdev/nbd/server.h"
#include "cli/mounts.h"
#include "cli/nbd_sockets.h"
#include "cli/run_tool.h"

namespace uzram {
namespace {

constexpr std::uint64_t kMebibyte = 1 << 20;

// A daemon's NBD half with one device.
class Attach : public testing::Test {
 protected:
  Attach() : arena_({}), devices_(arena_) {
    DeviceOptions device;
    device.size = kMebibyte;
    EXPECT_TRUE(devices_.create(device));
    nbd::ServerOptions options;
    options.unix_path = folder_ + "/nbd.sock";
    server_ = std::move(*nbd::Server::listen(devices_, options));
    server_->start();
  }
  ~Attach() override {
    server_.reset();
    std::filesystem::remove_all(folder_);
  }

  std::string folder_ = [] {
    std::string name = testing::TempDir() + "/attach.XXXXXX";
    return std::string(mkdtemp(name.data()));
  }();
  PageArena arena_;
  DeviceTable devices_;
  std::unique_ptr<nbd::Server> server_;
};

std::string refusal(const AttachOptions& options, const AttachTarget& target = {"zram0", "", "uuid", true}) {
  const auto done = attach(target, options, [](const std::string&) {});
  return done ? "" : done.error().message;
}

bool hung_up(int socket) {
  char byte = 0;
  return recv(socket, &byte, 1, 0) == 0;
}

TEST_F(Attach, SocketsAreReadyForTheKernel) {
  const auto connected = connect_nbd(server_->uris("zram0").front(), 4);
  ASSERT_TRUE(connected) << connected.error().message;
  EXPECT_EQ(connected->size, kMebibyte);
  EXPECT_EQ(connected->flags & 1, 1U);
  EXPECT_EQ(connected->fds().size(), 4U);
  EXPECT_EQ(server_->connections(), 4U);
}

TEST_F(Attach, SocketsOfAnUnknownExportFailWithItsName) {
  const auto connected = connect_nbd(server_->uris("other").front(), 1);
  ASSERT_FALSE(connected);
  EXPECT_NE(connected.error().message.find("other"), std::string::npos) << connected.error().message;
}

TEST_F(Attach, SocketsWithoutAServerFailWithItsAddress) {
  const std::string uri = server_->uris("zram0").front();
  server_->stop();
  const auto connected = connect_nbd(uri, 1);
  ASSERT_FALSE(connected);
  EXPECT_TRUE(connected.error().message.starts_with(uri)) << connected.error().message;
}

TEST_F(Attach, FenceEndsTheConnectionsOfOneDeviceOnly) {
  DeviceOptions other;
  other.name = "other";
  other.size = kMebibyte;
  ASSERT_TRUE(devices_.create(other));
  const auto fenced = connect_nbd(server_->uris("zram0").front(), 2);
  const auto kept = connect_nbd(server_->uris("other").front(), 1);
  ASSERT_TRUE(fenced && kept);
  ASSERT_TRUE(server_->fence("zram0"));
  for (const int socket : fenced->fds()) EXPECT_TRUE(hung_up(socket));
  EXPECT_EQ(devices_.openers("zram0"), 0);
  EXPECT_EQ(devices_.openers("other"), 1);
  EXPECT_TRUE(connect_nbd(server_->uris("zram0").front(), 1));
}

TEST_F(Attach, FenceOfAnUnknownDeviceFails) { EXPECT_FALSE(server_->fence("other")); }

TEST_F(Attach, UuidStaysUntilTheContentsGo) {
  const auto uuid = (*devices_.find("zram0"))->options().uuid;
  EXPECT_NE(uuid, (std::array<std::byte, 16>{}));
  ASSERT_TRUE(devices_.reset("zram0"));
  EXPECT_NE((*devices_.find("zram0"))->options().uuid, uuid);
}

TEST(AttachOptions, PriorityOutOfRangeIsRefused) {
  AttachOptions options;
  options.swap = true;
  options.priority = 32768;
  EXPECT_EQ(refusal(options), "swap priority 32768 is out of range, 0 to 32767");
  options.priority = -1;
  EXPECT_EQ(refusal(options), "swap priority -1 is out of range, 0 to 32767");
}

TEST(AttachOptions, SwapAndMountExcludeEachOther) {
  AttachOptions options;
  options.swap = true;
  options.mount = "/";
  EXPECT_EQ(refusal(options), "a device is swap or a filesystem, not both");
}

TEST(AttachOptions, SwapNeedsADaemonThatIsSafeForIt) {
  AttachOptions options;
  options.swap = true;
  EXPECT_EQ(refusal(options, {"zram0", "", "uuid", false}),
            "zram0: its daemon runs without --swap-safe and could hang the machine as swap");
}

TEST(AttachOptions, MountPointHasToBeAFreeFolder) {
  AttachOptions options;
  options.mount = "/nonexistent";
  EXPECT_EQ(refusal(options), "/nonexistent is not a folder to mount at");
  options.mount = "/proc/";
  EXPECT_EQ(refusal(options), "/proc/ is a mount point already");
}

TEST(AttachOptions, FilesystemTypeIsAWord) {
  AttachOptions options;
  options.mkfs = "../ext4";
  EXPECT_EQ(refusal(options), "../ext4 is not a filesystem type");
}

TEST(NbdNumber, TakesTheKernelsSpellingOnly) {
  EXPECT_EQ(nbd_number("/dev/nbd0").value(), 0U);
  EXPECT_EQ(nbd_number("/dev/nbd15").value(), 15U);
  for (const char* wrong : {"", "nbd0", "/dev/nbd", "/dev/nbd-1", "/dev/nbd+1", "/dev/nbd00", "/dev/nbd0p1", "/dev/sda",
                            "/dev/nbd32768", "/dev/nbd99999999999"}) {
    EXPECT_FALSE(nbd_number(wrong)) << wrong;
  }
}

TEST(Mounts, FoldersAreUnescaped) {
  const auto lines = parse_mountinfo(
      "36 35 98:0 / /mnt/a\\040b\\134c rw,noatime shared:1 master:2 - ext4 /dev/nbd0 rw,discard\n"
      "37 35 0:5 / /proc rw - proc proc rw\n"
      "cut short\n");
  ASSERT_EQ(lines.size(), 2U);
  EXPECT_EQ(lines[0].folder, "/mnt/a b\\c");
  EXPECT_EQ(lines[0].source, "/dev/nbd0");
  EXPECT_EQ(lines[1].folder, "/proc");
}

TEST(Mounts, SwapIsFoundByItsWholePath) {
  constexpr auto kSwaps =
      "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
      "/dev/nbd10                              partition\t204796\t\t0\t\t77\n"
      "/dev/nbd2                               partition\t204796\t\t0\t\t-2\n";
  EXPECT_EQ(parse_swap_priority(kSwaps, "/dev/nbd10"), 77);
  EXPECT_EQ(parse_swap_priority(kSwaps, "/dev/nbd2"), -2);
  EXPECT_EQ(parse_swap_priority(kSwaps, "/dev/nbd1"), std::nullopt);
}

TEST(Mounts, RootIsAMountPointAndItsFoldersNeedNotBe) {
  EXPECT_TRUE(is_mount_point("/"));
  EXPECT_TRUE(is_mount_point("/proc/."));
  EXPECT_FALSE(is_mount_point("/proc/self"));
}

TEST(Mounts, AttributeThatCannotBeReadIsEmpty) {
  // Page 0 of a process is not mapped: open works, and read fails as it does for an attribute whose device has gone.
  EXPECT_EQ(file_text("/proc/self/mem"), "");
  EXPECT_EQ(file_text("/sys/block/nothing/pid"), "");
  EXPECT_EQ(file_text("/proc/sys/kernel/ostype"), "Linux\n");
}

TEST(RunTool, KeepsWhatTheToolSays) {
  const auto result = run_tool({"sh", "-c", "echo out; echo err >&2; exit 3"});
  ASSERT_TRUE(result);
  EXPECT_EQ(result->status, 3);
  EXPECT_EQ(result->output, "out\n");
  EXPECT_EQ(result->error, "err\n");
}

TEST(RunTool, FailureIsTheFirstLineOfTheTool) {
  const auto done = must_run({"sh", "-c", "printf '\\nsh: it is full\\nsee the manual\\n' >&2; exit 1"});
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().message, "sh: it is full");
}

TEST(RunTool, SilentFailureIsItsStatus) {
  EXPECT_EQ(must_run({"false"}).error().message, "false: exit status 1");
  EXPECT_EQ(must_run({"sh", "-c", "kill -9 $$"}).error().message, "sh: exit status 137");
}

TEST(RunTool, MissingToolIsNamed) {
  EXPECT_EQ(must_run({"mkfs.nothing"}).error().message, "mkfs.nothing is not installed");
}

}  // namespace
}  // namespace uzram
