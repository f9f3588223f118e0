#include "cli/places.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

namespace uzram {

Result<std::string> runtime_directory() {
  if (const char* given = std::getenv("RUNTIME_DIRECTORY"); given != nullptr && *given != '\0') {
    return std::string(given, std::strcspn(given, ":"));
  }
  if (::geteuid() == 0) return std::string("/run/uzram");
  if (const char* user = std::getenv("XDG_RUNTIME_DIR"); user != nullptr && *user != '\0') {
    return std::string(user) + "/uzram";
  }
  return fail(ENOENT, "no runtime directory: set XDG_RUNTIME_DIR, or name every socket");
}

Result<std::string> make_runtime_directory(std::optional<gid_t> group) {
  auto path = runtime_directory();
  if (!path) return path;
  if (::mkdir(path->c_str(), 0700) != 0 && errno != EEXIST) return fail_errno(*path);
  struct stat info {};
  if (::stat(path->c_str(), &info) != 0) return fail_errno(*path);
  if (!S_ISDIR(info.st_mode)) return fail_errno(*path, ENOTDIR);
  if (group && (::chown(path->c_str(), static_cast<uid_t>(-1), *group) != 0 || ::chmod(path->c_str(), 0750) != 0)) {
    return fail_errno(*path);
  }
  return path;
}

Result<std::string> make_private_directory() {
  const char* parent = std::getenv("TMPDIR");
  std::string path = std::string(parent != nullptr && *parent != '\0' ? parent : "/tmp") + "/uzram-XXXXXX";
  if (::mkdtemp(path.data()) == nullptr) return fail_errno(path);
  return path;
}

Result<std::unique_ptr<Places>> Places::choose(const Config& config) {
  auto places = std::unique_ptr<Places>(new Places());
  places->nbd = config.nbd.unix_path;
  places->control = config.control_path;
  if (!places->nbd.empty() && !places->control.empty()) return places;
  const bool own = !config.run.empty();  // as nbdkit's: beside other daemons, and other runs
  const auto directory = own ? make_private_directory() : make_runtime_directory(config.nbd.group);
  if (!directory) return tl::unexpected(directory.error());
  if (own) places->temporary_ = *directory;
  places->directory = *directory;
  if (places->nbd.empty()) places->nbd = *directory + "/nbd.sock";
  if (places->control.empty()) places->control = *directory + "/control.sock";
  return places;
}

Places::~Places() {
  if (!temporary_.empty()) ::rmdir(temporary_.c_str());
}

}  // namespace uzram
