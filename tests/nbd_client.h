#pragma once
// What the NBD tests share: a server of its own for a test, and a client that says exactly what it is told to,
// right or wrong.
//
// Threads: one thread for each client.

#include <gtest/gtest.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "blockdev/nbd/connection.h"
#include "blockdev/nbd/server.h"
#include "blockdev/nbd/wire.h"
#include "tests/nbd_test_tls.h"

namespace uzram::nbd {

// Bytes as they go over the wire.
class Bytes : public std::string {
 public:
  using std::string::string;
  Bytes() = default;
  explicit Bytes(std::string text) : std::string(std::move(text)) {}

  template <class T>
  Bytes& put(T value) {
    std::array<std::byte, sizeof(T)> bytes;
    store_be(bytes.data(), value);
    append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    return *this;
  }
  Bytes& put_text(std::string_view text) {
    append(text);
    return *this;
  }
  // A text behind its 32-bit length.
  Bytes& put_string(std::string_view text) { return put(static_cast<std::uint32_t>(text.size())).put_text(text); }

  // The number at byte `at`; 0 where the bytes end before it does.
  template <class T>
  [[nodiscard]] T get(std::size_t at) const {
    std::array<std::byte, sizeof(T)> bytes{};
    if (at + sizeof(T) <= size()) std::memcpy(bytes.data(), data() + at, sizeof(T));
    return load_be<T>(bytes.data());
  }
};

// The data of INFO and GO.
inline Bytes go_data(std::string_view name, const std::vector<std::uint16_t>& infos = {}) {
  Bytes data;
  data.put_string(name).put(static_cast<std::uint16_t>(infos.size()));
  for (const std::uint16_t info : infos) data.put(info);
  return data;
}

// The data of LIST_META_CONTEXT and SET_META_CONTEXT.
inline Bytes context_data(std::string_view name, const std::vector<std::string>& queries) {
  Bytes data;
  data.put_string(name).put(static_cast<std::uint32_t>(queries.size()));
  for (const std::string& query : queries) data.put_string(query);
  return data;
}

inline Bytes request_bytes(Command command, std::uint16_t flags, std::uint64_t cookie, std::uint64_t offset,
                           std::uint32_t length, std::string_view payload = {}) {
  Bytes bytes;
  bytes.put(kRequestMagic).put(flags).put(command).put(cookie).put(offset).put(length).put_text(payload);
  return bytes;
}

// With extended headers; the payload's flag is the caller's business.
inline Bytes extended_bytes(Command command, std::uint16_t flags, std::uint64_t cookie, std::uint64_t offset,
                            std::uint64_t length, std::string_view payload = {}) {
  Bytes bytes;
  bytes.put(kExtendedRequestMagic).put(flags).put(command).put(cookie).put(offset).put(length).put_text(payload);
  return bytes;
}

// A request with compact or with extended headers, and the payload's flag where that is needed.
inline Bytes request_bytes_of(bool extended, Command command, std::uint16_t flags, std::uint64_t cookie,
                              std::uint64_t offset, std::uint32_t length, std::string_view payload = {}) {
  if (!extended) return request_bytes(command, flags, cookie, offset, length, payload);
  const auto more = static_cast<std::uint16_t>(command == Command::write ? flags | kPayloadLength : flags);
  return extended_bytes(command, more, cookie, offset, length, payload);
}

struct OptionAnswer {
  std::uint64_t magic = 0;
  Option option{};
  OptionReply type{};
  Bytes data;
};

struct SimpleAnswer {
  std::uint32_t magic = 0;
  std::uint32_t error = 0;
  std::uint64_t cookie = 0;

  bool operator==(const SimpleAnswer&) const = default;
};

struct ChunkAnswer {
  std::uint32_t magic = 0;
  std::uint16_t flags = 0;
  Chunk type{};
  std::uint64_t cookie = 0;
  Bytes data;
};

struct ExtendedAnswer {
  std::uint32_t magic = 0;
  std::uint16_t flags = 0;
  Chunk type{};
  std::uint64_t cookie = 0;
  std::uint64_t offset = 0;
  Bytes data;

