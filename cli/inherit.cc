#include "cli/inherit.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <utility>
#include <vector>

namespace uzram {
namespace {

// What TCP listens on, in letters that a descriptor's name may have.
std::string tcp_name(const nbd::ServerOptions& options) {
  std::string name = std::string(kTcpPrefix) + std::to_string(options.port.value_or(0)) + "-" + options.host;
  std::replace(name.begin(), name.end(), ':', '_');
  return name;
}

std::optional<nbd::UnixListener> inherit_unix(FdStore& store, std::string_view name, const std::string& path) {
  for (nbd::Fd& fd : store.take(name)) {
    if (auto adopted = nbd::UnixListener::adopt(std::move(fd), path)) return adopted;
    store.drop(name);
  }
  return std::nullopt;
}

tl::unexpected<Error> elsewhere(const std::string& what) {
  return fail(EINVAL, "--takeover: the running daemon does not listen on " + what);
}

}  // namespace

Result<std::optional<StateFile>> open_state(const Config& config, FdStore& store) {
  const auto some = [](StateFile file) { return std::optional<StateFile>(std::move(file)); };
  std::vector<nbd::Fd> kept = store.take(kStateName);
  if (kept.size() > 1) return fail(EINVAL, "the descriptor store holds more than one state");
  if (config.state.empty()) {
    if (!kept.empty()) return StateFile::adopt(std::move(kept.front())).map(some);
    return store.keeps() ? StateFile::make().map(some) : std::nullopt;
  }
  if (!kept.empty()) return fail(EINVAL, "--state: the descriptor store holds a state already");
  return StateFile::open(config.state).map(some);
}

Result<void> check_state(const Config& config, int handed_over) {
  if (config.state.empty()) return {};
  struct stat theirs {};
  struct stat ours {};
  const std::string path = state_path(config.state);
  if (::fstat(handed_over, &theirs) == 0 && ::stat(path.c_str(), &ours) == 0 && theirs.st_dev == ours.st_dev &&
      theirs.st_ino == ours.st_ino) {
    return {};
  }
  return fail(EINVAL, "--takeover: the running daemon does not serve " + path);
}

Result<Sockets> inherit_sockets(const Config& config, Places& places, FdStore& store) {
  Sockets sockets{.nbd = {.unix_socket = inherit_unix(store, kUnixName, places.nbd)},
                  .control = inherit_unix(store, kControlName, places.control)};
  if (config.nbd.port) sockets.nbd.tcp = nbd::TcpListeners::adopt(store.take(tcp_name(config.nbd)));
  store.drop_rest();
  auto units = inherit_from_units(store, config.nbd.unix_path, config.control_path);
  if (!units) return tl::unexpected(units.error());
  sockets.units_nbd = units->nbd.has_value();
  sockets.units_control = units->control.has_value();
  if (units->nbd) {
    sockets.nbd.unix_socket.emplace(std::move(units->nbd->listener));
    places.nbd = units->nbd->path;
  }
  if (units->control) {
    sockets.control.emplace(std::move(units->control->listener));
    places.control = units->control->path;
  }
  return sockets;
}

Result<Sockets> inherit_sockets(const nbd::ServerOptions& options, const std::string& control, Inheritance& from) {
  // Whoever adopts a socket removes its file: nobody does before all are known to be right.
  if (!nbd::UnixListener::is_at(from.unix_socket, options.unix_path)) return elsewhere(options.unix_path);
  if (!nbd::UnixListener::is_at(from.control, control)) return elsewhere(control);
  nbd::TcpListeners tcp;
  if (options.port) {
    tcp = nbd::TcpListeners::adopt(std::move(from.tcp));
    const bool same = *options.port == 0 || *options.port == tcp.port;
    if (tcp.fds.empty() || !same) return elsewhere("TCP port " + std::to_string(*options.port));
  }
  return Sockets{.nbd = {.unix_socket = nbd::UnixListener::adopt(std::move(from.unix_socket), options.unix_path),
                         .tcp = std::move(tcp)},
                 .control = nbd::UnixListener::adopt(std::move(from.control), control)};
}

Result<void> keep_all(FdStore& store, int state, const nbd::Server& server, const ControlEndpoint& control,
                      const nbd::ServerOptions& options, const Sockets& inherited) {
  const int unix_fd = server.unix_fd();
  const int control_fd = control.fd();
  if (auto kept = store.keep(kStateName, {&state, 1}); !kept) return kept;
  if (!inherited.units_nbd) {
    if (auto kept = store.keep(kUnixName, {&unix_fd, 1}); !kept) return kept;
  }
  if (!inherited.units_control) {
    if (auto kept = store.keep(kControlName, {&control_fd, 1}); !kept) return kept;
  }
  return store.keep(tcp_name(options), server.tcp_fds());
}

}  // namespace uzram
