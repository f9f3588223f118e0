#include "cli/inherited_sockets.h"

#include <systemd/sd-daemon.h>

#include <utility>

namespace uzram {
namespace {

constexpr std::string_view kControlUnit = "control";

}  // namespace

Result<InheritedSockets> inherit_from_units(FdStore& store, const std::string& asked_nbd,
                                            const std::string& asked_control) {
  InheritedSockets sockets;
  for (auto& [name, fd] : store.take_rest()) {
    const std::string what = "the descriptor '" + name + "' that was handed over ";
    if (::sd_is_socket_unix(fd.get(), SOCK_STREAM, 1, nullptr, 0) <= 0) {
      return fail(EINVAL, what + "is no listening unix socket");
    }
    const bool control = name == kControlUnit;
    std::optional<InheritedSocket>& place = control ? sockets.control : sockets.nbd;
    const std::string& asked = control ? asked_control : asked_nbd;
    if (place) return fail(EINVAL, what + "is one too many");
    auto [listener, path] = nbd::UnixListener::borrow(std::move(fd));
    if (!asked.empty() && asked != path) {
      return fail(EINVAL, std::string(what).append("listens on ").append(path).append(", not on ").append(asked));
    }
    place.emplace(InheritedSocket{std::move(listener), std::move(path)});
  }
  return sockets;
}

}  // namespace uzram
