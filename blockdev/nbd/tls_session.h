#pragma once
// TLS over one connection's socket, as the server. It decrypts and encrypts; waiting is the connection's business.
// One receive from the socket brings as many records as it holds, so that requests come in batches as they do in the
// clear.
//
// Threads: those of its connection.

#include <gnutls/gnutls.h>
#include <sys/types.h>

#include <array>
#include <cstddef>
#include <span>
#include <string>

#include "blockdev/nbd/access.h"
#include "blockdev/nbd/tls_credentials.h"

namespace uzram::nbd {

class TlsSession {
 public:
  // `socket` is the connection's and `credentials` the server's; both outlive the session.
  TlsSession(int socket, const TlsCredentials& credentials);
  ~TlsSession();
  TlsSession(const TlsSession&) = delete;
  TlsSession& operator=(const TlsSession&) = delete;

  // One step of the handshake, which does not block: what to wait for before the next.
  enum class Step { done, reading, writing, failed };
  [[nodiscard]] Step handshake();
  // Why the handshake has failed.
  [[nodiscard]] const std::string& error() const { return error_; }

  // Behind the handshake: puts what the client has proved to be into `peer`.
  void identify(Peer& peer) const;

  // As recv: up to out.size() bytes, 0 at the end, or -1 with errno.
  [[nodiscard]] ssize_t receive(std::span<std::byte> out, int flags);
  // All of it; false as soon as the socket takes no more.
  [[nodiscard]] bool send(std::span<const std::byte> bytes);
  // Tells the client that nothing follows; does not wait.
  void close();

 private:
  static ssize_t pull(gnutls_transport_ptr_t self, void* to, std::size_t size);
  static ssize_t push(gnutls_transport_ptr_t self, const void* from, std::size_t size);
  [[nodiscard]] bool holds_record() const;
  [[nodiscard]] bool peer_is_trusted();
  Step fail(std::string why);

  const int socket_;
  gnutls_session_t session_ = nullptr;
  int receive_flags_ = 0;
  int send_flags_ = 0;
  std::string error_;
  std::size_t begin_ = 0;  // what has been received and GnuTLS has not taken: from here
  std::size_t end_ = 0;    // to here
  std::array<std::byte, 64 << 10> received_;
};

}  // namespace uzram::nbd
