#include "cli/sandbox.h"

#include <cap-ng.h>
#include <grp.h>
#include <pwd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <iterator>

namespace uzram {
namespace {

template <class Id>
std::optional<Id> as_number(const std::string& text) {
  Id id = 0;
  const char* const end = text.data() + text.size();
  const auto [at, error] = std::from_chars(text.data(), end, id);
  if (error == std::errc{} && at == end) return id;
  return std::nullopt;
}

Result<passwd> find_user(const std::string& name) {
  const passwd* found = ::getpwnam(name.c_str());
  if (const auto uid = as_number<uid_t>(name); found == nullptr && uid) found = ::getpwuid(*uid);
  if (found == nullptr) return fail(EINVAL, "--user: there is no user '" + name + "'");
  return *found;
}

constexpr unsigned kKept[] = {CAP_IPC_LOCK, CAP_SYS_RESOURCE};

bool held(unsigned capability) { return capng_have_capability(CAPNG_PERMITTED, capability) == 1; }

bool holds_others() {
  for (unsigned capability = 0; capability <= CAP_LAST_CAP; ++capability) {
    if (std::find(std::begin(kKept), std::end(kKept), capability) == std::end(kKept) && held(capability)) return true;
  }
  return false;
}

}  // namespace

Result<gid_t> find_group(const std::string& name) {
  if (const group* found = ::getgrnam(name.c_str()); found != nullptr) return found->gr_gid;
  if (const auto gid = as_number<gid_t>(name)) return *gid;
  return fail(EINVAL, "there is no group '" + name + "'");
}

Result<void> give_to_user(const std::string& user, const std::vector<std::string>& paths) {
  const auto account = find_user(user);
  if (!account) return tl::unexpected(account.error());
  for (const std::string& path : paths) {
    if (::lchown(path.c_str(), account->pw_uid, static_cast<gid_t>(-1)) != 0) {
      return fail_errno("--user: cannot give away " + path);
    }
  }
  return {};
}

Result<void> drop_privileges(const std::string& user) {
  if (capng_get_caps_process() != 0) return fail(EPERM, "cannot tell what capabilities there are");
  // A filter of systemd's may forbid even to give up nothing.
  if (user.empty() && !holds_others()) return {};
  std::vector<unsigned> kept;
  for (const unsigned capability : kKept) {
    if (held(capability)) kept.push_back(capability);
  }
  const bool bounds = held(CAP_SETPCAP);
  capng_clear(CAPNG_SELECT_BOTH);
  for (const unsigned capability : kept) {
    (void)capng_update(CAPNG_ADD, static_cast<capng_type_t>(CAPNG_EFFECTIVE | CAPNG_PERMITTED), capability);
  }
  if (user.empty()) {
    if (capng_apply(bounds ? CAPNG_SELECT_BOTH : CAPNG_SELECT_CAPS) == 0) return {};
    return fail(EPERM, "cannot give up capabilities");
  }
  const auto account = find_user(user);
  if (!account) return tl::unexpected(account.error());
  constexpr auto kHow = static_cast<capng_flags_t>(CAPNG_INIT_SUPP_GRP | CAPNG_CLEAR_BOUNDING);
  if (capng_change_id(static_cast<int>(account->pw_uid), static_cast<int>(account->pw_gid), kHow) == 0) return {};
  return fail(EPERM, "--user: cannot become '" + user + "'" + (::geteuid() == 0 ? "" : ": only root can"));
}

}  // namespace uzram