  // Of an error chunk; 0 of any other.
  [[nodiscard]] std::uint32_t error() const {
    return type == Chunk::error || type == Chunk::error_offset ? data.get<std::uint32_t>(0) : 0;
  }
};

class TestClient {
 public:
  explicit TestClient(Fd socket) : socket_(std::move(socket)) {
    const timeval patience{20, 0};
    setsockopt(socket_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(socket_.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  }
  // To a TCP port of the loopback.
  explicit TestClient(std::uint16_t port) : TestClient(Fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0))) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::connect(socket_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0) << port;
  }
  explicit TestClient(const std::string& path) : TestClient(Fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0))) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.data(), path.size());
    EXPECT_EQ(connect(socket_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0) << path;
  }

  [[nodiscard]] int fd() const { return socket_.get(); }
  void close() { socket_ = Fd(); }

  // False where the server has closed.
  bool send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t n = tls_ ? tls_->send(bytes) : ::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (n <= 0) return false;
      bytes.remove_prefix(static_cast<std::size_t>(n));
    }
    return true;
  }
  // Fewer bytes than `size` where the server has closed, or is silent for 20 s.
  Bytes receive(std::size_t size) {
    Bytes bytes;
    bytes.resize(size);
    std::size_t done = 0;
    while (done < size) {
      const ssize_t n = tls_ ? tls_->receive(bytes.data() + done, size - done)
                             : recv(socket_.get(), bytes.data() + done, size - done, 0);
      if (n <= 0) break;
      done += static_cast<std::size_t>(n);
    }
    bytes.resize(done);
    return bytes;
  }
  // Whether the server closes, and sends nothing before.
  bool closed() {
    char byte = 0;
    if (tls_) return tls_->receive(&byte, 1) <= 0;
    const ssize_t n = recv(socket_.get(), &byte, 1, 0);
    return n == 0 || (n < 0 && errno == ECONNRESET);
  }

  // Everything after it goes through TLS; false where the handshake fails.
  bool start_tls(const std::string& name, const std::string& hex_key, const char* priorities = kTestTlsPriorities) {
    tls_ = std::make_unique<TestTls>(socket_.get(), name, hex_key, priorities);
    return tls_->handshake();
  }

  [[nodiscard]] std::string cipher() const { return tls_ ? tls_->cipher() : ""; }

  // Whether the server ends TLS as it should before it closes.
  bool ended_well() {
    char byte = 0;
    return tls_ && tls_->receive(&byte, 1) == 0;
  }

  // Waits until the server has taken all that was sent.
  void wait_until_taken() {
    for (int queued = 1; ioctl(socket_.get(), SIOCOUTQ, &queued) == 0 && queued != 0;) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }

  void greet(std::uint32_t flags = kFlagFixedNewstyle | kFlagNoZeroes) {
    EXPECT_EQ(receive(18).size(), 18u);
    send(Bytes().put(flags));
  }
  bool send_option(Option option, std::string_view data = {}) {
    return send(Bytes().put(kOptionMagic).put(option).put_string(data));
  }
  OptionAnswer receive_option() {
    const Bytes header = receive(kOptionReplyHeaderBytes);
    OptionAnswer answer{header.get<std::uint64_t>(0),
                        Option{header.get<std::uint32_t>(8)},
                        OptionReply{header.get<std::uint32_t>(12)},
                        {}};
    answer.data = receive(header.get<std::uint32_t>(16));
    return answer;
  }
  // The answers to one option; the last is the ACK or the error.
  std::vector<OptionAnswer> ask(Option option, std::string_view data = {}) {
    send_option(option, data);
    std::vector<OptionAnswer> answers;
    do {
      answers.push_back(receive_option());
      if (answers.back().magic != kOptionReplyMagic || answers.back().option != option) {
        ADD_FAILURE() << "no answer to option " << static_cast<unsigned>(option);
        return answers;
      }
    } while (answers.back().type != OptionReply::ack && static_cast<std::int32_t>(answers.back().type) > 0);
    return answers;
  }
  // How the server ends its answers to an option.
  OptionReply verdict(Option option, std::string_view data = {}) { return ask(option, data).back().type; }

  // From the greeting to the transmission phase, with simple replies, or with structured ones and base:allocation.
  void enter(std::string_view name = "", bool structured = false) {
    greet();
    if (structured) {
      EXPECT_EQ(verdict(Option::structured_reply), OptionReply::ack);
      EXPECT_EQ(verdict(Option::set_meta_context, context_data(name, {"base:allocation"})), OptionReply::ack);
    }
    EXPECT_EQ(verdict(Option::go, go_data(name)), OptionReply::ack);
  }

  bool send_request(Command command, std::uint16_t flags, std::uint64_t cookie, std::uint64_t offset,
                    std::uint32_t length, std::string_view payload = {}) {
    return send(request_bytes(command, flags, cookie, offset, length, payload));
  }
  SimpleAnswer receive_simple() {
    const Bytes bytes = receive(kSimpleReplyBytes);
    return {bytes.get<std::uint32_t>(0), bytes.get<std::uint32_t>(4), bytes.get<std::uint64_t>(8)};
  }
  ChunkAnswer receive_chunk() {
    const Bytes header = receive(kChunkHeaderBytes);
    ChunkAnswer answer{header.get<std::uint32_t>(0),
                       header.get<std::uint16_t>(4),
                       Chunk{header.get<std::uint16_t>(6)},
                       header.get<std::uint64_t>(8),
                       {}};
    answer.data = receive(header.get<std::uint32_t>(16));
    return answer;
  }
  ExtendedAnswer receive_extended() {
    const Bytes header = receive(kExtendedChunkHeaderBytes);
    ExtendedAnswer answer{header.get<std::uint32_t>(0),        header.get<std::uint16_t>(4),
                          Chunk{header.get<std::uint16_t>(6)}, header.get<std::uint64_t>(8),
                          header.get<std::uint64_t>(16),       {}};
    answer.data = receive(header.get<std::uint64_t>(24));
    return answer;
  }
  // The error of a request that is answered by a simple reply without data.
  std::uint32_t error_of(Command command, std::uint16_t flags, std::uint64_t offset, std::uint32_t length,
                         std::string_view payload = {}) {
    const std::uint64_t cookie = ++cookie_;
    send_request(command, flags, cookie, offset, length, payload);
    const SimpleAnswer answer = receive_simple();
    EXPECT_EQ(answer.magic, kSimpleReplyMagic);
    EXPECT_EQ(answer.cookie, cookie);
    return answer.error;
  }
  std::uint32_t write(std::uint64_t offset, std::string_view payload) {
    return error_of(Command::write, 0, offset, static_cast<std::uint32_t>(payload.size()), payload);
  }
  // With simple replies: the bytes read; fails the test on an error.
  Bytes read(std::uint64_t offset, std::uint32_t length) {
    EXPECT_EQ(error_of(Command::read, 0, offset, length), 0u);
    return receive(length);
  }
  // Whether the connection is in step and serves.
  bool serves() { return error_of(Command::flush, 0, 0, 0) == 0; }

 private:
  Fd socket_;
  std::unique_ptr<TestTls> tls_;
  std::uint64_t cookie_ = 0x0123456789abcdef;
};

