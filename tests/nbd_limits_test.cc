// Clients that lie, dawdle, flood or fall silent: bounded in bytes, options, time and number.

#include <sys/eventfd.h>

#include <chrono>
#include <future>
#include <random>

#include "blockdev/nbd/crew.h"
#include "blockdev/nbd/handshake.h"
#include "blockdev/nbd/session.h"
#include "tests/nbd_client.h"

namespace uzram::nbd {
namespace {

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

constexpr std::uint64_t kSize = 16 << 20;

// A whole conversation: flags, options with data, and requests.
Bytes conversation() {
  Bytes bytes = Bytes().put<std::uint32_t>(3);
  const auto option = [&bytes](Option code, std::string_view data) {
    bytes.put(kOptionMagic).put(code).put_string(data);
  };
  option(Option::list, "");
  option(Option::structured_reply, "");
  option(Option::set_meta_context, context_data("zram0", {"base:allocation"}));
  option(Option::go, go_data("zram0", {1, 3}));
  bytes.put_text(request_bytes(Command::write, 0, 1, 5, 100, std::string(100, 'x')));
  bytes.put_text(request_bytes(Command::read, 0, 2, 0, 200));
  bytes.put_text(request_bytes(Command::block_status, 0, 3, 0, 8192));
  return bytes;
}

TEST(Limits, ConversationCutOffAtAnyByteDisturbsNobody) {
  TestServer server(kSize);
  const Bytes whole = conversation();
  for (std::size_t cut = 0; cut < whole.size(); ++cut) {
    TestClient client = server.connect();
    ASSERT_TRUE(client.send(whole.substr(0, cut)));
    client.close();
  }
  EXPECT_TRUE(server.enter().serves());
}

TEST(Limits, WriteCutOffAtAnyByteIsNotBegun) {
  TestServer server(kSize);
  const Bytes whole = request_bytes(Command::write, 0, 1, 5, 100, std::string(100, 'x'));
  for (std::size_t cut = 0; cut < whole.size(); ++cut) {
    TestClient client = server.enter();
    ASSERT_TRUE(client.send(whole.substr(0, cut)));
    client.wait_until_taken();
  }
  TestClient client = server.enter();
  EXPECT_EQ(client.read(0, 200), std::string(200, '\0'));
}

TEST(Limits, ConversationInSingleBytesIsUnderstood) {
  TestServer server(kSize);
  TestClient client = server.connect();
  for (const char byte : conversation()) ASSERT_TRUE(client.send({&byte, 1}));
  EXPECT_EQ(client.receive(18).size(), 18u);
  while (client.receive_option().option != Option::go) continue;
  while (client.receive_option().type != OptionReply::ack) continue;
  EXPECT_EQ(client.receive_simple(), (SimpleAnswer{kSimpleReplyMagic, 0, 1}));
  EXPECT_EQ(client.receive_chunk().cookie, 2u);
  EXPECT_EQ(client.receive_chunk().cookie, 3u);
}

TEST(Limits, GarbageClosesThatConnectionOnly) {
  TestServer server(kSize);
  TestClient bystander = server.enter();
  std::mt19937_64 random(1);
  for (int i = 0; i < 200; ++i) {
    std::string garbage(random() % 3000, '\0');
    for (char& byte : garbage) byte = static_cast<char>(random());
    TestClient client = i % 2 == 0 ? server.connect() : server.enter();
    (void)client.send(garbage);
    shutdown(client.fd(), SHUT_WR);
    while (client.receive(4096).size() == 4096) continue;
  }
  EXPECT_TRUE(bystander.serves());
}

TEST(Limits, OptionLongerThanTheLimitCloses) {
  TestServer server(kSize);
  for (const std::uint32_t length : {kMaxOptionBytes + 1, 0x7fffffffu, 0xffffffffu}) {
    for (const Option option : {Option::go, Option::export_name, Option{99}}) {
      TestClient client = server.connect();
      client.greet();
      client.send(Bytes().put(kOptionMagic).put(option).put(length));
      EXPECT_TRUE(client.closed());
    }
  }
  TestClient client = server.connect();
  client.greet();
  EXPECT_EQ(client.verdict(Option{99}, std::string(kMaxOptionBytes, 'x')), OptionReply::err_unsup);
}

TEST(Limits, OptionWithAWrongMagicCloses) {
  TestServer server(kSize);
  TestClient client = server.connect();
  client.greet();
  client.send(Bytes().put(kOptionMagic + 1).put(Option::list).put<std::uint32_t>(0));
  EXPECT_TRUE(client.closed());
}

TEST(Limits, TooManyOptionsClose) {
  TestServer server(kSize);
  TestClient client = server.connect();
  client.greet();
  for (unsigned i = 0; i < kMaxOptions; ++i) ASSERT_EQ(client.verdict(Option::list), OptionReply::ack);
  client.send_option(Option::list);
  EXPECT_TRUE(client.closed());
}

TEST(Limits, SilentHandshakeEndsAtTheDeadline) {
  TestServer server(kSize, {.handshake_timeout = milliseconds(200)});
  TestClient silent = server.connect();
  TestClient half = server.connect();
  half.greet();
  half.send(Bytes().put(kOptionMagic));
  EXPECT_EQ(silent.receive(18).size(), 18u);
  EXPECT_TRUE(silent.closed());
  EXPECT_TRUE(half.closed());
}

TEST(Limits, DeadlineIsForTheWholeHandshake) {
  TestServer server(kSize, {.handshake_timeout = milliseconds(300)});
  TestClient slow = server.connect();
  const auto start = Clock::now();
  const Bytes whole = Bytes().put<std::uint32_t>(3).put(kOptionMagic).put_text(std::string(100'000, 'x'));
  for (const char byte : whole) {
    if (!slow.send({&byte, 1})) break;
    std::this_thread::sleep_for(milliseconds(20));
  }
  EXPECT_LT(Clock::now() - start, std::chrono::seconds(10));
}

TEST(Limits, HandshakeWhoseAnswersAreNotReadEndsAtTheDeadline) {
  TestServer server(kSize, {.handshake_timeout = std::chrono::milliseconds(500)});
  for (int i = 0; i < 100; ++i) server.add(std::string(200, 'x') + std::to_string(i), kSize);
  TestClient client = server.connect();
  client.greet();
  for (int i = 0; i < 100; ++i) client.send_option(Option::list);
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (server.server().connections() != 0 && std::chrono::steady_clock::now() < end) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT_EQ(server.server().connections(), 0u);
}

TEST(Limits, EstablishedClientMayBeSilent) {
  TestServer server(kSize, {.handshake_timeout = milliseconds(200)});
  TestClient client = server.enter();
  std::this_thread::sleep_for(milliseconds(500));
  EXPECT_TRUE(client.serves());
}

TEST(Limits, IdleHandshakesDoNotKeepOthersOut) {
  TestServer server(kSize, {.max_connections = 8});
  std::vector<TestClient> idle;
  for (int i = 0; i < 1000; ++i) idle.push_back(server.connect());
  EXPECT_TRUE(server.enter().serves());
  EXPECT_LE(server.server().connections(), 16u);
}

TEST(Limits, EstablishedClientsAreNotEvicted) {
  TestServer server(kSize, {.max_connections = 2});
  TestClient one = server.enter();
  TestClient two = server.enter();
  TestClient three = server.connect();
  EXPECT_TRUE(three.closed());
  EXPECT_TRUE(one.serves());
  EXPECT_TRUE(two.serves());
  two.close();
  while (server.server().connections() == 2) std::this_thread::sleep_for(milliseconds(1));
  EXPECT_TRUE(server.enter().serves());
}

TEST(Limits, ClientThatNeverReadsHoldsUpNobodyElse) {
  TestServer server(kSize);
  TestClient deaf = server.enter();
  const std::string bytes(1 << 20, 'x');
  EXPECT_EQ(deaf.write(0, bytes), 0u);
  const timeval soon{0, 200'000};
  setsockopt(deaf.fd(), SOL_SOCKET, SO_SNDTIMEO, &soon, sizeof soon);
  // Long reads, which helpers share in pieces or as wholes.
  for (std::uint32_t n = 0; deaf.send_request(Command::read, 0, 1, 0, n % 8 == 0 ? 1 << 20 : 128 << 10); ++n) continue;
  TestClient other = server.enter();
  EXPECT_TRUE(other.serves());
  EXPECT_TRUE(other.read(0, 1 << 20) == bytes);
}

TEST(Limits, WriteWithoutItsPayloadHoldsUpNobodyElse) {
  TestServer server(kSize);
  TestClient half = server.enter();
  half.send_request(Command::write, 0, 1, 0, 1 << 20, "x");
  half.wait_until_taken();
  TestClient other = server.enter();
  EXPECT_EQ(other.read(0, 4096), std::string(4096, '\0'));
}

// A session with one client, whose patience is a tenth of a second where it is a minute.
class ImpatientSession {
 public:
  ImpatientSession() {
    EXPECT_TRUE(devices_.create({.size = kSize}));
    int ends[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    client_.emplace(Fd(ends[1]));
    connection_.emplace(Fd(ends[0]), stop_.get());
    for (const int option : {SO_RCVTIMEO, SO_SNDTIMEO}) {
      timeval limit{};
      socklen_t size = sizeof limit;
      EXPECT_EQ(getsockopt(ends[0], SOL_SOCKET, option, &limit, &size), 0);
      EXPECT_EQ(limit.tv_sec, Connection::kStallSeconds);
      limit = {0, 100'000};
      EXPECT_EQ(setsockopt(ends[0], SOL_SOCKET, option, &limit, sizeof limit), 0);
    }
    ended_ = std::async(std::launch::async, [this] {
      Crew alone;
      const Agreement agreement{.device = std::move(*devices_.open("")), .contexts = {}};
      Session(*connection_, agreement, alone).run();
    });
  }
  ~ImpatientSession() { connection_->interrupt(Connection::Interrupt::everything); }

  TestClient& client() { return *client_; }
  bool ends() { return ended_.wait_for(std::chrono::seconds(20)) == std::future_status::ready; }

 private:
  PageArena arena_{{.capacity = 64 << 20}};
  DeviceTable devices_{arena_};
  Fd stop_{eventfd(0, EFD_CLOEXEC)};
  std::optional<TestClient> client_;
  std::optional<Connection> connection_;
  std::future<void> ended_;
};

TEST(Limits, RequestThatStallsEndsItsConnection) {
  ImpatientSession session;
  std::this_thread::sleep_for(milliseconds(400));
  EXPECT_TRUE(session.client().serves()) << "between requests a client may be silent";
  session.client().send_request(Command::write, 0, 1, 0, 4096, "x");
  EXPECT_TRUE(session.ends());
}

TEST(Limits, ClientThatCannotBeAnsweredIsLetGo) {
  ImpatientSession session;
  session.client().send_request(Command::read, 0, 1, 0, 8 << 20);
  EXPECT_TRUE(session.ends());
}

}  // namespace
}  // namespace uzram::nbd
