// STARTTLS and what follows it, with a client that says exactly what it is told to. Certificates are tested with real
// clients, in tests/e2e.

#include <fstream>

#include "tests/nbd_client.h"

namespace uzram::nbd {
namespace {

constexpr std::uint64_t kSize = 64 << 20;
constexpr const char* kKey = "0123456789abcdef0123456789abcdef";
constexpr const char* kOtherKey = "fedcba9876543210fedcba9876543210";

class Tls : public testing::Test {
 protected:
  Tls() {
    folder_ = std::filesystem::temp_directory_path() / "uzram-tls-XXXXXX";
    EXPECT_NE(mkdtemp(folder_.data()), nullptr);
    std::ofstream(keys()) << "# for the tests\nalice:" << kKey << "\nbob:" << kOtherKey << "\n";
  }
  ~Tls() override { std::filesystem::remove_all(folder_); }

  [[nodiscard]] std::string keys() const { return folder_ + "/keys.psk"; }
  [[nodiscard]] ServerOptions options(bool require = false) const {
    return {.port = std::uint16_t{0}, .tls = {.psk_file = keys(), .require = require}};
  }
  // A client that has sent its flags, over TCP.
  static TestClient tcp(TestServer& server) {
    TestClient client(port_of(server));
    client.greet();
    return client;
  }
  static std::uint16_t port_of(TestServer& server) {
    if (!server.running()) server.start();
    const std::string uri = server.server().uris("zram0").back();
    return static_cast<std::uint16_t>(std::stoi(uri.substr(uri.rfind(':') + 1)));
  }
  static TestClient encrypted(TestServer& server, const char* priorities = kTestTlsPriorities) {
    TestClient client = tcp(server);
    EXPECT_EQ(client.verdict(Option::starttls), OptionReply::ack);
    EXPECT_TRUE(client.start_tls("alice", kKey, priorities));
    return client;
  }
  [[nodiscard]] std::string refused(const std::string& text) const {
    std::ofstream(keys()) << text;
    const auto loaded = TlsCredentials::load({.psk_file = keys()});
    return loaded ? "" : loaded.error().message.substr(keys().size());
  }

