#pragma once
// What an administrator may do while clients are at work: compaction, memory limits, scrubs, and further devices that
// are made, filled, reset and removed. Keeps what it knows of each, across the daemon's deaths.
//
// Threads: `run` in one of its own; the rest while it does not run.

#include <atomic>
#include <map>
#include <optional>
#include <random>
#include <string>

#include "blockdev/device.h"
#include "tests/kill/daemon.h"
#include "tests/kill/model.h"

namespace uzram::kill {

class Meddler {
 public:
  Meddler(std::string main_device, std::uint64_t seed) : main_(std::move(main_device)), random_(seed) {}

  // Goes on until the daemon is dead. Throws where the daemon refuses what it should do.
  void run(const Daemon& daemon);

  // Compares what a new daemon has with what the last one was told. Throws where it is neither as before nor as after
  // what was never answered. `stats` is the new one's, by device.
  void verify(const Daemon& daemon, const std::map<std::string, DeviceStats>& stats);

  [[nodiscard]] std::uint64_t answered() const { return answered_; }

 private:
  enum class Doing { nothing, creating, resetting, removing };
  struct Extra {
    bool exists = false;
    Doing doing = Doing::nothing;  // what was not answered
    Model model{kSize};
  };
  static constexpr std::uint64_t kSize = 256 * 1024;
  static constexpr unsigned kExtras = 3;

  [[nodiscard]] bool step(const Daemon& daemon);
  [[nodiscard]] bool step_extra(const Daemon& daemon, const std::string& name, Extra& extra);
  [[nodiscard]] bool fill(const Daemon& daemon, const std::string& name, Extra& extra);
  [[nodiscard]] bool set_limit(const ControlClient& control);
  [[nodiscard]] bool recompress(const ControlClient& control);
  [[nodiscard]] bool take_in(Extra& extra, Doing doing, const Result<std::string>& answer);
  void settle(const Daemon& daemon, const std::string& name, Extra& extra, bool is_there);

  const std::string main_;
  std::mt19937_64 random_;
  std::map<std::string, Extra> extras_;
  std::uint64_t limit_ = 0;  // of the main device, bytes
  std::optional<std::uint64_t> asked_limit_;
  std::uint64_t answered_ = 0;
};

}  // namespace uzram::kill
