// Measures the device against the plain library on the same pages, and two threads against one, in this process; what
// was stored is compared with what went in. Only ratios are meant to be quoted: speeds depend on the machine.

#include <CLI/CLI.hpp>

#include <algorithm>
#include <array>
#include <barrier>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

#include "allocator/ensure.h"
#include "bench/corpus.h"
#include "bench/main.h"
#include "bench/packed_pages.h"
#include "bench/plain.h"
#include "bench/processors.h"
#include "bench/rounds.h"
#include "blockdev/device.h"

namespace uzram::bench {
namespace {

constexpr std::size_t kSlicePages = 4096;  // 16 MiB: beyond the caches near a core, short beside what disturbs

ByteOffset offset_of(std::size_t page) { return ByteOffset{page * kPageSize}; }

// A device with a stream, and the jobs that are timed on it.
class Store {
 public:
  Store(PageArena& arena, const Corpus& corpus, const CodecSpec& codec, bool check)
      : corpus_(corpus),
        device_(Device::create(arena, {.name = "bench",
                                       .size = corpus.pages() * kPageSize,
                                       .codec = codec,
                                       .mem_limit = 0,
                                       .geometry = {},
                                       .check = check})
                    .value()) {
    for (StreamPtr& stream : streams_) stream = device_->make_stream();
  }

  void write(std::size_t first, std::size_t end, unsigned worker = 0) {
    for (std::size_t n = first; n < end; ++n) {
      ensure(device_->write(*streams_[worker], offset_of(n), corpus_.page(n)).has_value(), "a page is written");
    }
  }
  void read(std::size_t first, std::size_t end, unsigned worker = 0) {
    std::array<std::byte, kPageSize> page;
    for (std::size_t n = first; n < end; ++n) {
      ensure(device_->read(*streams_[worker], offset_of(n), page).has_value(), "a page is read");
    }
  }
  void verify() {
    std::array<std::byte, kPageSize> page;
    for (std::size_t n = 0; n < corpus_.pages(); ++n) {
      ensure(device_->read(*streams_[0], offset_of(n), page).has_value(), "a page is read");
      ensure(std::ranges::equal(page, corpus_.page(n)), "a page is read back as it was written");
    }
    device_->check_invariants();
  }

 private:
  const Corpus& corpus_;
  std::unique_ptr<Device> device_;
  std::array<StreamPtr, 2> streams_;
};

// Every page compressed by the plain library, one after the other in memory; with the same jobs.
class PlainStore {
 public:
  PlainStore(const Corpus& corpus, const CodecSpec& codec)
      : corpus_(corpus),
        plain_{Plain::make(codec), Plain::make(codec)},
        kept_{PackedPages(corpus.pages()), PackedPages(corpus.pages())} {
    std::array<std::byte, Plain::kRoom> room;
    ends_.push_back(0);
    for (std::size_t n = 0; n < corpus.pages(); ++n) {
      const std::size_t length = plain_[0]->compress(corpus.page(n), room);
      bytes_.insert(bytes_.end(), room.begin(), room.begin() + static_cast<std::ptrdiff_t>(length));
      ends_.push_back(bytes_.size());
    }
  }
  void write(std::size_t first, std::size_t end, unsigned worker = 0) {
    std::array<std::byte, Plain::kRoom> room;
    for (std::size_t n = first; n < end; ++n) (void)plain_[worker]->compress(corpus_.page(n), room);
  }
  // The same, and what was made kept in memory that no cache holds; workers have nothing in common.
  void keep(std::size_t first, std::size_t end, unsigned worker = 0) {
    std::array<std::byte, Plain::kRoom> room;
    for (std::size_t n = first; n < end; ++n) {
      const std::size_t length = plain_[worker]->compress(corpus_.page(n), room);
      const bool smaller = length < kPageSize;
      kept_[worker].keep(n, smaller ? std::span<const std::byte>(room).first(length) : corpus_.page(n));
    }
  }
  void read(std::size_t first, std::size_t end, unsigned worker = 0) {
    std::array<std::byte, kPageSize> page;
    for (std::size_t n = first; n < end; ++n) {
      plain_[worker]->decompress(std::span(bytes_).subspan(ends_[n], ends_[n + 1] - ends_[n]), page);
    }
  }

