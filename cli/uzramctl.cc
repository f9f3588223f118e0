// uzramctl: looks at a running uzramd and controls it. Each verb is a function that adds its options and, once they
// are read, leaves what is to be done in the session; kVerbs lists them.

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>

#include "cli/attach_command.h"
#include "cli/control_client.h"
#include "cli/device_info.h"
#include "cli/device_list.h"
#include "cli/device_settings.h"
#include "cli/estimate.h"
#include "cli/estimate_json.h"
#include "cli/mounts.h"
#include "cli/places.h"
#include "cli/progress.h"
#include "cli/version.h"

namespace uzram {
namespace {

struct Session {
  std::string socket;                    // --control; empty: the default
  std::function<Result<void>()> action;  // the verb's

  [[nodiscard]] Result<ControlClient> daemon() const {
    if (!socket.empty()) return ControlClient(socket);
    return runtime_directory().map([](const std::string& d) { return ControlClient(d + "/control.sock"); });
  }
};

Result<void> print(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  return {};
}

// Asks the daemon, and hands its answer to `then`.
template <class Ask, class Then>
Result<void> ask(const Session& session, Ask request, Then then) {
  return session.daemon()
      .and_then([&](const ControlClient& daemon) {
        const Progress progress("waiting for the daemon");
        return request(daemon);
      })
      .and_then(then);
}

template <class Ask>
Result<void> tell(const Session& session, Ask request) {
  return ask(session, request, [](const std::string&) { return Result<void>{}; });
}

// The shared state of a verb's options lives as long as the functions that hold it.
struct ListWords {
  bool json = false;
  bool all = false;
  bool no_headings = false;
  ListForm form{default_columns()};
};

void add_list(CLI::App& verb, Session& session) {
  const auto words = std::make_shared<ListWords>();
  verb.add_flag("-b,--bytes", words->form.bytes, "Print sizes in bytes");
  verb.add_flag("-n,--noheadings", words->no_headings, "Print no headings");
  verb.add_option_function<std::string>(
          "-o,--output",
          [words](const std::string& list) {
            const auto columns = parse_columns(list);
            if (!columns) throw CLI::ValidationError("--output", columns.error().message);
            words->form.columns = *columns;
          },
          "The columns, separated by commas")
      ->type_name("LIST");
  verb.add_flag("--output-all", words->all, "Print every column");
  verb.add_flag("--raw", words->form.raw, "Pad no column");
  verb.add_flag("--json", words->json, "Print everything as JSON");
  verb.footer("\nColumns:\n" + describe_columns());
  verb.callback([words, &session] {
    session.action = [words, &session] {
      words->form.headings = !words->no_headings;
      if (words->all) words->form.columns = column_names();
      return ask(
          session, [](const ControlClient& d) { return d.get("/v1/devices"); },
          [words](const std::string& body) {
            return device_infos_from_json(body).and_then([words](auto infos) {
              add_uses(infos);
              return print(words->json ? to_json(infos) : format_list(infos, words->form));
            });
          });
    };
  });
}

CLI::Option* add_device(CLI::App& verb, std::string& into) {
  return verb.add_option("DEV", into, "The device's name")->required()->type_name("");
}

struct ClassesWords {
  std::string device;
  std::string format = "documented";
  bool json = false;
};

void add_classes(CLI::App& verb, Session& session) {
  const auto words = std::make_shared<ClassesWords>();
  add_device(verb, words->device);
  verb.add_option("--format", words->format, "documented (default), or kernel-6 for the columns of today's kernel")
      ->type_name("FORM")
      ->check(CLI::IsMember({"documented", "kernel-6"}).description(""));
  verb.add_flag("--json", words->json, "Print JSON");
  verb.callback([words, &session] {
    session.action = [words, &session] {
      const std::string form = words->json ? "json" : words->format;
      const std::string target = device_target(words->device, "classes") + "?format=" + form;
      return ask(
          session, [&](const ControlClient& d) { return d.get(target); }, print);
    };
  });
}

struct AttributeWords {
  std::string device;
  std::string attribute;
  std::string value;
};

void add_show(CLI::App& verb, Session& session) {
  const auto words = std::make_shared<AttributeWords>();
  add_device(verb, words->device);
  verb.add_option("ATTR", words->attribute, "mm_stat, io_stat, bd_stat, debug_stat, disksize, comp_algorithm, ...")
      ->required()
      ->type_name("");
  verb.callback([words, &session] {
    session.action = [words, &session] {
      const std::string target = device_target(words->device, words->attribute);
      return ask(
          session, [&](const ControlClient& d) { return d.get(target); }, print);
    };
  });
}

void add_set(CLI::App& verb, Session& session) {
  const auto words = std::make_shared<AttributeWords>();
  add_device(verb, words->device);
  verb.add_option("ATTR", words->attribute, "compact, mem_limit, mem_used_max, reset")->required()->type_name("");
  verb.add_option("VALUE", words->value, "What to write to it")->required()->type_name("");
  verb.callback([words, &session] {
    session.action = [words, &session] {
      const std::string target = device_target(words->device, words->attribute);
      return tell(session, [&](const ControlClient& d) { return d.put(target, words->value); });
    };
  });
}

struct CreateWords {
  std::string device;
  DeviceSettings settings;
};

void add_create(CLI::App& verb, Session& session) {
  const auto words = std::make_shared<CreateWords>();
  verb.add_option("NAME", words->device, "The new device's name")->required()->type_name("");
  add_device_options(verb, words->settings);
  verb.get_option("--size")->required();
  verb.callback([words, &session] {
    session.action = [words, &session] {
      const std::string body = to_json(device_options(words->device, words->settings));
      return tell(session, [&](const ControlClient& d) { return d.post("/v1/devices", body); });
    };
  });
}

void add_remove(CLI::App& verb, Session& session) {
  const auto device = std::make_shared<std::string>();
  add_device(verb, *device);
  verb.callback([device, &session] {
    session.action = [device, &session] {
      return tell(session, [&](const ControlClient& d) { return d.remove(device_target(*device)); });
    };
  });
}

void add_reset(CLI::App& verb, Session& session) {
  const auto device = std::make_shared<std::string>();
  add_device(verb, *device);
  verb.callback([device, &session] {
    session.action = [device, &session] {
      return tell(session, [&](const ControlClient& d) { return d.put(device_target(*device, "reset"), "1"); });
    };
  });
}

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
  add_device(verb, words->device);
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

void add_detach(CLI::App& verb, Session& session) {
  const auto device = std::make_shared<std::string>();
  verb.add_option("DEV", *device, "/dev/nbdN, or the device's name")->required()->type_name("");
  verb.callback([device, &session] {
    session.action = [device, &session] { return detach_command(session.daemon(), *device); };
  });
}

struct Verb {
  const char* name;
  const char* help;
  void (*add)(CLI::App& verb, Session& session);
};

constexpr Verb kVerbs[] = {
    {"list", "A row for each device", add_list},
    {"classes", "The classes table of a device's pool", add_classes},
    {"show", "Read an attribute, as `cat /sys/block/zramN/ATTR` would", add_show},
    {"set", "Write an attribute, as `echo VALUE > /sys/block/zramN/ATTR` would", add_set},
    {"create", "Make a new device", add_create},
    {"remove", "Remove a device that no client has open", add_remove},
    {"reset", "Empty a device that no client has open", add_reset},
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

int run(int argc, char** argv) {
  CLI::App app("Looks at a running uzramd and controls it.", "uzramctl");
  Session session;
  app.require_subcommand(1);
  app.get_formatter()->column_width(24);
  app.add_option("--control", session.socket, "The daemon's control endpoint; default control.sock in its directory")
      ->type_name("PATH");
  app.set_version_flag("--version", std::string("uzramctl ") + kVersion, "Print the version");
  app.get_help_ptr()->description("Print this help; after a verb, that verb's");
  for (const Verb& v : kVerbs) {
    CLI::App* verb = app.add_subcommand(v.name, v.help);
    verb->get_formatter()->column_width(24);
    verb->get_help_ptr()->description("Print this help");
    v.add(*verb, session);
  }
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