  std::string folder_;
};

TEST_F(Tls, EveryByteIsRightInBothVersions) {
  TestServer server(kSize, options(true));
  std::string bytes(3 << 20, '\0');
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i * i >> 7);
  for (const char* version : {"1.2", "1.3"}) {
    const std::string priorities = std::string("NORMAL:+ECDHE-PSK:+DHE-PSK:+PSK:-VERS-ALL:+VERS-TLS") + version;
    TestClient client = encrypted(server, priorities.c_str());
    EXPECT_EQ(client.verdict(Option::go, go_data("")), OptionReply::ack);
    EXPECT_EQ(client.write(100, bytes), 0u);
    EXPECT_TRUE(client.read(100, 3 << 20) == bytes);
    EXPECT_TRUE(client.serves());
  }
}

TEST_F(Tls, ProcessorsCipherIsTakenWhateverTheClientLikesBest) {
  TestServer server(kSize, options());
  for (const auto& [liked, taken] : {std::pair{"", "AES-128-GCM"}, std::pair{":-AES-128-GCM", "CHACHA20-POLY1305"}}) {
    const std::string priorities =
        std::string("NORMAL:+PSK:-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:+CHACHA20-POLY1305:+AES-128-GCM") + liked;
    EXPECT_EQ(encrypted(server, priorities.c_str()).cipher(), taken);
  }
}

TEST_F(Tls, OlderVersionsAreRefused) {
  TestServer server(kSize, options());
  TestClient client = tcp(server);
  EXPECT_EQ(client.verdict(Option::starttls), OptionReply::ack);
  EXPECT_FALSE(client.start_tls("alice", kKey, "NORMAL:+ECDHE-PSK:+DHE-PSK:+PSK:-VERS-ALL:+VERS-TLS1.1"));
}

TEST_F(Tls, PipelinedRequestsAreAnsweredInOrder) {
  TestServer server(kSize, options());
  TestClient client = encrypted(server);
  EXPECT_EQ(client.verdict(Option::go, go_data("")), OptionReply::ack);
  Bytes batch;
  const std::string page(4096, 'p');
  for (std::uint64_t i = 0; i < 500; ++i) batch.put_text(request_bytes(Command::write, 0, i, i * 4096, 4096, page));
  std::thread sender([&] { EXPECT_TRUE(client.send(batch)); });
  sender.join();
  for (std::uint64_t i = 0; i < 500; ++i) EXPECT_EQ(client.receive_simple(), (SimpleAnswer{kSimpleReplyMagic, 0, i}));
}

TEST_F(Tls, WrongKeyAndUnknownNameFailAlike) {
  TestServer server(kSize, options());
  for (const auto& [name, key] : {std::pair{"alice", kOtherKey}, std::pair{"mallory", kKey}, std::pair{"", kKey}}) {
    TestClient client = tcp(server);
    EXPECT_EQ(client.verdict(Option::starttls), OptionReply::ack);
    EXPECT_FALSE(client.start_tls(name, key)) << name;
  }
  EXPECT_TRUE(encrypted(server).verdict(Option::list) == OptionReply::ack);
}

TEST_F(Tls, RequiredTlsComesFirstOnTcp) {
  TestServer server(kSize, options(true));
  TestClient client = tcp(server);
  for (const Option option : {Option::list, Option::info, Option::go, Option::structured_reply,
                              Option::list_meta_context, Option::set_meta_context, Option{77}}) {
    EXPECT_EQ(client.verdict(option, go_data("")), OptionReply::err_tls_reqd) << static_cast<unsigned>(option);
  }
  EXPECT_EQ(client.verdict(Option::starttls), OptionReply::ack);
  EXPECT_TRUE(client.start_tls("alice", kKey));
  EXPECT_EQ(client.verdict(Option::go, go_data("")), OptionReply::ack);

  TestClient old = tcp(server);
  old.send_option(Option::export_name, "zram0");
  EXPECT_TRUE(old.closed());
  TestClient leaving = tcp(server);
  EXPECT_EQ(leaving.verdict(Option::abort), OptionReply::ack);
}

TEST_F(Tls, OptionalTlsServesBothAndUnixIsNeverForced) {
  TestServer optional(kSize, options(false));
  EXPECT_EQ(tcp(optional).verdict(Option::go, go_data("")), OptionReply::ack);
  TestServer required(kSize, options(true));
  EXPECT_TRUE(required.enter().serves());
  TestClient local = required.connect();
  local.greet();
  EXPECT_EQ(local.verdict(Option::starttls), OptionReply::ack);
  EXPECT_TRUE(local.start_tls("bob", kOtherKey));
  EXPECT_EQ(local.verdict(Option::go, go_data("")), OptionReply::ack);
}

TEST_F(Tls, StartTlsForgetsWhatWasNegotiated) {
  TestServer server(kSize, options());
  TestClient client = tcp(server);
  EXPECT_EQ(client.verdict(Option::extended_headers), OptionReply::ack);
  EXPECT_EQ(client.ask(Option::set_meta_context, context_data("", {"base:allocation"})).size(), 2u);
  EXPECT_EQ(client.verdict(Option::starttls), OptionReply::ack);
  EXPECT_TRUE(client.start_tls("alice", kKey));
  // Without structured replies a context cannot be chosen, a read is simple, and BLOCK_STATUS is refused.
  EXPECT_EQ(client.verdict(Option::set_meta_context, context_data("", {"base:allocation"})), OptionReply::err_invalid);
  EXPECT_EQ(client.verdict(Option::go, go_data("")), OptionReply::ack);
  EXPECT_EQ(client.read(0, 4096), std::string(4096, '\0'));
  EXPECT_EQ(client.error_of(Command::block_status, 0, 0, 4096), 22u);
}

TEST_F(Tls, PlaintextBehindStartTlsIsNotServed) {
  TestServer server(kSize, options());
  TestClient client = tcp(server);
  Bytes both;
  both.put(kOptionMagic).put(Option::starttls).put(std::uint32_t{0});
  both.put(kOptionMagic).put(Option::go).put_string(go_data("zram0"));
  client.send(both);
  EXPECT_EQ(client.receive_option().type, OptionReply::ack);
  // What comes is a TLS alert at the most.
  const Bytes rest = client.receive(1000);
  EXPECT_EQ(rest.find("IHAVEOPT"), std::string::npos);
  EXPECT_LT(rest.size(), kOptionReplyHeaderBytes);
  TestClient other = tcp(server);
  other.send(both);
  EXPECT_EQ(other.receive_option().type, OptionReply::ack);
  EXPECT_FALSE(other.start_tls("alice", kKey));
}

TEST_F(Tls, StartTlsIsOnceAndWithoutData) {
  TestServer server(kSize, options());
  TestClient client = tcp(server);
  EXPECT_EQ(client.verdict(Option::starttls, "x"), OptionReply::err_invalid);
  EXPECT_EQ(client.verdict(Option::starttls), OptionReply::ack);
  EXPECT_TRUE(client.start_tls("alice", kKey));
  EXPECT_EQ(client.verdict(Option::starttls), OptionReply::err_invalid);
  EXPECT_EQ(client.verdict(Option::go, go_data("")), OptionReply::ack);
}

TEST_F(Tls, SilenceInItsHandshakeIsBoundedToo) {
  ServerOptions limits = options();
  limits.handshake_timeout = std::chrono::milliseconds(300);
  TestServer server(kSize, limits);
  TestClient client = tcp(server);
  EXPECT_EQ(client.verdict(Option::starttls), OptionReply::ack);
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_TRUE(client.closed());
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(5));
}

