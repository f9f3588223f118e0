// Kills a uzramd that is at work, at moments that nobody chose, again and again, and verifies each time what the next
// one serves: every write that was answered is there, each page of the others is as before or as after, statistics are
// those that counting gives, and no memory is lost.

#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <thread>

#include "cli/device_json.h"
#include "tests/kill/load.h"
#include "tests/kill/meddler.h"
#include "tests/kill/state_check.h"

namespace uzram::kill {
namespace {

constexpr std::uint64_t kSize = 8 << 20;  // of the main device, bytes
constexpr const char* kMain = "zram0";

struct Options {
  unsigned rounds = 1000;
  std::uint64_t seed = 0;
  unsigned connections = 4;
  std::string program;
  std::string tmpfs = "/dev/shm";
};

// A folder that is removed at the end; it stays if the test failed.
class Folder {
 public:
  explicit Folder(const std::string& parent) : path_(parent + "/uzram-kill.XXXXXX") {
    if (::mkdtemp(path_.data()) == nullptr) throw std::runtime_error(path_ + ": cannot be made");
  }
  [[nodiscard]] const std::string& path() const { return path_; }
  void remove() const { std::filesystem::remove_all(path_); }

 private:
  std::string path_;
};

class Test {
 public:
  Test(const Options& options, std::string folder)
      : options_(options), folder_(std::move(folder)), random_(options.seed) {}

  void run() {
    for (unsigned round = 0; round < options_.rounds; ++round) {
      try {
        if (round != 0) expected_ = count_state(folder_ + "/uzram.state");
        // Sometimes it is killed while it takes over, or makes, the state.
        if (random_() % 8 == 0) kill_at_start();
        Daemon daemon(options_.program, folder_, kSize);
        daemon.wait_ready();
        verify(daemon, round);
        work(daemon);
      } catch (const std::exception& e) {
        throw std::runtime_error("round " + std::to_string(round) + ": " + e.what());
      }
      if ((round + 1) % 50 == 0) report(round + 1);
    }
    end();
  }

  void report(unsigned rounds) const {
    std::printf(
        "%u kills; answered: %llu requests (%llu of them ENOSPC), %llu of the administrator; unanswered pages: "
        "%llu as before, %llu as after\n",
        rounds, ull(load_.answered()), ull(load_.refused()), ull(meddler_.answered()), ull(model_.settled_old()),
        ull(model_.settled_new()));
    std::fflush(stdout);
  }

 private:
  static unsigned long long ull(std::uint64_t n) { return n; }

