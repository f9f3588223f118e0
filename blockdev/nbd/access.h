#pragma once
// Who a client is, and what it may do with an export.
//
// Threads: values, unchanged once the server listens.

#include <sys/types.h>

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "blockdev/types.h"

namespace uzram::nbd {

// What is known of a client. Names are those that it has proved: nothing is taken from what it merely says.
struct Peer {
  std::optional<uid_t> uid = {};      // of a unix socket's other end
  std::string psk_name = {};          // whose key it has; empty: none's
  std::string certificate_name = {};  // the common name of a certificate that the CA signed; empty: it showed none
};

// One who may open an export.
struct Identity {
  enum class Kind { user, psk, certificate };
  Kind kind = Kind::user;
  std::string name = {};
  uid_t uid = 0;  // of a user

  [[nodiscard]] bool is(const Peer& peer) const;

  // From "user:NAME" (a user of this machine, or a number), "psk:NAME" or "cert:COMMON NAME". EINVAL says why not.
  [[nodiscard]] static Result<Identity> parse(std::string_view text);
};

// From a list of identities with commas between them.
[[nodiscard]] Result<std::vector<Identity>> parse_identities(std::string_view text);

struct ExportRules {
  bool read_only = false;
  std::vector<Identity> allow = {};  // empty: whoever can connect

  [[nodiscard]] bool admits(const Peer& peer) const;
};

// The rules of every export: its own, or the server's.
struct AccessRules {
  ExportRules others = {};
  std::map<std::string, ExportRules, std::less<>> exports = {};

  [[nodiscard]] const ExportRules& of(std::string_view name) const;
};

}  // namespace uzram::nbd