TEST_F(Tls, HandshakeUnderWayMakesPlaceForOthers) {
  ServerOptions limits = options();
  limits.max_connections = 2;
  TestServer server(kSize, limits);
  TestClient idle = tcp(server);
  EXPECT_EQ(idle.verdict(Option::starttls), OptionReply::ack);
  TestClient another = tcp(server);
  EXPECT_EQ(another.verdict(Option::starttls), OptionReply::ack);
  EXPECT_EQ(encrypted(server).verdict(Option::go, go_data("")), OptionReply::ack);
  EXPECT_TRUE(idle.closed());
}

TEST_F(Tls, StopEndsAHandshakeUnderWay) {
  TestServer server(kSize, options());
  TestClient idle = tcp(server);
  EXPECT_EQ(idle.verdict(Option::starttls), OptionReply::ack);
  const auto begin = std::chrono::steady_clock::now();
  server.server().stop();
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(3));
}

TEST_F(Tls, DisconnectEndsWithAGoodbye) {
  TestServer server(kSize, options());
  TestClient client = encrypted(server);
  EXPECT_EQ(client.verdict(Option::go, go_data("")), OptionReply::ack);
  client.send_request(Command::disconnect, 0, 1, 0, 0);
  EXPECT_TRUE(client.ended_well());
}

TEST_F(Tls, KeyFileThatIsWrongIsNamedButNotTold) {
  EXPECT_EQ(refused(""), ": holds no key");
  EXPECT_EQ(refused("alice\n"), ":1: a line is name:key");
  EXPECT_EQ(refused(":00\n"), ":1: a line is name:key");
  EXPECT_EQ(refused("a:00\nb:0\n"), ":2: the key is no even number of hexadecimal digits");
  EXPECT_EQ(refused("a:zz\n"), ":1: the key is no even number of hexadecimal digits");
  EXPECT_EQ(refused("a:\n"), ":1: the key is no even number of hexadecimal digits");
  EXPECT_EQ(refused("a:00\na:01\n"), ":2: the name stands there twice");
  const auto missing = TlsCredentials::load({.psk_file = folder_ + "/none"});
  EXPECT_EQ(missing ? "" : missing.error().message, folder_ + "/none: No such file or directory");
  const auto no_folder = TlsCredentials::load({.certificates = folder_ + "/none"});
  EXPECT_EQ(no_folder ? "" : no_folder.error().message, folder_ + "/none/ca-cert.pem: No such file or directory");
}

}  // namespace
}  // namespace uzram::nbd
