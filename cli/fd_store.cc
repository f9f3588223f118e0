#include "cli/fd_store.h"

#include <systemd/sd-daemon.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace uzram {
namespace {

constexpr std::uint64_t kBarrierTime = 10'000'000;  // microseconds

}  // namespace

FdStore FdStore::from_environment() {
  FdStore store;
  const char* room = std::getenv("FDSTORE");
  store.keeps_ = room != nullptr && std::atoi(room) > 0 && std::getenv("NOTIFY_SOCKET") != nullptr;
  ::unsetenv("FDSTORE");
  char** names = nullptr;
  const int count = ::sd_listen_fds_with_names(1, &names);
  for (int i = 0; i < count; ++i) {
    store.handed_over_.emplace_back(names[i], nbd::Fd(SD_LISTEN_FDS_START + i));
    store.kept_.emplace(names[i]);
    std::free(names[i]);
  }
  std::free(names);
  return store;
}

std::vector<nbd::Fd> FdStore::take(std::string_view name) {
  std::vector<nbd::Fd> taken;
  for (Named& one : handed_over_) {
    if (one.first == name) taken.push_back(std::move(one.second));
  }
  std::erase_if(handed_over_, [&](const Named& one) { return one.first == name; });
  return taken;
}

Result<void> FdStore::keep(std::string_view name, std::span<const int> fds) {
  if (!keeps_ || fds.empty() || kept_.contains(name)) return {};
  const std::string message = "FDSTORE=1\nFDNAME=" + std::string(name);
  int sent = ::sd_pid_notify_with_fds(0, 0, message.c_str(), fds.data(), static_cast<unsigned>(fds.size()));
  if (sent > 0) sent = ::sd_notify_barrier(0, kBarrierTime);
  if (sent <= 0) {
    return fail(ENOTCONN, "the descriptor store does not take " + std::string(name) + ": " +
                              (sent == 0 ? "nobody listens" : std::strerror(-sent)));
  }
  kept_.emplace(name);
  return {};
}

void FdStore::drop(std::string_view name) {
  if (const auto at = kept_.find(name); at != kept_.end()) kept_.erase(at);
  (void)::sd_notify(0, ("FDSTOREREMOVE=1\nFDNAME=" + std::string(name)).c_str());
}

void FdStore::drop_rest() {
  const auto ours = [](const Named& one) {
    return one.first == kUnixName || one.first == kControlName || one.first.starts_with(kTcpPrefix);
  };
  for (const Named& one : handed_over_) {
    if (ours(one)) drop(one.first);
  }
  std::erase_if(handed_over_, ours);
}

}  // namespace uzram
