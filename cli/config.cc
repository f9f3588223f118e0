#include "cli/config.h"

#include <arpa/inet.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <optional>

#include "cli/config_file.h"
#include "cli/device_settings.h"
#include "cli/sandbox.h"
#include "cli/size_expression.h"
#include "cli/switch.h"
#include "cli/version.h"

namespace uzram {
namespace {

constexpr const char* kDescription =
    "Serves compressed RAM as block devices over NBD.\n"
    "Prints the NBD URI of its first device once clients can connect, and serves until SIGTERM or SIGINT.";
constexpr const char* kFooter =
    "\nSIZE is a number of bytes, with K, M, G or T behind it if need be, or is reckoned from the machine's memory:\n"
    "'min(ram / 2, 4G)'.\n"
    "The default sockets are in $RUNTIME_DIRECTORY, else /run/uzram for root, else $XDG_RUNTIME_DIR/uzram.\n"
    "With --run they are in a directory of this run alone; the command also gets $unixsocket, $control and\n"
    "$exportname.\n"
    "More devices come from --config FILE, or at run time from `uzramctl create`.";

struct Call {
  DeviceSettings device;
  ExportSettings exported;
  std::string name = "zram0";
  std::string host;
  std::string config_file;
  std::vector<DeviceSection> sections;
  bool allow_insecure = false;
  Config config;
};

// An empty value is a script's empty variable, not a wish for the default.
const CLI::Validator kNotEmpty([](const std::string& text) { return text.empty() ? "is empty" : ""; }, "");

void add_size(CLI::App& app, const std::string& name, std::uint64_t& into, const std::string& help) {
  app.add_option_function<std::string>(
         name,
         [name, &into](const std::string& text) {
           const auto bytes = read_size(text);
           if (!bytes) throw CLI::ValidationError(name, bytes.error().message);
           into = *bytes;
         },
         help)
      ->type_name("SIZE");
}

void add_daemon_options(CLI::App& app, Call& call) {
  app.option_defaults()->group("Clients");
  nbd::ServerOptions& nbd = call.config.nbd;
  app.add_option("-U,--unix", nbd.unix_path, "Serve NBD on this unix socket; default nbd.sock")
      ->type_name("PATH")
      ->check(kNotEmpty);
  app.add_option("-p,--port", nbd.port, "Serve NBD on TCP too; 0 takes a free port")
      ->type_name("N")
      ->check(CLI::Range(0, 65535).description(""));
  app.add_option("--host", call.host, "What TCP listens on; default 127.0.0.1")->type_name("H")->check(kNotEmpty);
  add_switch(app, "--allow-insecure", call.allow_insecure, "Let --host be other than loopback without --tls-require");
  app.add_option("--tls-certificates", nbd.tls.certificates,
                 "Offer TLS, with the ca-cert.pem, server-cert.pem and server-key.pem of this folder")
      ->type_name("DIR")
      ->check(kNotEmpty);
  app.add_option("--tls-psk", nbd.tls.psk_file, "Offer TLS, with the keys of this file: a line is name:hexadecimal key")
      ->type_name("FILE")
      ->check(kNotEmpty);
  add_switch(app, "--tls-require", nbd.tls.require, "Serve TCP clients with TLS only");
  add_switch(app, "--tls-verify-peer", nbd.tls.verify_peer, "Demand of TLS clients a certificate of the CA, or a key");
  add_export_options(app, call.exported);
  app.add_option_function<std::string>(
         "--group",
         [&nbd](const std::string& name) {
           const auto group = find_group(name);
           if (!group) throw CLI::ValidationError("--group", group.error().message);
           nbd.group = *group;
         },
         "Let the members of a group use the unix sockets, too")
      ->type_name("NAME");
  app.option_defaults()->group("Daemon");
  app.add_option("--control", call.config.control_path, "The control endpoint's socket; default control.sock")
      ->type_name("PATH")
      ->check(kNotEmpty);
  add_switch(app, "--swap-safe", call.config.swap_safe,
             "Be safe for this machine's own swap: lock all memory, and never ask for more than the reserve");
  add_size(app, "--reserve", call.config.reserve, "Memory for the data of all devices that is taken at the start");
  add_switch(
      app, "--grow", call.config.grow,
      "With --swap-safe: take and lock more than the reserve, in advance, while the machine has memory to spare");
  app.add_option("--backing", call.config.backing,
                 "A file or disk that pages can be written back to: see uzramctl set DEV writeback")
      ->type_name("FILE")
      ->check(kNotEmpty);
  add_size(app, "--backing-size", call.config.backing_size,
           "How much of it is used; a file is made of this size; default: what there is");
  app.add_option("--state", call.config.state,
                 "Keep what is stored in this tmpfs folder, for the daemon that comes next")
      ->type_name("DIR")
      ->check(kNotEmpty);
  add_switch(app, "--supervise", call.config.supervise,
             "Keep what is stored in a parent process, which starts the daemon again when it dies");
  app.add_option("--user", call.config.user, "Become this user once everything is set up; for root")
      ->type_name("NAME")
      ->check(kNotEmpty);
  add_switch(app, "--takeover", call.config.takeover,
             "Take devices, sockets and clients over from the daemon that runs, which ends");
  app.add_option("--run", call.config.run,
                 "Run a shell command with $uri set, stop when it ends, and exit with its status")
      ->type_name("CMD")
      ->check(kNotEmpty);
  app.set_config("--config", "", "Read options and further devices from a file")
      ->type_name("FILE")
      ->configurable(false);
}

bool is_loopback(const std::string& host) {
  in_addr v4{};
  in6_addr v6{};
  if (host == "localhost") return true;
  if (::inet_pton(AF_INET, host.c_str(), &v4) == 1) return (ntohl(v4.s_addr) >> 24) == 127;
  return ::inet_pton(AF_INET6, host.c_str(), &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

std::string one_ending(std::string text) {
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

Exit usage(const std::string& why) { return {2, "uzramd: " + one_line(why)}; }

// Adds what a section describes.
void take_section(const DeviceSection& section, Call& call) {
  CLI::App app;
  app.set_help_flag();
  DeviceSettings settings;
  ExportSettings exported;
  add_device_options(app, settings);
  add_export_options(app, exported);
  std::vector<std::string> arguments(section.arguments.rbegin(), section.arguments.rend());
  app.parse(arguments);
  if (!settings.size) throw CLI::ConfigError("size is missing", CLI::ExitCodes::ConfigError);
  call.config.devices.push_back(device_options(section.device, settings, call.device));
  call.config.nbd.access.exports.emplace(section.device, export_rules(exported, call.exported));
}

// What is wrong with what clients are offered, or nothing.
std::optional<Exit> refuse_clients(const Call& call) {
  const nbd::ServerOptions& nbd = call.config.nbd;
  if (!call.host.empty() && !nbd.port) return usage("--host: says where TCP listens, and --port N is missing");
  if ((nbd.tls.require || nbd.tls.verify_peer) && !nbd.tls.offered()) {
    return usage(std::string(nbd.tls.require ? "--tls-require" : "--tls-verify-peer") +
                 ": needs --tls-certificates DIR or --tls-psk FILE");
  }
  if (nbd.tls.verify_peer && nbd.tls.certificates.empty()) {
    return usage("--tls-verify-peer: needs --tls-certificates DIR, whose CA is believed");
  }
  if (nbd.port && !call.allow_insecure && !nbd.tls.require && !is_loopback(nbd.host)) {
    return usage("--host " + nbd.host +
                 ": not loopback, and NBD is not encrypted: add --tls-require, or --allow-insecure if you mean it");
  }
  if (nbd.tls.offered() && call.config.swap_safe) {
    return usage("--swap-safe: TLS asks for memory as it serves: not with --tls-certificates or --tls-psk");
  }
  return std::nullopt;
}

// What does not go together with a backing file, or nothing.
std::optional<Exit> refuse_backing(const Config& config) {
  if (config.backing.empty()) {
    if (config.backing_size != 0) return usage("--backing-size: of which file? --backing FILE is missing");
    return std::nullopt;
  }
  if (config.swap_safe) return usage("--backing: writing to a file asks for memory: not with --swap-safe");
  const std::string ends = "--backing: what is written back ends with the daemon: not with ";
  if (config.supervise) return usage(ends + "--supervise");
  if (config.takeover) return usage(ends + "--takeover");
  if (!config.state.empty()) return usage(ends + "--state");
  return std::nullopt;
}

std::variant<Config, Exit> finish(Call& call) {
  nbd::ServerOptions& nbd = call.config.nbd;
  nbd.access.others = export_rules(call.exported);
  if (!call.host.empty()) nbd.host = call.host;
  if (auto refused = refuse_clients(call)) return *refused;
  if (call.config.swap_safe && call.config.reserve == 0) {
    return usage("--swap-safe: needs --reserve SIZE, the memory that the devices may use");
  }
  if (call.config.grow && !call.config.swap_safe) {
    return usage("--grow: is for --swap-safe; without it memory is taken as it is needed");
  }
  if (call.config.swap_safe && !call.config.state.empty()) {
    return usage("--state: a tmpfs may be swapped out, to the swap that it holds: not with --swap-safe");
  }
  if (call.config.supervise && !call.config.state.empty()) {
    return usage("--supervise: holds what is stored itself: not with --state");
  }
  if (call.config.supervise && !call.config.run.empty()) {
    return usage("--supervise: a daemon that ends with its command needs no other: not with --run");
  }
  if (auto refused = refuse_backing(call.config)) return *refused;
  if (!call.config.user.empty() && ::geteuid() != 0) return usage("--user: only root can become another user");
  if (call.config.takeover && !call.config.run.empty()) {
    return usage("--takeover: the clients of another daemon are not for one command: not with --run");
  }
  if (call.device.size) call.config.devices.push_back(device_options(call.name, call.device, {}));
  for (const DeviceSection& section : call.sections) {
    try {
      take_section(section, call);
    } catch (const CLI::ParseError& e) {
      return usage(call.config_file + ": [device." + section.device + "] " + e.what());
    }
  }
  if (call.config.devices.empty()) return usage("--size SIZE is missing, and no --config FILE names a device");
  return std::move(call.config);
}

// CLI11 says only that a file was not readable.
std::string why_unreadable(const std::string& path) {
  errno = 0;
  (void)std::ifstream(path).peek();
  return path + ": " + (errno != 0 ? std::strerror(errno) : "cannot be read");
}

}  // namespace

std::variant<Config, Exit> parse_config(const std::vector<std::string>& arguments) {
  CLI::App app(kDescription, "uzramd");
  CLI::App device;  // knows the keys of a section
  device.set_help_flag();
  Call call;
  DeviceSettings unused;
  ExportSettings unused_too;
  app.set_help_flag();  // it is made last, so that its group comes last
  app.footer(kFooter);
  app.get_formatter()->column_width(24);
  app.option_defaults()->group("Device");
  app.add_option("--name", call.name, "The device's export name; default zram0")->type_name("NAME");
  add_device_options(app, call.device);
  add_device_options(device, unused);
  add_export_options(device, unused_too);
  add_daemon_options(app, call);
  app.config_formatter(make_file_reader(app, device, call.sections));
  app.set_version_flag("--version", std::string("uzramd ") + kVersion, "Print the version")
      ->group("Daemon")
      ->configurable(false);
  app.set_help_flag("-h,--help", "Print this help")->group("Daemon")->configurable(false);
  try {
    app.parse(std::vector<std::string>(arguments.rbegin(), arguments.rend()));
    call.config_file = app.get_config_ptr()->as<std::string>();
    return finish(call);
  } catch (const CLI::CallForHelp&) {
    return Exit{0, one_ending(app.help())};
  } catch (const CLI::CallForVersion& e) {
    return Exit{0, e.what()};
  } catch (const CLI::ParseError& e) {
    const auto* file = app.get_config_ptr();
    const std::string path = file->count() > 0 ? file->results().front() : "";
    if (dynamic_cast<const CLI::FileError*>(&e) != nullptr) return Exit{1, "uzramd: " + why_unreadable(path)};
    const bool in_file = dynamic_cast<const CLI::ConfigError*>(&e) != nullptr;
    return usage(in_file ? path + ": " + e.what() : e.what());
  }
}

}  // namespace uzram
