#include "blockdev/nbd/access.h"

#include <pwd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>

namespace uzram::nbd {
namespace {

std::optional<uid_t> user_id(const std::string& name) {
  uid_t uid = 0;
  const char* const end = name.data() + name.size();
  if (const auto [at, error] = std::from_chars(name.data(), end, uid); error == std::errc{} && at == end) return uid;
  std::array<char, 16 << 10> buffer;
  passwd entry{};
  passwd* found = nullptr;
  if (getpwnam_r(name.c_str(), &entry, buffer.data(), buffer.size(), &found) != 0 || found == nullptr) {
    return std::nullopt;
  }
  return entry.pw_uid;
}

std::string_view trimmed(std::string_view text) {
  const auto begin = text.find_first_not_of(' ');
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(' ') - begin + 1);
}

}  // namespace

bool Identity::is(const Peer& peer) const {
  switch (kind) {
    case Kind::user:
      return peer.uid == uid;
    case Kind::psk:
      return peer.psk_name == name;
    case Kind::certificate:
      return peer.certificate_name == name;
  }
  return false;
}

Result<Identity> Identity::parse(std::string_view text) {
  const std::string quoted = "'" + std::string(text) + "'";
  const std::size_t colon = text.find(':');
  const std::string_view kind = text.substr(0, colon);
  Identity identity;
  if (colon == std::string_view::npos || colon + 1 == text.size() ||
      (kind != "user" && kind != "psk" && kind != "cert")) {
    return fail(EINVAL, quoted + " is none of user:NAME, psk:NAME and cert:COMMON-NAME");
  }
  identity.name = text.substr(colon + 1);
  if (kind == "psk") identity.kind = Kind::psk;
  if (kind == "cert") identity.kind = Kind::certificate;
  if (kind == "user") {
    const auto uid = user_id(identity.name);
    if (!uid) return fail(EINVAL, quoted + ": there is no such user");
    identity.uid = *uid;
  }
  return identity;
}

Result<std::vector<Identity>> parse_identities(std::string_view text) {
  std::vector<Identity> identities;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    auto identity = Identity::parse(trimmed(text.substr(begin, end - begin)));
    if (!identity) return tl::unexpected(std::move(identity.error()));
    identities.push_back(std::move(*identity));
    begin = end + 1;
  }
  return identities;
}

bool ExportRules::admits(const Peer& peer) const {
  return allow.empty() ||
         std::any_of(allow.begin(), allow.end(), [&](const Identity& identity) { return identity.is(peer); });
}

const ExportRules& AccessRules::of(std::string_view name) const {
  const auto found = exports.find(name);
  return found == exports.end() ? others : found->second;
}

}  // namespace uzram::nbd
