// Where a server listens: paths and ports that can be used, and those that cannot.

#include <sys/stat.h>

#include <fstream>

#include "blockdev/nbd/listener.h"
#include "tests/nbd_client.h"

namespace uzram::nbd {
namespace {

class Listening : public testing::Test {
 protected:
  Listening() {
    std::string folder = std::filesystem::temp_directory_path() / "uzram-listen-XXXXXX";
    EXPECT_NE(mkdtemp(folder.data()), nullptr);
    folder_ = folder;
  }
  ~Listening() override { std::filesystem::remove_all(folder_); }

  // Leaves a socket file behind that nobody listens on.
  static void leave_stale_socket(const std::string& path) {
    const Fd fd(socket(AF_UNIX, SOCK_STREAM, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.data(), path.size());
    ASSERT_EQ(bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  }
  std::string folder_;
};

TEST_F(Listening, UnixSocketIsForItsOwnerOnly) {
  const std::string path = folder_ + "/s";
  const auto listener = UnixListener::listen(path);
  ASSERT_TRUE(listener);
  struct stat info {};
  ASSERT_EQ(stat(path.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
}

TEST_F(Listening, UnixSocketIsForItsGroupToo) {
  const std::string path = folder_ + "/s";
  const auto listener = UnixListener::listen(path, ::getegid());
  ASSERT_TRUE(listener);
  struct stat info {};
  ASSERT_EQ(stat(path.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0660u);
  EXPECT_EQ(info.st_gid, ::getegid());
}

TEST_F(Listening, SocketFileGoesWithItsListener) {
  const std::string path = folder_ + "/s";
  { ASSERT_TRUE(UnixListener::listen(path)); }
  EXPECT_FALSE(std::filesystem::exists(path));
}

TEST_F(Listening, SocketThatNobodyAnswersIsTakenOver) {
  const std::string path = folder_ + "/s";
  leave_stale_socket(path);
  EXPECT_TRUE(UnixListener::listen(path));
}

TEST_F(Listening, SocketOfARunningServerIsRefused) {
  const std::string path = folder_ + "/s";
  const auto first = UnixListener::listen(path);
  ASSERT_TRUE(first);
  const auto second = UnixListener::listen(path);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, EADDRINUSE);
  EXPECT_NE(second.error().message.find(path), std::string::npos);
  EXPECT_TRUE(std::filesystem::exists(path));
}

TEST_F(Listening, SuccessorsSocketIsLeftAlone) {
  const std::string path = folder_ + "/s";
  auto first = std::make_unique<Result<UnixListener>>(UnixListener::listen(path));
  std::filesystem::rename(path, path + ".old");
  const auto second = UnixListener::listen(path);
  ASSERT_TRUE(second);
  first.reset();
  EXPECT_TRUE(std::filesystem::exists(path));
}

TEST_F(Listening, FileThatIsNoSocketIsRefusedAndKept) {
  const std::string path = folder_ + "/precious";
  std::ofstream(path) << "data";
  const auto listener = UnixListener::listen(path);
  ASSERT_FALSE(listener);
  EXPECT_EQ(listener.error().message, "'" + path + "' exists and is not a socket");
  EXPECT_EQ(std::filesystem::file_size(path), 4u);
}

TEST_F(Listening, PathThatIsTooLongIsNamed) {
  const std::string path = folder_ + "/" + std::string(120, 'x');
  const auto listener = UnixListener::listen(path);
  ASSERT_FALSE(listener);
  EXPECT_EQ(listener.error().code, ENAMETOOLONG);
  EXPECT_EQ(listener.error().message, "the socket path '" + path + "' is longer than 107 bytes");
  EXPECT_TRUE(UnixListener::listen(folder_ + "/" + std::string(106 - folder_.size(), 'x')));
}

TEST_F(Listening, MissingFolderIsNamed) {
  const std::string path = folder_ + "/missing/s";
  const auto listener = UnixListener::listen(path);
  ASSERT_FALSE(listener);
  EXPECT_EQ(listener.error().message, "cannot make the socket '" + path + "': No such file or directory");
}

TEST_F(Listening, PortInUseIsNamed) {
  const auto first = TcpListeners::listen("127.0.0.1", 0);
  ASSERT_TRUE(first);
  ASSERT_NE(first->port, 0);
  const auto second = TcpListeners::listen("127.0.0.1", first->port);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().message,
            "cannot listen on 127.0.0.1 port " + std::to_string(first->port) + ": Address already in use");
}

TEST_F(Listening, HostThatIsNoAddressIsNamed) {
  const auto listeners = TcpListeners::listen("no such host", 0);
  ASSERT_FALSE(listeners);
  EXPECT_NE(listeners.error().message.find("no such host"), std::string::npos);
}

TEST_F(Listening, EveryAddressOfAHostGetsTheSamePort) {
  const auto listeners = TcpListeners::listen("localhost", 0);
  ASSERT_TRUE(listeners) << listeners.error().message;
  EXPECT_GE(listeners->fds.size(), 1u);
  EXPECT_NE(listeners->port, 0);
}

TEST_F(Listening, FailureOnTcpRemovesTheUnixSocket) {
  const auto taken = TcpListeners::listen("127.0.0.1", 0);
  ASSERT_TRUE(taken);
  TestServer devices(1 << 20);
  const std::string path = folder_ + "/s";
  EXPECT_FALSE(Server::listen(devices.devices(), {.unix_path = path, .port = taken->port}));
  EXPECT_FALSE(std::filesystem::exists(path));
}

TEST_F(Listening, UrisAreEncoded) {
  TestServer devices(1 << 20);
  const std::string path = folder_ + "/a socket?";
  const auto server = Server::listen(devices.devices(), {.unix_path = path});
  ASSERT_TRUE(server);
  EXPECT_EQ((*server)->uris("zram0"),
            std::vector<std::string>{"nbd+unix:///zram0?socket=" + folder_ + "/a%20socket%3F"});
}

}  // namespace
}  // namespace uzram::nbd