// Devices and a server for them on a unix socket in a folder of its own.
class TestServer {
 public:
  explicit TestServer(std::uint64_t size = 64 << 20, ServerOptions options = {}, BackingFile* backing = nullptr)
      : options_(std::move(options)), devices_(arena_, backing) {
    std::string folder = std::filesystem::temp_directory_path() / "uzram-nbd-XXXXXX";
    EXPECT_NE(mkdtemp(folder.data()), nullptr);
    folder_ = folder;
    options_.unix_path = folder_ + "/nbd.sock";
    add("zram0", size);
  }
  ~TestServer() {
    server_.reset();
    std::filesystem::remove_all(folder_);
  }
  TestServer(const TestServer&) = delete;
  TestServer& operator=(const TestServer&) = delete;

  void add(const std::string& name, std::uint64_t size, std::uint64_t mem_limit = 0) {
    DeviceOptions options;
    options.name = name;
    options.size = size;
    options.mem_limit = mem_limit;
    const auto created = devices_.create(options);
    EXPECT_TRUE(created) << created.error().message;
  }
  void start() {
    auto server = Server::listen(devices_, options_);
    ASSERT_TRUE(server) << server.error().message;
    server_ = std::move(*server);
    server_->start();
  }
  // Stops the server in a thread; returns when it has stopped to accept.
  std::thread stop_beside() {
    std::thread stop([this] { server_->stop(); });
    while (std::filesystem::exists(path())) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    return stop;
  }
  // A client that has only connected. Starts the server if it does not run.
  TestClient connect() {
    if (!server_) start();
    return TestClient(path());
  }
  // A client in the transmission phase.
  TestClient enter(std::string_view name = "", bool structured = false) {
    TestClient client = connect();
    client.enter(name, structured);
    return client;
  }

  // The same, which negotiates these first; SET_META_CONTEXT with both contexts.
  TestClient enter_with(const std::vector<Option>& options) {
    TestClient client = connect();
    client.greet();
    for (const Option option : options) {
      const Bytes contexts = context_data("", {"base:allocation", "uzram:page"});
      const bool set = option == Option::set_meta_context;
      EXPECT_EQ(client.verdict(option, set ? contexts : Bytes()), OptionReply::ack);
    }
    EXPECT_EQ(client.verdict(Option::go, go_data("")), OptionReply::ack);
    return client;
  }

  // Flips a bit of the page that is kept as it is, wherever that is.
  void damage(std::string_view page) {
    const PageArena::Stats stats = arena_.stats();
    for (std::uint32_t i = 1; i < stats.committed_frames; ++i) {
      std::byte* const bytes = arena_.bytes(FrameNumber{i});
      if (std::memcmp(bytes, page.data(), page.size()) != 0) continue;
      bytes[7] ^= std::byte{1};
      return;
    }
    FAIL() << "the page is not in the arena";
  }

  [[nodiscard]] const std::string& path() const { return options_.unix_path; }
  [[nodiscard]] const std::string& folder() const { return folder_; }
  PageArena& arena() { return arena_; }
  DeviceTable& devices() { return devices_; }
  Server& server() { return *server_; }
  [[nodiscard]] bool running() const { return server_ != nullptr; }

 private:
  ServerOptions options_;
  std::string folder_;
  PageArena arena_{{.capacity = 1 << 30}};
  DeviceTable devices_;
  std::unique_ptr<Server> server_;
};

}  // namespace uzram::nbd
