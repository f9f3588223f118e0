#pragma once
// The verbs of uzramctl. Each is a function that adds its options to the command line and, once they are read, leaves
// what is to be done in the session.
//
// Threads: the main thread of a program of one thread.

#include <functional>
#include <span>
#include <string>

#include "blockdev/types.h"
#include "cli/control_client.h"

namespace CLI {
class App;
}

namespace uzram {

struct Session {
  std::string socket;                    // --control; empty: the default
  std::function<Result<void>()> action;  // the verb's

  [[nodiscard]] Result<ControlClient> daemon() const;
};

struct Verb {
  const char* name;
  const char* help;
  void (*add)(CLI::App& verb, Session& session);
};

// Those that ask the daemon about its devices, or tell it to change them.
[[nodiscard]] std::span<const Verb> device_verbs();

// To standard output.
Result<void> print(const std::string& text);

}  // namespace uzram
