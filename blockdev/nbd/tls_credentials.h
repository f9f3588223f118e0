#pragma once
// What this server proves itself by over TLS, and whom it believes: certificates, pre-shared keys, or both.
// The files are read once.
//
// Threads: loaded by one thread; then read by all.

#include <gnutls/gnutls.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "blockdev/types.h"

namespace uzram::nbd {

struct TlsOptions {
  // A folder with ca-cert.pem, server-cert.pem, server-key.pem and perhaps ca-crl.pem, as qemu and nbdkit name them.
  std::string certificates = {};
  std::string psk_file = {};  // lines of name:key, the key in hexadecimal digits, as psktool writes them
  bool require = false;       // TCP clients are told nothing before TLS
  bool verify_peer = false;   // a client without a certificate of the CA's is turned away, if it has no key either

  [[nodiscard]] bool offered() const { return !certificates.empty() || !psk_file.empty(); }
};

class TlsCredentials {
 public:
  // EINVAL and a line that names the file and what is wrong with it.
  [[nodiscard]] static Result<std::unique_ptr<TlsCredentials>> load(const TlsOptions& options);

  // Gives a new server session these credentials and its priorities; a GnuTLS error code.
  [[nodiscard]] int prepare(gnutls_session_t session) const;

 private:
  using Key = std::vector<unsigned char>;

  TlsCredentials() = default;
  [[nodiscard]] Result<void> load_certificates(const std::string& folder);
  [[nodiscard]] Result<void> load_keys(const std::string& path);
  static int find_key(gnutls_session_t session, const char* name, gnutls_datum_t* key);

  template <auto Free>
  struct Freed {
    template <class T>
    void operator()(T* credentials) const {
      Free(credentials);
    }
  };
  template <class T, auto Free>
  using Owned = std::unique_ptr<std::remove_pointer_t<T>, Freed<Free>>;

  Owned<gnutls_certificate_credentials_t, gnutls_certificate_free_credentials> certificates_;
  Owned<gnutls_psk_server_credentials_t, gnutls_psk_free_server_credentials> psk_;
  Owned<gnutls_priority_t, gnutls_priority_deinit> priorities_;
  std::map<std::string, Key, std::less<>> keys_;
  bool verify_peer_ = false;
};

}  // namespace uzram::nbd
