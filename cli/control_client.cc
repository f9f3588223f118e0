#include "cli/control_client.h"

#include <httplib.h>
#include <signal.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>

#include "cli/device_json.h"

namespace uzram {
namespace {

// A compaction of a large device takes its time.
constexpr time_t kAnswerSeconds = 24 * 3600;

int code_of(int status) {
  switch (status) {
    case 403:
      return EACCES;
    case 404:
      return ENOENT;
    case 409:
      return EBUSY;
    case 507:
      return ENOSPC;
    default:
      return EINVAL;
  }
}

// httplib lets a daemon that has just died end its callers with SIGPIPE. The thread's own meaning of the signal is none
// of a client's business, so that it is blocked, and taken where it came, while a request is sent.
class NoPipeSignal {
 public:
  NoPipeSignal() {
    ::sigemptyset(&pipe_);
    ::sigaddset(&pipe_, SIGPIPE);
    ::pthread_sigmask(SIG_BLOCK, &pipe_, &before_);
  }
  NoPipeSignal(const NoPipeSignal&) = delete;
  NoPipeSignal& operator=(const NoPipeSignal&) = delete;
  ~NoPipeSignal() {
    const timespec at_once{};
    while (::sigtimedwait(&pipe_, nullptr, &at_once) < 0 && errno == EINTR) continue;
    ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }

 private:
  sigset_t pipe_{};
  sigset_t before_{};
};

// httplib does not tell why it could not connect.
tl::unexpected<Error> unreachable(const std::string& socket) {
  if (socket.size() >= sizeof(sockaddr_un::sun_path)) return fail(ENAMETOOLONG, socket + ": the path is too long");
  if (::access(socket.c_str(), R_OK | W_OK) != 0) {
    if (errno == ENOENT) return fail(ECONNREFUSED, socket + ": " + std::strerror(ENOENT) + ": is uzramd running?");
    return fail_errno(socket);
  }
  return fail(ECONNREFUSED, socket + ": no daemon answers there: is uzramd running?");
}

void append_escaped(std::string& out, std::string_view part) {
  constexpr std::string_view kHex = "0123456789ABCDEF";
  for (const char c : part) {
    const auto byte = static_cast<unsigned char>(c);
    if (std::isalnum(byte) != 0 || c == '-' || c == '_' || c == '~' || c == '.') {
      out += c;
    } else {
      out += '%';
      out += kHex[byte >> 4];
      out += kHex[byte & 15];
    }
  }
}

}  // namespace

std::string device_target(std::string_view device, std::string_view attribute) {
  std::string target = "/v1/devices/";
  append_escaped(target, device);
  if (attribute.empty()) return target;
  target += '/';
  append_escaped(target, attribute);
  return target;
}

Result<std::string> ControlClient::call(const char* method, const std::string& target, const std::string& body) const {
  // The endpoint would not wait for the end of it, and its answer be lost.
  if (body.size() > kMaxControlBody) return fail(EINVAL, kBodyTooLong);
  httplib::Client http(socket_, 80);
  http.set_address_family(AF_UNIX);
  http.set_read_timeout(kAnswerSeconds);
  httplib::Request request;
  request.method = method;
  request.path = target;
  request.body = body;
  request.headers.emplace("Host", "localhost");
  const NoPipeSignal no_signal;
  const auto response = http.send(request);
  if (!response) {
    if (response.error() == httplib::Error::Connection) return unreachable(socket_);
    return fail(EIO, socket_ + ": the daemon broke off: " + httplib::to_string(response.error()));
  }
  if (response->status < 400) return response->body;
  const std::string why = error_from_json(response->body);
  return fail(code_of(response->status), why.empty() ? "the daemon answered " + std::to_string(response->status) : why);
}

Result<std::string> ControlClient::get(const std::string& target) const { return call("GET", target, ""); }
Result<std::string> ControlClient::put(const std::string& target, const std::string& body) const {
  return call("PUT", target, body);
}
Result<std::string> ControlClient::post(const std::string& target, const std::string& body) const {
  return call("POST", target, body);
}
Result<std::string> ControlClient::remove(const std::string& target) const { return call("DELETE", target, ""); }

}  // namespace uzram
