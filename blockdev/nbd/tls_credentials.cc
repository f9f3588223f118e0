#include "blockdev/nbd/tls_credentials.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <optional>
#include <string_view>

namespace uzram::nbd {
namespace {

// TLS 1.2 is the least that NBD allows. Clients of GnuTLS put ChaCha20 before AES-128, and a pre-shared key excludes
// AES-256; with the instructions that processors have for AES, ChaCha20 is several times slower. It comes last here.
constexpr const char* kPriorities =
    "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2:+ECDHE-PSK:+DHE-PSK:+PSK:-CHACHA20-POLY1305:+CHACHA20-POLY1305:"
    "%SERVER_PRECEDENCE";

tl::unexpected<Error> refuse(const std::string& path, const char* why) { return fail(EINVAL, path + ": " + why); }

// GnuTLS tells a missing file and a damaged one alike.
Result<void> readable(const std::string& path) {
  if (::access(path.c_str(), R_OK) != 0) return refuse(path, std::strerror(errno));
  return {};
}

std::optional<std::vector<unsigned char>> from_hex(const std::string& digits) {
  std::vector<unsigned char> bytes(digits.size() / 2);
  std::size_t size = bytes.size();
  const gnutls_datum_t text{reinterpret_cast<unsigned char*>(const_cast<char*>(digits.data())),
                            static_cast<unsigned>(digits.size())};
  if (digits.empty() || digits.size() % 2 != 0) return std::nullopt;
  if (gnutls_hex_decode(&text, bytes.data(), &size) != GNUTLS_E_SUCCESS || size != bytes.size()) return std::nullopt;
  return bytes;
}

}  // namespace

Result<std::unique_ptr<TlsCredentials>> TlsCredentials::load(const TlsOptions& options) {
  auto credentials = std::unique_ptr<TlsCredentials>(new TlsCredentials());
  credentials->verify_peer_ = options.verify_peer;
  gnutls_priority_t priorities = nullptr;
  if (const int e = gnutls_priority_init(&priorities, kPriorities, nullptr); e != GNUTLS_E_SUCCESS) {
    return fail(EINVAL, std::string("TLS: ") + gnutls_strerror(e));
  }
  credentials->priorities_.reset(priorities);
  if (!options.certificates.empty()) {
    if (auto loaded = credentials->load_certificates(options.certificates); !loaded) {
      return tl::unexpected(loaded.error());
    }
  }
  if (!options.psk_file.empty()) {
    if (auto loaded = credentials->load_keys(options.psk_file); !loaded) return tl::unexpected(loaded.error());
  }
  return credentials;
}

Result<void> TlsCredentials::load_certificates(const std::string& folder) {
  const std::string ca = folder + "/ca-cert.pem";
  const std::string crl = folder + "/ca-crl.pem";
  const std::string certificate = folder + "/server-cert.pem";
  const std::string key = folder + "/server-key.pem";
  for (const std::string& path : {ca, certificate, key}) {
    if (auto found = readable(path); !found) return found;
  }
  gnutls_certificate_credentials_t made = nullptr;
  if (gnutls_certificate_allocate_credentials(&made) != GNUTLS_E_SUCCESS) return refuse(folder, "no memory");
  certificates_.reset(made);
  if (const int n = gnutls_certificate_set_x509_trust_file(made, ca.c_str(), GNUTLS_X509_FMT_PEM); n <= 0) {
    return refuse(ca, n == 0 ? "holds no certificate" : gnutls_strerror(n));
  }
  if (::access(crl.c_str(), F_OK) == 0) {
    const int n = gnutls_certificate_set_x509_crl_file(made, crl.c_str(), GNUTLS_X509_FMT_PEM);
    if (n <= 0) return refuse(crl, n == 0 ? "holds no revocation list" : gnutls_strerror(n));
  }
  const int e = gnutls_certificate_set_x509_key_file(made, certificate.c_str(), key.c_str(), GNUTLS_X509_FMT_PEM);
  if (e < 0) return refuse(certificate, gnutls_strerror(e));
  return {};
}

// A damaged line is refused without its text, which is a secret.
Result<void> TlsCredentials::load_keys(const std::string& path) {
  std::ifstream file(path);
  if (!file) return refuse(path, std::strerror(errno));
  std::string line;
  for (unsigned number = 1; std::getline(file, line); ++number) {
    if (line.empty() || line.front() == '#') continue;
    const std::size_t colon = line.find(':');
    const std::string where = path + ":" + std::to_string(number);
    if (colon == 0 || colon == std::string::npos) return refuse(where, "a line is name:key");
    auto key = from_hex(line.substr(colon + 1));
    if (!key) return refuse(where, "the key is no even number of hexadecimal digits");
    if (!keys_.emplace(line.substr(0, colon), std::move(*key)).second)
      return refuse(where, "the name stands there twice");
  }
  if (keys_.empty()) return refuse(path, "holds no key");
  gnutls_psk_server_credentials_t made = nullptr;
  if (gnutls_psk_allocate_server_credentials(&made) != GNUTLS_E_SUCCESS) return refuse(path, "no memory");
  psk_.reset(made);
  gnutls_psk_set_server_credentials_function(made, &TlsCredentials::find_key);
  return {};
}

// 1 is an unknown name: GnuTLS makes up a key, so that the handshake fails as with a wrong one.
int TlsCredentials::find_key(gnutls_session_t session, const char* name, gnutls_datum_t* key) {
  const auto& self = *static_cast<const TlsCredentials*>(gnutls_session_get_ptr(session));
  *key = {};
  const auto found = self.keys_.find(std::string_view(name));
  if (found == self.keys_.end()) return 1;
  const Key& bytes = found->second;
  key->data = static_cast<unsigned char*>(gnutls_malloc(bytes.size()));
  if (key->data == nullptr) return -1;
  std::copy(bytes.begin(), bytes.end(), key->data);
  key->size = static_cast<unsigned>(bytes.size());
  return 0;
}

int TlsCredentials::prepare(gnutls_session_t session) const {
  gnutls_session_set_ptr(session, const_cast<TlsCredentials*>(this));
  int e = gnutls_priority_set(session, priorities_.get());
  if (e == GNUTLS_E_SUCCESS && certificates_) {
    e = gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, certificates_.get());
    gnutls_certificate_server_set_request(session, verify_peer_ ? GNUTLS_CERT_REQUIRE : GNUTLS_CERT_REQUEST);
  }
  if (e == GNUTLS_E_SUCCESS && psk_) e = gnutls_credentials_set(session, GNUTLS_CRD_PSK, psk_.get());
  return e;
}

}  // namespace uzram::nbd