  void kill_at_start() {
    Daemon daemon(options_.program, folder_, kSize);
    std::this_thread::sleep_for(std::chrono::microseconds(random_() % 30'000));
  }

  static std::map<std::string, DeviceStats> stats_of(const Daemon& daemon) {
    const auto infos = daemon.control().get("/v1/devices").and_then(device_infos_from_json);
    if (!infos) throw std::runtime_error(infos.error().message);
    std::map<std::string, DeviceStats> stats;
    for (const DeviceInfo& info : *infos) stats.emplace(info.name, info.stats);
    return stats;
  }

  void verify(const Daemon& daemon, unsigned round) {
    const auto stats = stats_of(daemon);
    if (round != 0) compare(stats);
    Bytes bytes(kSize);
    const Nbd nbd = connect(daemon.uri(kMain));
    if (!nbd || !read_all(nbd.get(), 0, bytes)) throw std::runtime_error("the device cannot be read");
    if (!model_.settle(0, bytes)) throw std::runtime_error("a page is neither as before nor as after a write");
    meddler_.verify(daemon, stats);
  }

  // What the daemon says of the devices, and what counting said.
  void compare(const std::map<std::string, DeviceStats>& stats) const {
    if (stats.size() != expected_.size()) throw std::runtime_error("there are other devices than the state holds");
    for (const auto& [name, s] : stats) {
      const auto found = expected_.find(name);
      if (found == expected_.end()) throw std::runtime_error(name + ": is not in the state");
      const DeviceStats& e = found->second;
      if (s.orig_data_size != e.orig_data_size || s.compr_data_size != e.compr_data_size ||
          s.mem_used_total != e.mem_used_total || s.same_pages != e.same_pages || s.huge_pages != e.huge_pages ||
          s.table_memory != e.table_memory) {
        throw std::runtime_error(name + ": the statistics are not those of the state");
      }
    }
  }

  // Load and administrator at once, until the daemon is killed.
  void work(Daemon& daemon) {
    std::exception_ptr meddled;
    {
      const std::jthread killer([&daemon, this, life = random_() % 500, more = random_() % 2000] {
        kill_after(daemon, life, std::chrono::microseconds(more));
      });
      const std::jthread meddling([&] {
        try {
          meddler_.run(daemon);
        } catch (...) {
          meddled = std::current_exception();
        }
      });
      load_.run(daemon.uri(kMain), options_.connections);
    }
    if (meddled) std::rethrow_exception(meddled);
    daemon.wait_gone();
  }

  // Kills it some time after it has answered that many requests: on a busy machine, a time alone would be none.
  void kill_after(const Daemon& daemon, std::uint64_t answers, std::chrono::microseconds more) const {
    constexpr std::chrono::seconds kMost{10};
    const std::uint64_t end = load_.answered() + answers;
    const auto deadline = std::chrono::steady_clock::now() + kMost;
    while (load_.answered() < end && std::chrono::steady_clock::now() < deadline) {
      std::this_thread::sleep_for(std::chrono::microseconds(300));
    }
    std::this_thread::sleep_for(more);
    daemon.kill();
  }

  // Everything is discarded: no memory is left in use.
  void end() {
    expected_ = count_state(folder_ + "/uzram.state");
    Daemon daemon(options_.program, folder_, kSize);
    daemon.wait_ready();
    verify(daemon, 1);
    const Nbd nbd = connect(daemon.uri(kMain));
    if (!nbd || nbd_trim(nbd.get(), kSize, 0, 0) != 0) throw std::runtime_error("a discard failed");
    const DeviceStats s = stats_of(daemon).at(kMain);
    if (s.orig_data_size != 0 || s.mem_used_total != 0) {
      throw std::runtime_error(std::to_string(s.mem_used_total) + " bytes are in use by an empty device");
    }
  }

  const Options options_;
  const std::string folder_;
  std::mt19937_64 random_;
  Model model_{kSize};
  Load load_{model_, random_};
  Meddler meddler_{kMain, options_.seed + 1};
  std::map<std::string, DeviceStats> expected_;
};

int run(int argc, char** argv) {
  CLI::App app("Kills a uzramd that is at work, and verifies what the next one serves");
  Options options;
  options.seed = std::random_device{}();
  options.program = std::filesystem::canonical("/proc/self/exe").parent_path() / "uzramd";
  app.add_option("--rounds", options.rounds, "kills, 1000")->check(CLI::Range(1U, 1'000'000U));
  app.add_option("--seed", options.seed, "of all that is drawn; default: another one each time");
  app.add_option("--connections", options.connections, "of the client, 4")->check(CLI::Range(1U, 16U));
  app.add_option("--uzramd", options.program, "the daemon; default: beside this program");
  app.add_option("--tmpfs", options.tmpfs, "a folder in a tmpfs, /dev/shm");
  CLI11_PARSE(app, argc, argv);
  const Folder folder(options.tmpfs);
  std::printf("seed %llu, state in %s\n", static_cast<unsigned long long>(options.seed), folder.path().c_str());
  std::fflush(stdout);
  const auto start = std::chrono::steady_clock::now();
  Test test(options, folder.path());
  test.run();
  folder.remove();
  test.report(options.rounds);
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  std::printf("%.0f s; nothing was lost\n", took.count());
  return 0;
}

}  // namespace
}  // namespace uzram::kill

int main(int argc, char** argv) try { return uzram::kill::run(argc, argv); } catch (const std::exception& e) {
  std::fprintf(stderr, "kill: %s\n", e.what());
  return 1;
}