 private:
  const Corpus& corpus_;
  std::array<std::unique_ptr<Plain>, 2> plain_;
  std::array<PackedPages, 2> kept_;
  std::vector<std::byte> bytes_;
  std::vector<std::size_t> ends_;  // page n is [ends_[n], ends_[n + 1])
};

using Job = std::function<void(std::size_t first, std::size_t end)>;

void print_head(const std::string& title, const char* a, const char* b) {
  std::printf("\n%-34s %7s %7s %8s   %s\n", title.c_str(), a, b, "ratio", "quartiles");
}

void print_row(const char* what, const Comparison& c, std::size_t pages) {
  const double megabytes = static_cast<double>(pages * kPageSize) / 1e6;
  std::printf("%-34s %7.0f %7.0f %8.3f   %.3f-%.3f\n", what, megabytes / c.seconds_a.median(),
              megabytes / c.seconds_b.median(), c.a_over_b.median(), c.a_over_b.at(0.25), c.a_over_b.at(0.75));
  std::fflush(stdout);
}

// One thread's time for each of two jobs on the same pages. `prepare` comes before each round of the device's job, and
// is not timed.
void compare_jobs(const char* what, int rounds, std::size_t pages, const Job& plain, const Job& device,
                  const std::function<void()>& prepare = {}) {
  const auto time_slice = [&](const Job& job, std::size_t slice) {
    const std::size_t first = slice * kSlicePages;
    return time_of(CLOCK_THREAD_CPUTIME_ID, [&] { job(first, std::min(first + kSlicePages, pages)); });
  };
  const auto time_device = [&](std::size_t slice) {
    if (slice == 0 && prepare) prepare();
    return time_slice(device, slice);
  };
  const std::size_t slices = (pages + kSlicePages - 1) / kSlicePages;
  print_row(what,
            compare(
                rounds, slices, [&](std::size_t slice) { return time_slice(plain, slice); }, time_device),
            pages);
}

void against_plain(PageArena& arena, const Corpus& corpus, const CodecSpec& codec, int rounds) {
  const std::size_t pages = corpus.pages();
  PlainStore plain(corpus, codec);
  Store store(arena, corpus, codec, true);
  Store unchecked(arena, corpus, codec, false);
  store.write(0, pages);
  unchecked.write(0, pages);
  const Job compress = [&](std::size_t first, std::size_t end) { plain.write(first, end); };
  const Job decompress = [&](std::size_t first, std::size_t end) { plain.read(first, end); };

  print_head(codec.to_string() + ", one thread", "plain", "device");
  compare_jobs("write over what is there", rounds, pages, compress,
               [&](std::size_t first, std::size_t end) { store.write(first, end); });
  std::unique_ptr<Store> fresh;
  compare_jobs(
      "write into an empty device", rounds, pages, compress,
      [&](std::size_t first, std::size_t end) { fresh->write(first, end); },
      [&] { fresh = std::make_unique<Store>(arena, corpus, codec, true); });
  compare_jobs("read", rounds, pages, decompress, [&](std::size_t first, std::size_t end) { store.read(first, end); });
  compare_jobs("read without the check", rounds, pages, decompress,
               [&](std::size_t first, std::size_t end) { unchecked.read(first, end); });
  for (Store* s : {&store, &unchecked, fresh.get()}) s->verify();
}

// The time from the first thread's start until both have done their half, [first, middle) and [middle, end), each on a
// processor of its own where there are two. They look at the clock themselves: who waits for them has no processor
// while they are at work.
double time_of_two(std::size_t first, std::size_t middle, std::size_t end,
                   const std::function<void(std::size_t, std::size_t, unsigned)>& job) {
  const std::vector<int> all = processors();
  std::barrier ready(2);
  std::array<double, 2> begun{};
  std::array<double, 2> ended{};
  const auto half = [&](std::size_t from, std::size_t to, unsigned worker) {
    move_to(all[worker % all.size()]);
    ready.arrive_and_wait();
    begun[worker] = seconds(CLOCK_MONOTONIC);
    job(from, to, worker);
    ended[worker] = seconds(CLOCK_MONOTONIC);
  };
  {
    const std::jthread low(half, first, middle, 0);
    const std::jthread high(half, middle, end, 1);
  }
  return std::ranges::max(ended) - std::ranges::min(begun);
}

// What two threads do, each in its half of the pages.
struct Contender {
  const char* what;
  std::function<void(std::size_t first, std::size_t end, unsigned worker)> job;
};

// The contenders in turns, with one thread and with two; the last is the device, and what it gains is set beside what
// the one before it gains at the same time: a machine whose processors share a core at times gives less to both. In
// parts, since machines change in less time than a round takes.
void scale(int rounds, std::size_t pages, const std::vector<Contender>& contenders) {
  constexpr int kParts = 8;
  const std::size_t part = pages / kParts;
  std::vector<Comparison> rows(contenders.size());
  Spread of_plain;
  for (int round = 0; round < rounds; ++round) {
    for (int n = 0; n < kParts; ++n) {
      const std::size_t first = static_cast<std::size_t>(n) * part;
      const std::size_t middle = first + part / 2;
      const std::size_t end = first + part;
      double gain = 0;
      double gain_before = 0;
      for (std::size_t i = 0; i < contenders.size(); ++i) {
        const auto& job = contenders[i].job;
        // The same work with the same two workers' streams, one half after the other.
        const auto both_halves = [&] {
          job(first, middle, 0);
          job(middle, end, 1);
        };
        const auto one = [&](std::size_t) { return time_of(CLOCK_MONOTONIC, both_halves); };
        const auto two = [&](std::size_t) { return time_of_two(first, middle, end, job); };
        gain_before = std::exchange(gain, rows[i].add_round(round + n, 1, one, two));
      }
      of_plain.add(gain / gain_before);
    }
  }
  for (std::size_t i = 0; i < contenders.size(); ++i) print_row(contenders[i].what, rows[i], part);
  std::printf("%-34s %7s %7s %8.3f   %.3f-%.3f\n", "  gain / that of the row above", "", "", of_plain.median(),
              of_plain.at(0.25), of_plain.at(0.75));
  std::fflush(stdout);
}

void two_threads(PageArena& arena, const Corpus& corpus, const CodecSpec& codec, int rounds) {
  const Corpus alike = corpus.of_one_class(codec);
  const std::size_t pages = corpus.pages();
  Store store(arena, corpus, codec, true);
  Store one_class(arena, alike, codec, true);
  store.write(0, pages);
  one_class.write(0, pages);
  PlainStore plain(corpus, codec);
  PlainStore plain_one_class(alike, codec);

  print_head(codec.to_string() + ", two threads", "one", "two");
  const auto writes = [](auto& s) {
    return [&s](std::size_t first, std::size_t end, unsigned worker) { s.write(first, end, worker); };
  };
  const auto keeps = [](auto& s) {
    return [&s](std::size_t first, std::size_t end, unsigned worker) { s.keep(first, end, worker); };
  };
  const auto reads = [](auto& s) {
    return [&s](std::size_t first, std::size_t end, unsigned worker) { s.read(first, end, worker); };
  };
  // Each worker's memory exists, as that of the stores does.
  for (PlainStore* s : {&plain, &plain_one_class}) {
    for (const unsigned worker : {0U, 1U}) s->keep(0, pages, worker);
  }
  scale(rounds, pages,
        {{"plain write, two threads", writes(plain)},
         {"plain write that keeps, two", keeps(plain)},
         {"write, two threads", writes(store)}});
  scale(rounds, pages,
        {{"plain write, two, one class", writes(plain_one_class)},
         {"plain write that keeps, one class", keeps(plain_one_class)},
         {"write, two threads, one class", writes(one_class)}});
  scale(rounds, pages, {{"plain read, two threads", reads(plain)}, {"read, two threads", reads(store)}});
  scale(rounds, pages,
        {{"plain read, two, one class", reads(plain_one_class)}, {"read, two threads, one class", reads(one_class)}});
  store.verify();
  one_class.verify();
}

int run(int argc, char** argv) {
  CLI::App app("The device against the plain library on the same pages, in this process");
  std::string path;
  std::string size = "256M";
  std::vector<std::string> algorithms = {"lz4", "zstd(level=1)", "zstd"};
  int rounds = 9;
  app.add_option("--corpus", path, "a file with the pages, as from bench/make-corpus; made-up pages otherwise");
  app.add_option("--size", size, "how much of them, 256M");
  app.add_option("--algorithm", algorithms, "lz4, zstd(level=1) and zstd");
  app.add_option("--rounds", rounds, "of which the median is shown, 9")->check(CLI::Range(1, 1000));
  CLI11_PARSE(app, argc, argv);

  const Corpus corpus = Corpus::of_option(path, size_of_option("--size", size));
  std::printf("%s, %d rounds; MB/s of data\n", corpus.description().c_str(), rounds);
  PageArena arena({});
  for (const std::string& algorithm : algorithms) {
    const auto codec = CodecSpec::parse(algorithm);
    if (!codec) throw std::runtime_error("--algorithm: " + codec.error());
    against_plain(arena, corpus, *codec, rounds);
    two_threads(arena, corpus, *codec, rounds);
  }
  std::printf("\nEvery page was read back and compared.\n");
  return 0;
}

}  // namespace
}  // namespace uzram::bench

int main(int argc, char** argv) { return uzram::bench::run_main("ratio", uzram::bench::run, argc, argv); }
