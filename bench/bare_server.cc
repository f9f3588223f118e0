// The least that an NBD server can cost here: bare_server SOCKET SIZE [--lz4], until it is killed. A thread for each
// connection receives what there is, executes all requests in that, and answers them in one send, as uzram's sessions
// do; reads are answered in chunks where the client asks for structured replies, as libnbd does of every server.
// Nothing is checked but what its own parsing needs. Without --lz4 nothing is kept, and reads return what the buffer
// happens to hold, so that client and socket are all that is measured; with it pages are in PackedPages, and one client
// at a time may use them.

#include <poll.h>
#include <sys/socket.h>

#include <CLI/CLI.hpp>

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "bench/corpus.h"
#include "bench/main.h"
#include "bench/packed_pages.h"
#include "blockdev/nbd/connection.h"
#include "blockdev/nbd/listener.h"
#include "blockdev/nbd/option_writer.h"
#include "blockdev/nbd/reply_buffer.h"
#include "blockdev/nbd/request.h"
#include "blockdev/types.h"
#include "compress/codec.h"

namespace uzram::bench {
namespace {

using namespace nbd;

using Page = std::span<std::byte, kPageSize>;
using ConstPage = std::span<const std::byte, kPageSize>;

constexpr std::size_t kBufferBytes = 2 << 20;

struct Served {
  std::uint64_t bytes = 0;
  std::optional<PackedPages> pages;
};

// A client that has gone away.
struct Gone {};

class Client {
 public:
  Client(Fd socket, Served& served) : socket_(std::move(socket)), served_(served) {}

  // Until the client leaves.
  void serve() {
    if (!handshake()) return;
    while (true) {
      std::size_t used = 0;
      while (const std::size_t n = execute(in_.data() + used, received_ - used)) used += n;
      send_replies();
      std::memmove(in_.data(), in_.data() + used, received_ - used);
      received_ -= used;
      const ssize_t n = recv(socket_.get(), in_.data() + received_, in_.size() - received_, 0);
      if (n <= 0) return;
      received_ += static_cast<std::size_t>(n);
    }
  }

 private:
  void receive_all(std::span<std::byte> to) {
    const bool all = to.empty() || recv(socket_.get(), to.data(), to.size(), MSG_WAITALL) == std::ssize(to);
    if (!all) throw Gone();
  }

  void send_all(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      const ssize_t n = send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (n <= 0) throw Gone();
      bytes = bytes.subspan(static_cast<std::size_t>(n));
    }
  }

  std::byte* reply(std::size_t length) {
    if (replied_ + length > out_.size()) send_replies();
    replied_ += length;
    return out_.data() + replied_ - length;
  }

  void send_replies() {
    send_all(std::span(out_).first(replied_));
    replied_ = 0;
  }

  // Knows structured replies and NBD_OPT_GO, and that it knows no other option; false where the client leaves.
  bool handshake() {
    OptionWriter greeting;
    greeting.put(kInitMagic);
    greeting.put(kOptionMagic);
    greeting.put(static_cast<std::uint16_t>(kFlagFixedNewstyle | kFlagNoZeroes));
    send_all(greeting.bytes());
    receive_all(std::span(in_).first<sizeof(std::uint32_t)>());  // the client's flags
    while (true) {
      std::array<std::byte, kOptionHeaderBytes> header;
      receive_all(header);
      const auto option = Option{load_be<std::uint32_t>(header.data() + 8)};
      const auto length = load_be<std::uint32_t>(header.data() + 12);
      if (length > in_.size()) throw Gone();
      receive_all(std::span(in_).first(length));
      OptionWriter answers;
      if (option == Option::go) {
        answers.export_info(option, served_.bytes, kHasFlags | kSendFlush);
        answers.ack(option);
      } else if (option == Option::structured_reply) {
        structured_ = true;
        answers.ack(option);
      } else {
        answers.refuse(option, OptionReply::err_unsup, "");
      }
      send_all(answers.bytes());
      if (option == Option::go || option == Option::abort) return option == Option::go;
    }
  }

  // Room for a reply with so many bytes of data, and its header; returns where the data goes.
  std::byte* begin_reply(const Request& request, std::size_t returned) {
    if (!structured_ || request.command != Command::read) {
      return ReplyBuffer::put_simple(reply(kSimpleReplyBytes + returned), request.cookie, WireError::none);
    }
    std::byte* p = reply(kChunkHeaderBytes + sizeof request.offset + returned);
    p = store_be(store_be(store_be(p, kChunkMagic), kChunkDone), Chunk::offset_data);
    p = store_be(store_be(p, request.cookie), static_cast<std::uint32_t>(sizeof request.offset + returned));
    return store_be(p, request.offset);
  }

  // Executes the request at `p`, if all of its bytes are there, and returns how many they are.
  std::size_t execute(const std::byte* p, std::size_t available) {
    Request request;
    if (available < kRequestBytes) return 0;
    if (!decode(p, false, request) || request.command == Command::disconnect) throw Gone();
    const bool in_pages = request.offset % kPageSize == 0 && request.length % kPageSize == 0;
    const bool inside = request.offset <= served_.bytes && request.length <= served_.bytes - request.offset;
    if (!in_pages || !inside || request.length > kBufferBytes / 2) {
      throw std::runtime_error("a request that is not of whole pages, of at most 1 MiB");
    }
    const std::size_t size = kRequestBytes + request.payload;
    if (available < size) return 0;
    const std::size_t returned = request.command == Command::read ? request.length : 0;
    std::byte* const data = begin_reply(request, returned);
    if (!served_.pages) return size;
    const std::uint64_t first = request.offset / kPageSize;
    for (std::uint64_t at = 0; at < request.payload; at += kPageSize) {
      served_.pages->write(*lz4_, first + at / kPageSize, ConstPage(p + kRequestBytes + at, kPageSize));
    }
    for (std::uint64_t at = 0; at < returned; at += kPageSize) {
      served_.pages->read(*lz4_, first + at / kPageSize, Page(data + at, kPageSize));
    }
    return size;
  }

  const Fd socket_;
  Served& served_;
  bool structured_ = false;
  std::unique_ptr<Compressor> lz4_ = make_compressor({});
  std::vector<std::byte> in_ = std::vector<std::byte>(kBufferBytes);
  std::vector<std::byte> out_ = std::vector<std::byte>(kBufferBytes);
  std::size_t received_ = 0;
  std::size_t replied_ = 0;
};

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
  if (lz4) served.pages.emplace(served.bytes / kPageSize);
  const auto listener = UnixListener::listen(path);
  if (!listener) throw std::runtime_error(listener.error().message);
  while (true) {
    pollfd wait{listener->fd(), POLLIN, 0};
    (void)poll(&wait, 1, -1);
    Fd socket(accept(listener->fd(), nullptr, nullptr));
    if (!socket.valid() && errno == EAGAIN) continue;
    if (!socket.valid()) throw std::runtime_error(std::strerror(errno));
    std::thread([socket = std::move(socket), &served]() mutable {
      try {
        Client(std::move(socket), served).serve();
      } catch (const Gone&) {
        return;
      }
    }).detach();
  }
}

}  // namespace
}  // namespace uzram::bench

int main(int argc, char** argv) { return uzram::bench::run_main("bare_server", uzram::bench::run, argc, argv); }
