#pragma once
// TLS with a pre-shared key, as the client of a test.
//
// Threads: one.

#include <gnutls/gnutls.h>
#include <gtest/gtest.h>
#include <sys/types.h>

#include <string>
#include <string_view>

namespace uzram::nbd {

// The client's end of TLS with a pre-shared key, over a connected socket.
class TestTls {
 public:
  TestTls(int fd, const std::string& name, const std::string& hex_key, const char* priorities) {
    gnutls_psk_allocate_client_credentials(&credentials_);
    const gnutls_datum_t key{reinterpret_cast<unsigned char*>(const_cast<char*>(hex_key.data())),
                             static_cast<unsigned>(hex_key.size())};
    EXPECT_EQ(gnutls_psk_set_client_credentials(credentials_, name.c_str(), &key, GNUTLS_PSK_KEY_HEX), 0);
    gnutls_init(&session_, GNUTLS_CLIENT | GNUTLS_NO_SIGNAL);
    EXPECT_EQ(gnutls_priority_set_direct(session_, priorities, nullptr), 0);
    gnutls_credentials_set(session_, GNUTLS_CRD_PSK, credentials_);
    gnutls_transport_set_int(session_, fd);
  }
  ~TestTls() {
    gnutls_deinit(session_);
    gnutls_psk_free_client_credentials(credentials_);
  }
  TestTls(const TestTls&) = delete;
  TestTls& operator=(const TestTls&) = delete;

  bool handshake() {
    int e = gnutls_handshake(session_);
    while (e != 0 && gnutls_error_is_fatal(e) == 0) e = gnutls_handshake(session_);
    return e == 0;
  }
  ssize_t send(std::string_view bytes) { return gnutls_record_send(session_, bytes.data(), bytes.size()); }
  ssize_t receive(char* to, std::size_t size) { return gnutls_record_recv(session_, to, size); }
  [[nodiscard]] std::string cipher() const { return gnutls_cipher_get_name(gnutls_cipher_get(session_)); }

 private:
  gnutls_psk_client_credentials_t credentials_ = nullptr;
  gnutls_session_t session_ = nullptr;
};

inline constexpr const char* kTestTlsPriorities = "NORMAL:+ECDHE-PSK:+DHE-PSK:+PSK";

}  // namespace uzram::nbd
