// uzramctl: looks at a running uzramd and controls it. The verbs about devices are in device_verbs.cc; here are those
// that work on this machine.

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

#include "cli/attach_command.h"
#include "cli/device_settings.h"
#include "cli/estimate.h"
#include "cli/estimate_json.h"
#include "cli/mounts.h"
#include "cli/places.h"
#include "cli/progress.h"
#include "cli/verbs.h"
#include "cli/version.h"

namespace uzram {
namespace {

struct EstimateWords {
  EstimateOptions options;
  bool json = false;
};

void add_estimate(CLI::App& verb, Session& session) {
  const auto words = std::make_shared<EstimateWords>();
  verb.add_option("FILE", words->options.files, "Files or block devices")->required()->type_name("");
  verb.add_option_function<std::vector<std::string>>(
          "--algorithm",
          [words](const std::vector<std::string>& texts) {
            for (const std::string& text : texts) {
              const auto codec = CodecSpec::parse(text);
              if (!codec) throw CLI::ValidationError("--algorithm", codec.error());
              words->options.codecs.push_back(*codec);
            }
          },
          "lz4, lz4hc or zstd, with a level as in zstd(level=3); may be given again; default: all")
      ->type_name("A")
      ->allow_extra_args(false);
  verb.add_flag("--classes", words->options.classes, "Print the classes tables too");
  verb.add_flag("--json", words->json, "Print JSON");
  verb.callback([words, &session] {
    session.action = [words] {
      auto report = [&] {
        Progress progress("estimating");
        return estimate(words->options, [&](double part) { progress.at(part); });
      }();
      return report.and_then(
          [&](const EstimateReport& r) { return print(words->json ? to_json(r) : format_estimate(r)); });
    };
  });
}

struct AttachWords {
  std::string device;
  AttachOptions options;
  bool watch = false;
};

void add_attach(CLI::App& verb, Session& session) {
  const auto words = std::make_shared<AttachWords>();
  AttachOptions& o = words->options;
  o.connections = default_connections();
  verb.add_option("DEV", words->device, "The device's name")->required()->type_name("");
  verb.add_option_function<std::string>(
          "/dev/nbdN",
          [&o](const std::string& path) {
            const auto number = nbd_number(path);
            if (!number) throw CLI::ValidationError(number.error().message);
            o.number = *number;
          },
          "The block device it becomes")
      ->required()
      ->type_name("");
  auto* swap = verb.add_flag("--swap", o.swap, "Swap to it");
  verb.add_option("--priority", o.priority, "The swap's priority; default: the kernel's choice")
      ->type_name("P")
      ->needs(swap)
      ->check(CLI::Range(0, kMaxSwapPriority).description(""));
  verb.add_option("--mkfs", o.mkfs, "Make a filesystem where it holds none: ext4, xfs, btrfs, ...")
      ->type_name("TYPE")
      ->excludes(swap);
  verb.add_option("--mount", o.mount, "Mount it at this folder")->type_name("DIR")->excludes(swap);
  verb.add_option("--connections", o.connections, "Connections to the daemon; default: a processor each, up to 4")
      ->type_name("N")
      ->check(CLI::Range(1U, kMaxConnections).description(""));
  verb.add_flag("--watch", words->watch, "Stay, and connect again when the daemon has died");
  verb.callback([words, &session] {
    session.action = [words, &session] {
      return session.daemon().and_then([&](const ControlClient& daemon) {
        return attach_command(daemon, words->device, words->options, words->watch);
      });
    };
  });
}

struct DetachWords {
  std::string device;
  bool now = false;
};

void add_detach(CLI::App& verb, Session& session) {
  const auto words = std::make_shared<DetachWords>();
  verb.add_option("DEV", words->device, "/dev/nbdN, or the device's name")->required()->type_name("");
  verb.add_flag("--now", words->now, "The daemon will not come back: give up what the kernel has not written back");
  verb.callback([words, &session] {
    session.action = [words, &session] { return detach_command(session.daemon(), words->device, words->now); };
  });
}

constexpr Verb kVerbs[] = {
    {"attach", "Make a block device of the kernel of a device, and swap or a filesystem of that", add_attach},
    {"detach", "Take it back: swapoff or umount, and disconnect", add_detach},
    {"estimate", "What each algorithm would make of files; needs no daemon", add_estimate},
};

int failed(int code, const std::string& why) {
  std::fprintf(stderr, "uzramctl: %s\n", one_line(why).c_str());
  return code;
}

int run_action(const Session& session) {
  const auto done = session.action();
  if (!done) return failed(1, done.error().message);
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {
    return failed(1, std::string("standard output: ") + std::strerror(errno));
  }
  return 0;
}

void add_verbs(CLI::App& app, std::span<const Verb> verbs, Session& session) {
  for (const Verb& v : verbs) {
    CLI::App* verb = app.add_subcommand(v.name, v.help);
    verb->get_formatter()->column_width(24);
    verb->get_help_ptr()->description("Print this help");
    v.add(*verb, session);
  }
}

int run(int argc, char** argv) {
  CLI::App app("Looks at a running uzramd and controls it.", "uzramctl");
  Session session;
  app.require_subcommand(1);
  app.get_formatter()->column_width(24);
  app.add_option("--control", session.socket, "The daemon's control endpoint; default control.sock in its directory")
      ->type_name("PATH");
  app.set_version_flag("--version", std::string("uzramctl ") + kVersion, "Print the version");
  app.get_help_ptr()->description("Print this help; after a verb, that verb's");
  add_verbs(app, device_verbs(), session);
  add_verbs(app, kVerbs, session);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& e) {
    return app.exit(e);
  } catch (const CLI::ParseError& e) {
    const auto rest = app.remaining();
    if (!app.get_subcommands().empty()) return failed(2, e.what());
    if (rest.empty()) return failed(2, "a verb is missing; --help lists them");
    return failed(2, "there is no " + std::string(rest.front().starts_with('-') ? "option" : "verb") + " '" +
                         rest.front() + "'; --help lists them");
  }
  return run_action(session);
}

}  // namespace
}  // namespace uzram

int main(int argc, char** argv) try { return uzram::run(argc, argv); } catch (const std::bad_alloc&) {
  std::fprintf(stderr, "uzramctl: out of memory\n");
  return 1;
} catch (const std::exception& e) {
  std::fprintf(stderr, "uzramctl: %s\n", e.what());
  return 1;
}
