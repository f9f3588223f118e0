#pragma once
// What uzramd is told: its command line and, with --config FILE, a file.
//
// The file holds `key = value` lines; a key is a long option without its dashes, and the command line wins over it.
// `#` begins a comment. After the options of the daemon, each section [device.NAME] describes one more device with
// the keys size, algorithm, mem-limit, chain, no-check, read-only and allow; of those but size, the daemon's own values
// are the default.
//
//     control = /run/uzram/control.sock
//     algorithm = zstd(level=9)
//
//     [device.root]
//     size = 8G
//
//     [device.scratch]
//     size = 2G
//     algorithm = lz4
//     mem-limit = 512M

#include <string>
#include <variant>
#include <vector>

#include "blockdev/device.h"
#include "blockdev/nbd/server.h"

namespace uzram {

struct Config {
  std::vector<DeviceOptions> devices;  // at least one; --size's is the first
  nbd::ServerOptions nbd;              // an empty unix_path stands for the default
  std::string control_path;            // empty: the default
  bool swap_safe = false;              // as cli/swap_safe.h
  std::uint64_t reserve = 0;           // bytes of the arena that are taken at once; with swap_safe, all of it
  bool grow = false;                   // with swap_safe: more than the reserve, as cli/grower.h
  std::string backing;                 // the file or disk that pages are written back to; empty: none
  std::uint64_t backing_size = 0;      // bytes of it; 0: what there is
  std::string state;                   // the folder of the state that outlives the process; empty: none
  bool supervise = false;              // as cli/supervise.h
  std::string user;                    // who to become once everything is set up; empty: nobody else
  bool takeover = false;               // as cli/takeover.h
  std::string run;                     // empty: serve until a signal comes
};

// Why the program ends before it serves: text for standard output if the code is 0, else for standard error.
struct Exit {
  int code = 0;
  std::string text;
};

// Reads the call. Exit 0 for --help and --version, 2 for words or values that are wrong, in the file too, 1 for a
// file that cannot be read.
[[nodiscard]] std::variant<Config, Exit> parse_config(const std::vector<std::string>& arguments);

}  // namespace uzram
