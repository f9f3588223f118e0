// The least that an NBD server can cost here: bare_server SOCKET SIZE [--lz4], until it is killed. A thread for each
// connection receives what there is, executes all requests in that, and answers them in one send, as uzram's sessions
// do. Nothing is checked but what its own parsing needs. Without --lz4 nothing is kept, and reads return what the
// buffer happens to hold, so that client and socket are all that is measured; with it pages are in a PageArray.

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <CLI/CLI.hpp>

#include <array>
#include <cstdint>
#include <cstring>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "bench/corpus.h"
#include "bench/main.h"
#include "bench/page_array.h"
#include "blockdev/nbd/wire.h"
#include "blockdev/types.h"

namespace uzram::bench {
namespace {

using namespace nbd;

using Page = std::span<std::byte, kPageSize>;
using ConstPage = std::span<const std::byte, kPageSize>;

constexpr std::size_t kBufferBytes = 2 << 20;

struct Served {
  std::uint64_t bytes = 0;
  std::optional<PageArray> pages;
};

// A client that has gone away.
struct Gone {};

class Client {
 public:
  Client(int socket, Served& served) : socket_(socket), served_(served) {}
  ~Client() { close(socket_); }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  // Until the client leaves.
  void serve() {
    if (!handshake()) return;
    while (true) {
      std::size_t used = 0;
      while (const std::size_t n = execute(in_.data() + used, received_ - used)) used += n;
      send_replies();
      std::memmove(in_.data(), in_.data() + used, received_ - used);
      received_ -= used;
      const ssize_t n = recv(socket_, in_.data() + received_, in_.size() - received_, 0);
      if (n <= 0) return;
      received_ += static_cast<std::size_t>(n);
    }
  }

 private:
  static std::byte* put_option_reply(std::byte* p, std::uint32_t option, OptionReply type, std::uint32_t length) {
    return store_be(store_be(store_be(store_be(p, kOptionReplyMagic), option), type), length);
  }

  void receive_all(void* to, std::size_t length) {
    if (length != 0 && recv(socket_, to, length, MSG_WAITALL) != static_cast<ssize_t>(length)) throw Gone();
  }

  std::byte* reply(std::size_t length) {
    if (replied_ + length > out_.size()) send_replies();
    replied_ += length;
    return out_.data() + replied_ - length;
  }

  void send_replies() {
    for (std::size_t sent = 0; sent < replied_;) {
      const ssize_t n = send(socket_, out_.data() + sent, replied_ - sent, MSG_NOSIGNAL);
      if (n <= 0) throw Gone();
      sent += static_cast<std::size_t>(n);
    }
    replied_ = 0;
  }

  // Knows NBD_OPT_GO, and that it knows no other; false where the client leaves.
  bool handshake() {
    store_be(store_be(store_be(reply(18), kInitMagic), kOptionMagic),
             static_cast<std::uint16_t>(kFlagFixedNewstyle | kFlagNoZeroes));
    send_replies();
    std::array<std::byte, 4> client_flags;
    receive_all(client_flags.data(), client_flags.size());
    while (true) {
      std::array<std::byte, kOptionHeaderBytes> header;
      receive_all(header.data(), header.size());
      const auto option = load_be<std::uint32_t>(header.data() + 8);
      const auto length = load_be<std::uint32_t>(header.data() + 12);
      if (length > in_.size()) throw Gone();
      receive_all(in_.data(), length);
      const bool go = option == static_cast<std::uint32_t>(Option::go);
      if (go) {
        constexpr std::uint32_t kInfoBytes = 12;
        std::byte* p =
            put_option_reply(reply(kOptionReplyHeaderBytes + kInfoBytes), option, OptionReply::info, kInfoBytes);
        p = store_be(store_be(p, Info::exported), served_.bytes);
        store_be(p, static_cast<std::uint16_t>(kHasFlags | kSendFlush));
      }
      put_option_reply(reply(kOptionReplyHeaderBytes), option, go ? OptionReply::ack : OptionReply::err_unsup, 0);
      send_replies();
      if (go || option == static_cast<std::uint32_t>(Option::abort)) return go;
    }
  }

  // Executes the request at `p`, if all of its bytes are there, and returns how many they are.
  std::size_t execute(const std::byte* p, std::size_t available) {
    if (available < kRequestBytes) return 0;
    const auto command = Command{load_be<std::uint16_t>(p + 6)};
    const auto cookie = load_be<std::uint64_t>(p + 8);
    const auto offset = load_be<std::uint64_t>(p + 16);
    const auto length = load_be<std::uint32_t>(p + 24);
    if (command == Command::disconnect) throw Gone();
    const bool in_pages = offset % kPageSize == 0 && length % kPageSize == 0;
    if (!in_pages || length > kBufferBytes / 2 || offset + length > served_.bytes) {
      throw std::runtime_error("a request that is not of whole pages, of at most 1 MiB");
    }
    const std::size_t size = kRequestBytes + (command == Command::write ? length : 0);
    if (available < size) return 0;
    const std::size_t returned = command == Command::read ? length : 0;
    std::byte* const header = reply(kSimpleReplyBytes + returned);
    store_be(store_be(store_be(header, kSimpleReplyMagic), std::uint32_t{0}), cookie);
    if (served_.pages) {
      for (std::uint32_t at = 0; at < length; at += kPageSize) {
        const std::uint64_t page = (offset + at) / kPageSize;
        if (command == Command::write) {
          served_.pages->write(lz4_, page, ConstPage(p + kRequestBytes + at, kPageSize));
        } else if (command == Command::read) {
          served_.pages->read(page, Page(header + kSimpleReplyBytes + at, kPageSize));
        }
      }
    }
    return size;
  }

  const int socket_;
  Served& served_;
  LZ4_stream_t lz4_{};
  std::vector<std::byte> in_ = std::vector<std::byte>(kBufferBytes);
  std::vector<std::byte> out_ = std::vector<std::byte>(kBufferBytes);
  std::size_t received_ = 0;
  std::size_t replied_ = 0;
};

int listen_on(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) throw std::runtime_error(path + ": too long for a socket");
  path.copy(address.sun_path, path.size());
  const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  if (fd < 0 || bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 || listen(fd, 16) != 0) {
    throw std::runtime_error(path + ": " + std::strerror(errno));
  }
  return fd;
}

int run(int argc, char** argv) {
  CLI::App app("The least that an NBD server can cost, to compare others with");
  std::string path;
  std::string size;
  bool lz4 = false;
  app.add_option("SOCKET", path, "where it is served")->required();
  app.add_option("SIZE", size, "of the export")->required();
  app.add_flag("--lz4", lz4, "keep what is written, compressed");
  CLI11_PARSE(app, argc, argv);

  Served served{.bytes = size_of_option("SIZE", size), .pages = {}};
  if (lz4) served.pages.emplace(served.bytes / kPageSize, kPageSize);
  const int listener = listen_on(path);
  while (true) {
    const int socket = accept(listener, nullptr, nullptr);
    if (socket < 0) throw std::runtime_error(std::strerror(errno));
    std::thread([socket, &served] {
      try {
        Client(socket, served).serve();
      } catch (const Gone&) {
        return;
      }
    }).detach();
  }
}

}  // namespace
}  // namespace uzram::bench

int main(int argc, char** argv) { return uzram::bench::run_main("bare_server", uzram::bench::run, argc, argv); }
