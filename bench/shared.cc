// Measures what it costs that the pages can outlive the process: the device on shared memory against the same on
// private memory, in turns, one thread's CPU time. Only the ratios are meant to be quoted.

#include <sys/mman.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <memory>
#include <stdexcept>

#include "allocator/ensure.h"
#include "bench/corpus.h"
#include "bench/main.h"
#include "bench/rounds.h"
#include "blockdev/device.h"

namespace uzram::bench {
namespace {

constexpr std::size_t kSlicePages = 4096;

// A device on memory of its own.
class Store {
 public:
  Store(const Corpus& corpus, bool shared)
      : corpus_(corpus),
        fd_(shared ? memfd_create("state", MFD_CLOEXEC) : -1),
        arena_({.fd = fd_}),
        device_(Device::create(arena_, {.size = corpus.pages() * kPageSize}).value()),
        stream_(device_->make_stream()) {}
  ~Store() {
    if (fd_ >= 0) close(fd_);
  }
  Store(const Store&) = delete;
  Store& operator=(const Store&) = delete;

  double write(std::size_t slice) {
    return time_slice(slice, [this](std::size_t n) {
      ensure(device_->write(*stream_, ByteOffset{n * kPageSize}, corpus_.page(n)).has_value(), "a page is written");
    });
  }
  double read(std::size_t slice) {
    std::array<std::byte, kPageSize> page;
    return time_slice(slice, [&](std::size_t n) {
      ensure(device_->read(*stream_, ByteOffset{n * kPageSize}, page).has_value(), "a page is read");
    });
  }
  void verify() {
    std::array<std::byte, kPageSize> page;
    for (std::size_t n = 0; n < corpus_.pages(); ++n) {
      ensure(device_->read(*stream_, ByteOffset{n * kPageSize}, page).has_value() &&
                 std::ranges::equal(page, corpus_.page(n)),
             "a page is read back as it was written");
    }
  }

 private:
  template <class Job>
  double time_slice(std::size_t slice, const Job& job) {
    const std::size_t end = std::min((slice + 1) * kSlicePages, corpus_.pages());
    return time_of(CLOCK_THREAD_CPUTIME_ID, [&] {
      for (std::size_t n = slice * kSlicePages; n < end; ++n) job(n);
    });
  }

  const Corpus& corpus_;
  const int fd_;
  PageArena arena_;
  std::unique_ptr<Device> device_;
  StreamPtr stream_;
};

void print_row(const char* what, const Comparison& c, std::size_t pages) {
  const double megabytes = static_cast<double>(pages * kPageSize) / 1e6;
  std::printf("%-28s %7.0f %7.0f %8.3f   %.3f-%.3f\n", what, megabytes / c.seconds_a.median(),
              megabytes / c.seconds_b.median(), c.a_over_b.median(), c.a_over_b.at(0.25), c.a_over_b.at(0.75));
  std::fflush(stdout);
}

int run(int argc, char** argv) {
  CLI::App app("The device on shared memory against the same on private memory");
  std::string path;
  std::string size = "256M";
  int rounds = 9;
  app.add_option("--corpus", path, "a file with the pages, as from bench/make-corpus; made-up pages otherwise");
  app.add_option("--size", size, "how much of them, 256M");
  app.add_option("--rounds", rounds, "of which the median is shown, 9")->check(CLI::Range(1, 1000));
  CLI11_PARSE(app, argc, argv);
  const Corpus corpus = Corpus::of_option(path, size_of_option("--size", size));
  const std::size_t slices = (corpus.pages() + kSlicePages - 1) / kSlicePages;
  std::unique_ptr<Store> own;
  std::unique_ptr<Store> shared;
  const auto fresh = [&](std::unique_ptr<Store>& store, bool is_shared, std::size_t slice) {
    if (slice == 0) store = std::make_unique<Store>(corpus, is_shared);
    return store->write(slice);
  };
  std::printf("%-28s %7s %7s %8s   %s\n", "MB/s of data, LZ4", "private", "shared", "ratio", "quartiles");
  const auto empty = compare(
      rounds, slices, [&](std::size_t slice) { return fresh(own, false, slice); },
      [&](std::size_t slice) { return fresh(shared, true, slice); });
  print_row("write into an empty device", empty, corpus.pages());
  const auto over = compare(
      rounds, slices, [&](std::size_t slice) { return own->write(slice); },
      [&](std::size_t slice) { return shared->write(slice); });
  print_row("write over what is there", over, corpus.pages());
  const auto read = compare(
      rounds, slices, [&](std::size_t slice) { return own->read(slice); },
      [&](std::size_t slice) { return shared->read(slice); });
  print_row("read", read, corpus.pages());
  own->verify();
  shared->verify();
  return 0;
}

}  // namespace
}  // namespace uzram::bench

int main(int argc, char** argv) { return uzram::bench::run_main("shared", uzram::bench::run, argc, argv); }
