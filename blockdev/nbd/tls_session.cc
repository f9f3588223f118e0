#include "blockdev/nbd/tls_session.h"

#include <gnutls/x509.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>

namespace uzram::nbd {
namespace {

constexpr std::size_t kRecordHeaderBytes = 5;  // type 1, version 2, length 2
constexpr std::size_t kMaxPlainBytes = 16 << 10;

struct FreeCertificate {
  void operator()(gnutls_x509_crt_t certificate) const { gnutls_x509_crt_deinit(certificate); }
};

// The common name of the client's own certificate, where it has exactly one text for it.
std::string common_name(const gnutls_datum_t& encoded) {
  gnutls_x509_crt_t made = nullptr;
  if (gnutls_x509_crt_init(&made) != GNUTLS_E_SUCCESS) return {};
  const std::unique_ptr<std::remove_pointer_t<gnutls_x509_crt_t>, FreeCertificate> certificate(made);
  std::array<char, 256> text;
  std::size_t size = text.size();
  if (gnutls_x509_crt_import(made, &encoded, GNUTLS_X509_FMT_DER) != GNUTLS_E_SUCCESS) return {};
  if (gnutls_x509_crt_get_dn_by_oid(made, GNUTLS_OID_X520_COMMON_NAME, 0, 0, text.data(), &size) != GNUTLS_E_SUCCESS) {
    return {};
  }
  return {text.data(), size};
}

}  // namespace

TlsSession::TlsSession(int socket, const TlsCredentials& credentials) : socket_(socket) {
  int e = gnutls_init(&session_, GNUTLS_SERVER | GNUTLS_NO_SIGNAL);
  if (e == GNUTLS_E_SUCCESS) e = credentials.prepare(session_);
  if (e != GNUTLS_E_SUCCESS) {
    error_ = gnutls_strerror(e);
    return;
  }
  gnutls_transport_set_ptr(session_, this);
  gnutls_transport_set_pull_function(session_, &TlsSession::pull);
  gnutls_transport_set_push_function(session_, &TlsSession::push);
}

TlsSession::~TlsSession() {
  if (session_ != nullptr) gnutls_deinit(session_);
}

ssize_t TlsSession::pull(gnutls_transport_ptr_t self, void* to, std::size_t size) {
  auto& tls = *static_cast<TlsSession*>(self);
  if (tls.begin_ == tls.end_) {
    const ssize_t n = recv(tls.socket_, tls.received_.data(), tls.received_.size(), tls.receive_flags_);
    if (n <= 0) return n;
    tls.begin_ = 0;
    tls.end_ = static_cast<std::size_t>(n);
  }
  const std::size_t n = std::min(size, tls.end_ - tls.begin_);
  std::memcpy(to, tls.received_.data() + tls.begin_, n);
  tls.begin_ += n;
  return static_cast<ssize_t>(n);
}

ssize_t TlsSession::push(gnutls_transport_ptr_t self, const void* from, std::size_t size) {
  const auto& tls = *static_cast<TlsSession*>(self);
  return ::send(tls.socket_, from, size, MSG_NOSIGNAL | tls.send_flags_);
}

TlsSession::Step TlsSession::fail(std::string why) {
  error_ = std::move(why);
  return Step::failed;
}

TlsSession::Step TlsSession::handshake() {
  if (!error_.empty()) return Step::failed;
  receive_flags_ = MSG_DONTWAIT;
  send_flags_ = MSG_DONTWAIT;
  const int e = gnutls_handshake(session_);
  if (e == GNUTLS_E_SUCCESS) return peer_is_trusted() ? Step::done : Step::failed;
  if (gnutls_error_is_fatal(e) == 0) return gnutls_record_get_direction(session_) == 0 ? Step::reading : Step::writing;
  // The alert says why, to a client that still listens.
  (void)gnutls_alert_send_appropriate(session_, e);
  return fail(gnutls_strerror(e));
}

// A client may have no certificate, if the credentials do not ask for one; but none that the CA did not sign.
bool TlsSession::peer_is_trusted() {
  unsigned count = 0;
  if (gnutls_certificate_get_peers(session_, &count) == nullptr || count == 0) return true;
  std::string purpose = GNUTLS_KP_TLS_WWW_CLIENT;
  gnutls_typed_vdata_st wanted{};
  wanted.type = GNUTLS_DT_KEY_PURPOSE_OID;
  wanted.data = reinterpret_cast<unsigned char*>(purpose.data());
  unsigned status = 0;
  const int e = gnutls_certificate_verify_peers(session_, &wanted, 1, &status);
  if (e == GNUTLS_E_SUCCESS && status == 0) return true;
  (void)gnutls_alert_send(session_, GNUTLS_AL_FATAL, GNUTLS_A_BAD_CERTIFICATE);
  error_ = e != GNUTLS_E_SUCCESS ? gnutls_strerror(e) : "the client's certificate is not trusted";
  return false;
}

void TlsSession::identify(Peer& peer) const {
  if (const char* name = gnutls_psk_server_get_username(session_); name != nullptr) peer.psk_name = name;
  unsigned count = 0;
  const gnutls_datum_t* chain = gnutls_certificate_get_peers(session_, &count);
  if (chain != nullptr && count != 0) peer.certificate_name = common_name(chain[0]);
}

// Whether GnuTLS can give more without a receive from the socket.
bool TlsSession::holds_record() const {
  if (gnutls_record_check_pending(session_) > 0) return true;
  if (end_ - begin_ < kRecordHeaderBytes) return false;
  const auto length =
      static_cast<std::size_t>(received_[begin_ + 3]) << 8 | static_cast<std::size_t>(received_[begin_ + 4]);
  return end_ - begin_ >= kRecordHeaderBytes + length;
}

ssize_t TlsSession::receive(std::span<std::byte> out, int flags) {
  receive_flags_ = flags;
  std::size_t done = 0;
  do {
    const ssize_t n = gnutls_record_recv(session_, out.data() + done, out.size() - done);
    if (n <= 0) {
      // An error that is not the first will come again.
      if (done != 0) break;
      if (n == 0 || n == GNUTLS_E_PREMATURE_TERMINATION) return 0;
      errno = EPROTO;
      if (n == GNUTLS_E_AGAIN) errno = EAGAIN;
      if (n == GNUTLS_E_INTERRUPTED) errno = EINTR;
      return -1;
    }
    done += static_cast<std::size_t>(n);
  } while (done < out.size() && holds_record());
  return static_cast<ssize_t>(done);
}

bool TlsSession::send(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const std::size_t piece = std::min(bytes.size(), kMaxPlainBytes);
    send_flags_ = bytes.size() > piece ? MSG_MORE : 0;
    const ssize_t n = gnutls_record_send(session_, bytes.data(), piece);
    if (n >= 0) {
      bytes = bytes.subspan(static_cast<std::size_t>(n));
    } else if (n != GNUTLS_E_INTERRUPTED) {
      return false;
    }
  }
  return true;
}

void TlsSession::close() {
  send_flags_ = MSG_DONTWAIT;
  (void)gnutls_bye(session_, GNUTLS_SHUT_WR);
}

}  // namespace uzram::nbd
