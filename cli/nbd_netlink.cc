#include "cli/nbd_netlink.h"

#include <linux/nbd-netlink.h>
#include <netlink/genl/ctrl.h>
#include <netlink/genl/genl.h>
#include <netlink/netlink.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <thread>
#include <utility>

namespace uzram {
namespace {

constexpr std::chrono::seconds kFreeTimeout{5};

struct MessageFree {
  void operator()(nl_msg* message) const { nlmsg_free(message); }
};
using Message = std::unique_ptr<nl_msg, MessageFree>;

std::string device_path(unsigned number) { return "/dev/nbd" + std::to_string(number); }

Error describe(int code, unsigned number) {
  const std::string path = device_path(number);
  switch (code) {
    case EBUSY:
      return {code, path + " is in use"};
    case EPERM:
      return {code, path + ": no permission to configure it (CAP_SYS_ADMIN is needed)"};
    case ENOENT:
    case ENODEV:
      return {code, path + " does not exist"};
    default:
      return {code, path + ": the kernel's nbd driver says: " + std::strerror(code)};
  }
}

tl::unexpected<Error> no_netlink(int nl_error) { return fail(EIO, std::string("netlink: ") + nl_geterror(nl_error)); }

tl::unexpected<Error> no_module() { return fail(ENOENT, "the kernel's nbd module is not loaded (modprobe nbd)"); }

// The kernel's own errno: libnl's codes merge several of them.
int keep_errno(sockaddr_nl*, nlmsgerr* answer, void* code) {
  *static_cast<int*>(code) = -answer->error;
  return NL_STOP;
}

int finished(nl_msg*, void* done) {
  *static_cast<bool*>(done) = true;
  return NL_STOP;
}

// Sends the message and waits for the kernel's verdict, which is an errno value or 0.
int transact(nl_sock* socket, nl_msg* message) {
  if (const int sent = nl_send_auto(socket, message); sent < 0) return EIO;
  int code = 0;
  bool done = false;
  const std::unique_ptr<nl_cb, void (*)(nl_cb*)> callbacks(nl_cb_alloc(NL_CB_DEFAULT), nl_cb_put);
  if (!callbacks) return ENOMEM;
  nl_cb_err(callbacks.get(), NL_CB_CUSTOM, keep_errno, &code);
  nl_cb_set(callbacks.get(), NL_CB_ACK, NL_CB_CUSTOM, finished, &done);
  while (!done && code == 0) {
    if (nl_recvmsgs(socket, callbacks.get()) < 0 && code == 0) return EIO;
  }
  return code;
}

Result<Message> command(int family, int verb, unsigned number, const std::string& backend) {
  Message message(nlmsg_alloc_size(8192));
  if (!message ||
      !genlmsg_put(message.get(), NL_AUTO_PORT, NL_AUTO_SEQ, family, 0, 0, static_cast<std::uint8_t>(verb),
                   NBD_GENL_VERSION) ||
      nla_put_u32(message.get(), NBD_ATTR_INDEX, number) != 0 ||
      (!backend.empty() && nla_put_string(message.get(), NBD_ATTR_BACKEND_IDENTIFIER, backend.c_str()) != 0)) {
    return fail(ENOMEM, "netlink: no memory for a message");
  }
  return message;
}

bool put_sockets(nl_msg* message, std::span<const int> sockets) {
  nlattr* const list = nla_nest_start(message, NBD_ATTR_SOCKETS);
  if (list == nullptr) return false;
  for (const int socket : sockets) {
    nlattr* const item = nla_nest_start(message, NBD_SOCK_ITEM);
    if (item == nullptr || nla_put_u32(message, NBD_SOCK_FD, static_cast<std::uint32_t>(socket)) != 0) return false;
    nla_nest_end(message, item);
  }
  nla_nest_end(message, list);
  return true;
}

Result<void> execute(nl_sock* socket, nl_msg* message, unsigned number) {
  if (const int code = transact(socket, message); code != 0) return tl::unexpected(describe(code, number));
  return {};
}

Result<NetlinkPtr> open_socket() {
  NetlinkPtr socket(nl_socket_alloc());
  if (!socket) return fail(ENOMEM, "netlink: no memory for a socket");
  if (const int error = genl_connect(socket.get()); error < 0) return no_netlink(error);
  return socket;
}

}  // namespace

void NetlinkCloser::operator()(nl_sock* socket) const { nl_socket_free(socket); }

Result<NbdNetlink> NbdNetlink::open() {
  auto socket = open_socket();
  if (!socket) return tl::unexpected(socket.error());
  const int family = genl_ctrl_resolve(socket->get(), NBD_GENL_FAMILY_NAME);
  if (family < 0) return no_module();
  return NbdNetlink(std::move(*socket), family);
}

Result<void> NbdNetlink::connect(const NbdConnection& connection, std::span<const int> sockets) {
  auto message = command(family_, NBD_CMD_CONNECT, connection.number, connection.backend);
  if (!message) return tl::unexpected(message.error());
  nl_msg* const m = message->get();
  const auto timeout = static_cast<std::uint64_t>(connection.request_timeout.count());
  if (nla_put_u64(m, NBD_ATTR_SIZE_BYTES, connection.size) != 0 ||
      nla_put_u64(m, NBD_ATTR_BLOCK_SIZE_BYTES, connection.block_size) != 0 ||
      nla_put_u64(m, NBD_ATTR_SERVER_FLAGS, connection.flags) != 0 || nla_put_u64(m, NBD_ATTR_TIMEOUT, timeout) != 0 ||
      !put_sockets(m, sockets)) {
    return fail(EMSGSIZE, "netlink: too many connections for one message");
  }
  return execute(socket_.get(), m, connection.number);
}

Result<void> NbdNetlink::set_patience(unsigned number, const std::string& backend, std::chrono::seconds patience) {
  auto message = command(family_, NBD_CMD_RECONFIGURE, number, backend);
  if (!message) return tl::unexpected(message.error());
  if (nla_put_u64(message->get(), NBD_ATTR_DEAD_CONN_TIMEOUT, static_cast<std::uint64_t>(patience.count())) != 0) {
    return fail(EMSGSIZE, "netlink: no room in a message");
  }
  return execute(socket_.get(), message->get(), number);
}

Result<void> NbdNetlink::set_request_timeout(unsigned number, const std::string& backend, std::chrono::seconds timeout,
                                             std::chrono::milliseconds look) {
  auto message = command(family_, NBD_CMD_RECONFIGURE, number, backend);
  if (!message) return tl::unexpected(message.error());
  if (nla_put_u64(message->get(), NBD_ATTR_TIMEOUT, static_cast<std::uint64_t>(timeout.count())) != 0) {
    return fail(EMSGSIZE, "netlink: no room in a message");
  }
  if (auto done = execute(socket_.get(), message->get(), number); !done) return done;
  // The kernel has set it to the timeout, or to 30 s.
  std::ofstream("/sys/block/nbd" + std::to_string(number) + "/queue/io_timeout") << look.count() << '\n';
  return {};
}

Result<void> NbdNetlink::reconnect(unsigned number, const std::string& backend, std::span<const int> sockets) {
  auto message = command(family_, NBD_CMD_RECONFIGURE, number, backend);
  if (!message) return tl::unexpected(message.error());
  if (!put_sockets(message->get(), sockets)) {
    return fail(EMSGSIZE, "netlink: too many connections for one message");
  }
  return execute(socket_.get(), message->get(), number);
}

Result<void> NbdNetlink::disconnect(unsigned number) {
  auto message = command(family_, NBD_CMD_DISCONNECT, number, {});
  if (!message) return tl::unexpected(message.error());
  return execute(socket_.get(), message->get(), number);
}

Result<void> NbdNetlink::wait_until_free(unsigned number) {
  // The kernel frees the device when its last opener closes it, and takes `pid` away then.
  const std::string pid = "/sys/block/nbd" + std::to_string(number) + "/pid";
  const auto end = std::chrono::steady_clock::now() + kFreeTimeout;
  std::error_code ignored;
  while (std::filesystem::exists(pid, ignored)) {
    if (std::chrono::steady_clock::now() > end) {
      return fail(EBUSY, device_path(number) + " is disconnected, but somebody still has it open");
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return {};
}

Result<NbdDeaths> NbdDeaths::open() {
  auto socket = open_socket();
  if (!socket) return tl::unexpected(socket.error());
  const int group = genl_ctrl_resolve_grp(socket->get(), NBD_GENL_FAMILY_NAME, NBD_GENL_MCAST_GROUP_NAME);
  if (group < 0) return no_module();
  nl_socket_disable_seq_check(socket->get());
  if (const int error = nl_socket_add_membership(socket->get(), group); error < 0) return no_netlink(error);
  nl_socket_set_nonblocking(socket->get());
  return NbdDeaths(std::move(*socket));
}

int NbdDeaths::fd() const { return nl_socket_get_fd(socket_.get()); }

unsigned NbdDeaths::take(unsigned number) {
  struct Count {
    unsigned number;
    unsigned deaths = 0;
  } count{number};
  nl_socket_modify_cb(
      socket_.get(), NL_CB_VALID, NL_CB_CUSTOM,
      [](nl_msg* message, void* argument) -> int {
        auto& c = *static_cast<Count*>(argument);
        const auto* header = static_cast<genlmsghdr*>(nlmsg_data(nlmsg_hdr(message)));
        const nlattr* index = nlmsg_find_attr(nlmsg_hdr(message), GENL_HDRLEN, NBD_ATTR_INDEX);
        if (header->cmd == NBD_CMD_LINK_DEAD && index != nullptr && nla_get_u32(index) == c.number) ++c.deaths;
        return NL_OK;
      },
      &count);
  while (nl_recvmsgs_default(socket_.get()) >= 0) {
  }
  return count.deaths;
}

}  // namespace uzram
