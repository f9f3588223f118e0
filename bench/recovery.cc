// Measures how long a new process takes to serve what an earlier one stored: the whole of it, from opening the state to
// the last count. One row for each amount of stored pages.

#include <sys/mman.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstring>
#include <stdexcept>
#include <thread>

#include "allocator/ensure.h"
#include "bench/corpus.h"
#include "bench/main.h"
#include "bench/rounds.h"
#include "blockdev/recovery.h"
#include "blockdev/size.h"

namespace uzram::bench {
namespace {

class State {
 public:
  State() : fd_(memfd_create("state", MFD_CLOEXEC)) { ensure(fd_ >= 0, "the system gives a file in memory"); }
  ~State() { close(fd_); }
  State(const State&) = delete;
  State& operator=(const State&) = delete;

  // Stores pages of the corpus, over and over, each made another by its number.
  void fill(std::uint64_t bytes, const Corpus& corpus) const {
    PageArena arena({.fd = fd_});
    const auto device = Device::create(arena, {.size = bytes}).value();
    const auto half = [&](std::uint64_t first, std::uint64_t end) {
      const StreamPtr stream = device->make_stream();
      for (std::uint64_t n = first; n < end; ++n) {
        std::array<std::byte, kPageSize> page;
        const auto from = corpus.page(n % corpus.pages());
        std::memcpy(page.data(), from.data(), kPageSize);
        std::memcpy(page.data(), &n, sizeof n);
        ensure(device->write(*stream, ByteOffset{n * kPageSize}, page).has_value(), "a page is written");
      }
    };
    const std::uint64_t pages = bytes / kPageSize;
    std::jthread low(half, 0, pages / 2);
    std::jthread high(half, pages / 2, pages);
    low.join();
    high.join();
    device->publish();
  }

  // Seconds from here until the devices can be served.
  [[nodiscard]] double time_recovery(RecoveryReport& report, std::uint64_t& memory) const {
    PageArena* arena = nullptr;
    const double seconds = time_of(CLOCK_MONOTONIC, [&] {
      arena = new PageArena({.fd = fd_});
      auto recovered = recover(*arena);
      ensure(recovered.has_value() && recovered->report.damaged_pages == 0, "the state is recovered");
      report = recovered->report;
      memory = recovered->devices.front()->stats().mem_used_total;
    });
    delete arena;
    return seconds;
  }

 private:
  const int fd_;
};

void measure(const std::string& text, const Corpus& corpus, int rounds) {
  const std::uint64_t bytes = size_of_option("--size", text);
  const State state;
  state.fill(bytes, corpus);
  RecoveryReport report;
  std::uint64_t memory = 0;
  Spread seconds;
  for (int round = 0; round < rounds; ++round) seconds.add(state.time_recovery(report, memory));
  const double gib = static_cast<double>(bytes) / (1 << 30);
  std::printf("%8s %9s %10llu %9.3f   %.3f-%.3f %9.1f\n", text.c_str(), human_size(memory).c_str(),
              static_cast<unsigned long long>(report.objects), seconds.median(), seconds.at(0), seconds.at(1),
              gib / seconds.median());
  std::fflush(stdout);
}

int run(int argc, char** argv) {
  CLI::App app("How long a new process takes to serve what an earlier one stored");
  std::string path;
  std::vector<std::string> sizes = {"1G", "4G", "16G"};
  int rounds = 5;
  app.add_option("--corpus", path, "a file with the pages, as from bench/make-corpus; made-up pages otherwise");
  app.add_option("--size", sizes, "stored pages; 1G, 4G and 16G");
  app.add_option("--rounds", rounds, "of which the median is shown, 5")->check(CLI::Range(1, 100));
  CLI11_PARSE(app, argc, argv);
  constexpr std::uint64_t kCorpus = 256 << 20;
  const Corpus corpus = Corpus::of_option(path, kCorpus);
  std::printf("%8s %9s %10s %9s   %-11s %9s\n", "stored", "memory", "objects", "seconds", "least-most", "GiB/s");
  for (const std::string& size : sizes) measure(size, corpus, rounds);
  return 0;
}

}  // namespace
}  // namespace uzram::bench

int main(int argc, char** argv) { return uzram::bench::run_main("recovery", uzram::bench::run, argc, argv); }
