#include "cli/nbd_sockets.h"

#include <fcntl.h>
#include <libnbd.h>
#include <linux/nbd.h>

#include <chrono>
#include <memory>

namespace uzram {
namespace {

constexpr std::chrono::seconds kHandshakeTimeout{10};
constexpr std::uint64_t kBlockSize = 4096;

struct HandleClose {
  void operator()(nbd_handle* handle) const { nbd_close(handle); }
};
using Handle = std::unique_ptr<nbd_handle, HandleClose>;

tl::unexpected<Error> libnbd_failed(const std::string& uri) {
  const int code = nbd_get_errno();
  std::string why = nbd_get_error();
  // It begins with the name of the function that failed, which says nothing to a user.
  if (const auto name = why.find(": "); why.starts_with("nbd_") && name != std::string::npos) why.erase(0, name + 2);
  return fail(code != 0 ? code : EIO, uri + ": " + why);
}

// connect_uri would wait for a silent server for ever.
Result<void> handshake(nbd_handle* handle, const std::string& uri) {
  const auto end = std::chrono::steady_clock::now() + kHandshakeTimeout;
  if (nbd_aio_connect_uri(handle, uri.c_str()) < 0) return libnbd_failed(uri);
  while (nbd_aio_is_connecting(handle) == 1) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end - std::chrono::steady_clock::now());
    if (left.count() <= 0) return fail(ETIMEDOUT, uri + ": the server does not answer");
    if (nbd_poll(handle, static_cast<int>(left.count())) < 0) return libnbd_failed(uri);
  }
  if (nbd_aio_is_ready(handle) != 1) return libnbd_failed(uri);
  return {};
}

std::uint64_t transmission_flags(nbd_handle* handle) {
  std::uint64_t flags = NBD_FLAG_HAS_FLAGS;
  if (nbd_is_read_only(handle) == 1) flags |= NBD_FLAG_READ_ONLY;
  if (nbd_can_flush(handle) == 1) flags |= NBD_FLAG_SEND_FLUSH;
  if (nbd_can_fua(handle) == 1) flags |= NBD_FLAG_SEND_FUA;
  if (nbd_can_trim(handle) == 1) flags |= NBD_FLAG_SEND_TRIM;
  if (nbd_can_multi_conn(handle) == 1) flags |= NBD_FLAG_CAN_MULTI_CONN;
  return flags;
}

Result<Handle> open_handle(const std::string& uri) {
  Handle handle(nbd_create());
  if (!handle) return libnbd_failed(uri);
  // The kernel understands simple replies only and speaks no TLS.
  nbd_set_request_structured_replies(handle.get(), false);
  nbd_set_uri_allow_tls(handle.get(), LIBNBD_TLS_DISABLE);
  if (auto done = handshake(handle.get(), uri); !done) return tl::unexpected(done.error());
  if (nbd_get_structured_replies_negotiated(handle.get()) != 0 || nbd_get_tls_negotiated(handle.get()) != 0) {
    return fail(ENOTSUP, uri + ": the server insists on structured replies or TLS, which the kernel does not speak");
  }
  return handle;
}

Result<void> check(const NbdSockets& s, const std::string& uri, unsigned count) {
  if (s.size == 0 || s.size % kBlockSize != 0) {
    return fail(ENOTSUP, uri + ": its size, " + std::to_string(s.size) + " bytes, is no multiple of 4096");
  }
  if (count > 1 && (s.flags & NBD_FLAG_CAN_MULTI_CONN) == 0) {
    return fail(ENOTSUP, uri + ": the server does not allow several connections");
  }
  return {};
}

}  // namespace

std::vector<int> NbdSockets::fds() const {
  std::vector<int> fds;
  for (const nbd::Fd& socket : sockets) fds.push_back(socket.get());
  return fds;
}

Result<NbdSockets> connect_nbd(const std::string& uri, unsigned count) {
  NbdSockets result;
  for (unsigned i = 0; i < count; ++i) {
    auto handle = open_handle(uri);
    if (!handle) return tl::unexpected(handle.error());
    const auto size = static_cast<std::uint64_t>(nbd_get_size(handle->get()));
    const std::uint64_t flags = transmission_flags(handle->get());
    if (i > 0 && (size != result.size || flags != result.flags)) {
      return fail(ESTALE, uri + ": the export changed between two connections");
    }
    result.size = size;
    result.flags = flags;
    if (auto fits = check(result, uri, count); !fits) return tl::unexpected(fits.error());
    // The copy outlives the handle, which closes its socket without NBD's goodbye.
    nbd::Fd socket(fcntl(nbd_aio_get_fd(handle->get()), F_DUPFD_CLOEXEC, 0));
    if (!socket.valid()) return fail_errno(uri);
    result.sockets.push_back(std::move(socket));
  }
  return result;
}

}  // namespace uzram
