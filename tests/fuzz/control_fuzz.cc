// The control endpoint, over its socket. The first byte chooses: the rest is what the client sends, byte for byte, or a
// request is made of it that is HTTP, with the first line as its target and what follows as its body. Whatever was
// asked, an answer is HTTP and the device that was there is whole. Built by clang with -fsanitize=fuzzer.

#include "cli/control.h"

#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <string>

#include "cli/log.h"
#include "tests/fuzz/world.h"

using namespace uzram;

namespace {

constexpr std::array kMethods = {"GET", "PUT", "POST", "DELETE", "HEAD", "OPTIONS", "PATCH"};

// A whole endpoint, in a folder that goes when the fuzzer ends.
class Endpoint {
 public:
  Endpoint() {
    init_log();
    fuzz::must(mkdtemp(folder_.data()) != nullptr);
    server_ = std::move(*nbd::Server::listen(world_.devices, {.unix_path = folder_ + "/nbd"}));
    control_ = std::move(*ControlEndpoint::listen(world_.devices, *server_, path(), false));
    server_->start();
    control_->start();
  }
  ~Endpoint() {
    control_->stop();
    server_->stop();
    rmdir(folder_.c_str());
  }
  Endpoint(const Endpoint&) = delete;
  Endpoint& operator=(const Endpoint&) = delete;

  // All that comes back for these bytes, with nothing behind them.
  [[nodiscard]] std::string answer(const std::string& bytes) const {
    const nbd::Fd socket(::socket(AF_UNIX, SOCK_STREAM, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path().copy(address.sun_path, sizeof address.sun_path - 1);
    fuzz::must(connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
    (void)!send(socket.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    (void)shutdown(socket.get(), SHUT_WR);
    std::string all;
    std::array<char, 1 << 14> part;
    for (ssize_t n = 0; (n = recv(socket.get(), part.data(), part.size(), 0)) > 0;) {
      all.append(part.data(), static_cast<std::size_t>(n));
    }
    return all;
  }
  // Leaves things as they were, so that a finding can be had again.
  void restore() {
    for (const std::string& name : world_.devices.names()) {
      if (name != "zram0") fuzz::must(world_.devices.remove(name).has_value());
    }
    if (!world_.devices.find("zram0")) fuzz::must(world_.devices.create({.size = 1 << 20}).has_value());
    (*world_.devices.find("zram0"))->check_invariants();
  }

 private:
  [[nodiscard]] std::string path() const { return folder_ + "/control"; }

  fuzz::World world_{{.size = 1 << 20}};
  std::string folder_ = std::string(P_tmpdir) + "/uzram-fuzz.XXXXXX";
  std::unique_ptr<nbd::Server> server_;
  std::unique_ptr<ControlEndpoint> control_;
};

std::string request_of(const char* method, const std::string& text) {
  const std::size_t end = std::min(text.find('\n'), text.size());
  const std::string body = text.substr(std::min(end + 1, text.size()));
  return std::string(method) + " /v1/devices" + text.substr(0, end) +
         " HTTP/1.1\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static Endpoint endpoint;
  if (size == 0 || size > 16'000) return 0;
  const std::string text(reinterpret_cast<const char*>(data + 1), size - 1);
  const std::string answer = endpoint.answer(data[0] < kMethods.size() ? request_of(kMethods[data[0]], text) : text);
  fuzz::must(answer.empty() || answer.starts_with("HTTP/1."));
  endpoint.restore();
  return 0;
}
