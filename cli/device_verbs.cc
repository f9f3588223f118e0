// The verbs of uzramctl that are about a daemon's devices.

#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>

#include "cli/attach_command.h"
#include "cli/device_json.h"
#include "cli/device_list.h"
#include "cli/device_settings.h"
#include "cli/new_device.h"
#include "cli/places.h"
#include "cli/progress.h"
#include "cli/verbs.h"

namespace uzram {

Result<ControlClient> Session::daemon() const {
  if (!socket.empty()) return ControlClient(socket);
  return runtime_directory().map([](const std::string& d) { return ControlClient(d + "/control.sock"); });
}

Result<void> print(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  return {};
}

namespace {

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
  verb.add_option("ATTR", words->attribute,
                  "compact, idle, writeback, writeback_limit, mem_limit, mem_used_max, reset, ...")
      ->required()
      ->type_name("");
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

struct ScrubWords {
  std::string device;
  bool json = false;
};

std::string describe(const ScrubReport& report) {
  std::string text = std::to_string(report.pages) + " pages, " + std::to_string(report.objects) + " of them objects, " +
                     std::to_string(report.damaged) + " damaged\n";
  if (report.damaged == 0) return text;
  text += "damaged pages:";
  for (const PageIndex page : report.named) text += " " + std::to_string(raw(page));
  return text + (report.damaged > report.named.size() ? " ...\n" : "\n");
}

Result<void> tell_scrub(const ScrubWords& words, const std::string& body) {
  const auto report = scrub_report_from_json(body);
  if (!report) return tl::unexpected(report.error());
  (void)print(words.json ? to_json(*report) : describe(*report));
  if (report->damaged == 0) return {};
  return fail(EIO, words.device + ": " + std::to_string(report->damaged) + " of " + std::to_string(report->pages) +
                       " pages are damaged; their reads fail until they are written anew");
}

void add_scrub(CLI::App& verb, Session& session) {
  const auto words = std::make_shared<ScrubWords>();
  add_device(verb, words->device);
  verb.add_flag("--json", words->json, "Print JSON");
  verb.callback([words, &session] {
    session.action = [words, &session] {
      const std::string target = device_target(words->device, "scrub");
      return ask(
          session, [&](const ControlClient& d) { return d.post(target, ""); },
          [&](const std::string& body) { return tell_scrub(*words, body); });
    };
  });
}

constexpr Verb kDeviceVerbs[] = {
    {"list", "A row for each device", add_list},
    {"classes", "The classes table of a device's pool", add_classes},
    {"show", "Read an attribute, as `cat /sys/block/zramN/ATTR` would", add_show},
    {"set", "Write an attribute, as `echo VALUE > /sys/block/zramN/ATTR` would", add_set},
    {"create", "Make a new device", add_create},
    {"remove", "Remove a device that no client has open", add_remove},
    {"reset", "Empty a device that no client has open", add_reset},
    {"scrub", "Verify all that a device holds, while it serves", add_scrub},
};

}  // namespace

std::span<const Verb> device_verbs() { return kDeviceVerbs; }

}  // namespace uzram
