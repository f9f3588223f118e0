// The server's life: many clients and exports, a clean stop, clients that come and go.

#include <libnbd.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/resource.h>

#include <atomic>
#include <chrono>
#include <mutex>
#include <numeric>

#include "tests/nbd_client.h"

namespace uzram::nbd {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using Clock = std::chrono::steady_clock;

constexpr std::uint64_t kSize = 64 << 20;

std::size_t open_descriptors() {
  const std::filesystem::directory_iterator all("/proc/self/fd");
  return static_cast<std::size_t>(std::distance(begin(all), end(all)));
}

void wait_for_connections(Server& server, unsigned count) {
  const auto deadline = Clock::now() + seconds(10);
  while (server.connections() != count && Clock::now() < deadline) std::this_thread::sleep_for(milliseconds(1));
  EXPECT_EQ(server.connections(), count);
}

TEST(Server, EachExportIsADiskOfItsOwn) {
  TestServer server(kSize);
  server.add("zram1", kSize);
  TestClient zero = server.enter("zram0");
  TestClient one = server.enter("zram1");
  EXPECT_EQ(zero.write(0, "zero"), 0u);
  EXPECT_EQ(one.write(0, "one!"), 0u);
  EXPECT_EQ(zero.read(0, 4), "zero");
  EXPECT_EQ(one.read(0, 4), "one!");
}

TEST(Server, ClientHoldsItsDeviceUntilItLeaves) {
  TestServer server(kSize);
  TestClient client = server.enter();
  EXPECT_EQ(server.devices().openers("zram0"), 1);
  EXPECT_EQ(server.devices().remove("zram0").error().code, EBUSY);
  client.send_request(Command::disconnect, 0, 1, 0, 0);
  EXPECT_TRUE(client.closed());
  EXPECT_TRUE(server.devices().remove("zram0"));
}

TEST(Server, LibnbdFindsAndUsesItByItsUris) {
  TestServer server(kSize, {.port = 0});
  server.start();
  ASSERT_EQ(server.server().uris("zram0").size(), 2u);
  for (const std::string& uri : server.server().uris("zram0")) {
    const std::unique_ptr<nbd_handle, decltype(&nbd_close)> nbd(nbd_create(), nbd_close);
    nbd_add_meta_context(nbd.get(), LIBNBD_CONTEXT_BASE_ALLOCATION);
    ASSERT_EQ(nbd_connect_uri(nbd.get(), uri.c_str()), 0) << nbd_get_error();
    EXPECT_EQ(nbd_get_size(nbd.get()), static_cast<std::int64_t>(kSize));
    EXPECT_EQ(nbd_can_multi_conn(nbd.get()), 1);
    EXPECT_EQ(nbd_can_meta_context(nbd.get(), LIBNBD_CONTEXT_BASE_ALLOCATION), 1);
    std::string in(300'000, '\0');
    std::iota(in.begin(), in.end(), '\0');
    std::string out(in.size(), '?');
    EXPECT_EQ(nbd_pwrite(nbd.get(), in.data(), in.size(), 12'345, LIBNBD_CMD_FLAG_FUA), 0) << nbd_get_error();
    EXPECT_EQ(nbd_pread(nbd.get(), out.data(), out.size(), 12'345, 0), 0) << nbd_get_error();
    EXPECT_TRUE(in == out);
    EXPECT_EQ(nbd_zero(nbd.get(), 4096, 0, LIBNBD_CMD_FLAG_FAST_ZERO), 0) << nbd_get_error();
    EXPECT_EQ(nbd_trim(nbd.get(), 4096, 0, 0), 0) << nbd_get_error();
    EXPECT_EQ(nbd_cache(nbd.get(), 4096, 0, 0), 0) << nbd_get_error();
    EXPECT_EQ(nbd_flush(nbd.get(), 0), 0) << nbd_get_error();
    EXPECT_EQ(nbd_shutdown(nbd.get(), 0), 0) << nbd_get_error();
  }
}

TEST(Server, TcpConnectionsDoNotDelaySmallReplies) {
  TestServer server(kSize, {.port = 0});
  server.start();
  const std::string uri = server.server().uris("")[1];
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<std::uint16_t>(std::stoi(uri.substr(uri.rfind(':') + 1))));
  Fd socket(::socket(AF_INET, SOCK_STREAM, 0));
  ASSERT_EQ(connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  TestClient client(std::move(socket));
  client.enter();
  // Two replies each: with Nagle's algorithm the second would wait for a delayed acknowledgement, 40 ms.
  const auto start = Clock::now();
  for (int i = 0; i < 100; ++i) {
    client.send_request(Command::read, 0, 1, 0, 100);
    client.send_request(Command::flush, 0, 2, 0, 0);
    EXPECT_EQ(client.receive(kSimpleReplyBytes + 100).size(), kSimpleReplyBytes + 100);
    EXPECT_EQ(client.receive_simple().cookie, 2u);
  }
  EXPECT_LT(Clock::now() - start, seconds(2));
}

TEST(Server, StopAnswersWhatHasArrived) {
  TestServer server(kSize);
  TestClient client = server.enter();
  Bytes batch;
  for (std::uint64_t i = 0; i < 30; ++i) {
    batch.put_text(request_bytes(Command::write, 0, i, i * 4096, 4096, std::string(4096, 'w')));
  }
  client.send(batch);
  server.server().stop();
  for (std::uint64_t i = 0; i < 30; ++i) {
    EXPECT_EQ(client.receive_simple(), (SimpleAnswer{kSimpleReplyMagic, 0, i}));
  }
  EXPECT_TRUE(client.closed());
  EXPECT_FALSE(std::filesystem::exists(server.path()));
  EXPECT_EQ(server.server().connections(), 0u);
}

TEST(Server, StopUnderLoadLosesNoAcknowledgedWrite) {
  TestServer server(kSize);
  std::vector<TestClient> clients;
  for (int i = 0; i < 4; ++i) clients.push_back(server.enter());
  std::vector<std::thread> threads;
  std::array<std::atomic<std::uint64_t>, 4> acknowledged{};
  for (std::size_t c = 0; c < 4; ++c) {
    threads.emplace_back([&, c] {
      for (std::uint64_t i = 0; i < 2000; ++i) {
        const std::uint64_t offset = (c * 2000 + i) * 4096;
        const std::string text = std::to_string(offset);
        if (!clients[c].send_request(Command::write, 0, i, offset, static_cast<std::uint32_t>(text.size()), text))
          return;
        if (clients[c].receive_simple() != SimpleAnswer{kSimpleReplyMagic, 0, i}) return;
        acknowledged[c] = i + 1;
      }
    });
  }
  while (acknowledged[0] < 100) std::this_thread::yield();
  server.server().stop();
  for (std::thread& thread : threads) thread.join();
  auto device = server.devices().open("zram0");
  ASSERT_TRUE(device);
  const StreamPtr stream = (*device)->make_stream();
  for (std::size_t c = 0; c < 4; ++c) {
    for (std::uint64_t i = 0; i < acknowledged[c]; ++i) {
      const std::uint64_t offset = (c * 2000 + i) * 4096;
      std::string text(std::to_string(offset).size(), '?');
      ASSERT_TRUE((*device)->read(*stream, ByteOffset{offset}, std::as_writable_bytes(std::span(text))));
      ASSERT_EQ(text, std::to_string(offset));
    }
  }
}

TEST(Server, StopDoesNotWaitForAClientThatNeverReads) {
  TestServer server(kSize);
  TestClient deaf = server.enter();
  const timeval soon{0, 200'000};
  setsockopt(deaf.fd(), SOL_SOCKET, SO_SNDTIMEO, &soon, sizeof soon);
  while (deaf.send_request(Command::read, 0, 1, 0, 1 << 20)) continue;
  const auto start = Clock::now();
  server.server().stop();
  EXPECT_LT(Clock::now() - start, seconds(Server::kStopSeconds + 5));
}

TEST(Server, StopEndsIdleAndHandshakingClientsAtOnce) {
  TestServer server(kSize);
  TestClient established = server.enter();
  TestClient silent = server.connect();
  TestClient greeted = server.connect();
  greeted.greet();
  EXPECT_EQ(greeted.verdict(Option::list), OptionReply::ack);
  const auto start = Clock::now();
  server.server().stop();
  EXPECT_LT(Clock::now() - start, seconds(3));
  EXPECT_TRUE(established.closed());
  EXPECT_EQ(silent.receive(100).size(), 18u);
  EXPECT_TRUE(greeted.closed());
}

TEST(Server, StopBeforeStartRemovesTheSocket) {
  TestServer folder(kSize);
  const std::string path = folder.folder() + "/other.sock";
  auto server = Server::listen(folder.devices(), {.unix_path = path});
  ASSERT_TRUE(server);
  (*server)->stop();
  EXPECT_FALSE(std::filesystem::exists(path));
}

TEST(Server, ManyClientsInTurnLeaveNothingBehind) {
  TestServer server(kSize);
  EXPECT_TRUE(server.enter().serves());
  wait_for_connections(server.server(), 0);
  const std::size_t before = open_descriptors();
  for (int i = 0; i < 300; ++i) {
    TestClient client = server.connect();
    if (i % 3 != 0) client.enter();
  }
  wait_for_connections(server.server(), 0);
  TestClient last = server.enter();
  EXPECT_LE(open_descriptors(), before + 5);
}

TEST(Server, AcceptingGoesOnAfterDescriptorsRanOut) {
  TestServer server(kSize);
  TestClient early = server.enter();
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  std::vector<Fd> hoard;
  const rlimit low{open_descriptors() + 20, limit.rlim_max};
  setrlimit(RLIMIT_NOFILE, &low);
  Fd spare(socket(AF_UNIX, SOCK_STREAM, 0));
  for (Fd fd(dup(0)); fd.valid(); fd = Fd(dup(0))) hoard.push_back(std::move(fd));
  TestClient late = [&] {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, server.path().data(), server.path().size());
    EXPECT_EQ(connect(spare.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    return TestClient(std::move(spare));
  }();
  // Accepting fails and pauses; it must not use up the processor meanwhile.
  rusage usage_before{};
  getrusage(RUSAGE_SELF, &usage_before);
  std::this_thread::sleep_for(milliseconds(500));
  rusage usage_after{};
  getrusage(RUSAGE_SELF, &usage_after);
  const auto used = [](const rusage& u) {
    return (u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1'000'000 + u.ru_utime.tv_usec + u.ru_stime.tv_usec;
  };
  EXPECT_LT(used(usage_after) - used(usage_before), 200'000);
  EXPECT_TRUE(early.serves());
  hoard.clear();
  setrlimit(RLIMIT_NOFILE, &limit);
  late.enter();
  EXPECT_TRUE(late.serves());
}

TEST(Server, FailedConnectionsAreLogged) {
  std::mutex mutex;
  std::vector<std::string> lines;
  TestServer server(kSize, {.log = [&](std::string_view line) {
                      const std::lock_guard lock(mutex);
                      lines.emplace_back(line);
                    }});
  TestClient client = server.connect();
  client.greet(0xff00);
  EXPECT_TRUE(client.closed());
  server.server().stop();
  EXPECT_EQ(lines, std::vector<std::string>{"a connection was closed: unknown client flags"});
}

}  // namespace
}  // namespace uzram::nbd
