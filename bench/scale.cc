// Measures what should not get worse as a device grows, ages or is compacted, in this process: the cost of an operation
// at 16 GiB stored beside 256 MiB, the pool's pages after many overwrites beside a fresh fill, what compaction frees of
// a pool that was freed by halves and what readers notice of it. What is stored is compared with what went in.

#include <CLI/CLI.hpp>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <functional>
#include <memory>
#include <numeric>
#include <random>
#include <stdexcept>
#include <thread>

#include "allocator/ensure.h"
#include "bench/corpus.h"
#include "bench/main.h"
#include "bench/packed_pages.h"
#include "bench/plain.h"
#include "bench/rounds.h"
#include "blockdev/device.h"

namespace uzram::bench {
namespace {

using Random = std::mt19937_64;

// LZ4 makes this or less of the pages that the large device holds, so that 16 GiB of them fit this machine.
constexpr std::size_t kMostLength = kPageSize / 6;

// Which page of the corpus each page holds. What is written is noted one behind the other and entered later: a store
// to a random place of a large table would cost a timed write what it asks memory for itself.
class Contents {
 public:
  Contents(const Corpus& corpus, std::size_t pages) : corpus_(corpus), holds_(pages) {}
  void note(std::size_t page, std::size_t what) {
    if (noted_.size() == kMostNoted) settle();
    noted_.push_back({static_cast<std::uint32_t>(page), static_cast<std::uint32_t>(what)});
  }
  [[nodiscard]] std::size_t pages() const { return holds_.size(); }
  [[nodiscard]] const std::vector<std::uint32_t>& holds() {
    settle();
    return holds_;
  }
  [[nodiscard]] auto wanted(std::size_t page) { return corpus_.page(holds()[page]); }
  // For who is about to time fewer than kMostNoted writes.
  void settle() {
    for (const Note& note : noted_) holds_[note.page] = note.what;
    noted_.clear();
  }

 private:
  struct Note {
    std::uint32_t page = 0;
    std::uint32_t what = 0;
  };
  static constexpr std::size_t kMostNoted = 1 << 20;

  const Corpus& corpus_;
  std::vector<std::uint32_t> holds_;
  std::vector<Note> noted_;
};

// A device whose pages are a corpus's.
class Store {
 public:
  Store(PageArena& arena, const Corpus& corpus, std::size_t pages, std::uint8_t number = 0)
      : corpus_(corpus),
        device_(Device::create(arena, {.name = "bench", .size = pages * kPageSize}, {.number = number, .sequence = 0})
                    .value()),
        stream_(device_->make_stream()),
        contents_(corpus, pages) {}

  void write(std::size_t page, std::size_t what) {
    ensure(device_->write(*stream_, ByteOffset{page * kPageSize}, corpus_.page(what)).has_value(), "a page is written");
    contents_.note(page, what);
  }
  void read(std::size_t page, std::span<std::byte, kPageSize> out) {
    ensure(device_->read(*stream_, ByteOffset{page * kPageSize}, out).has_value(), "a page is read");
  }
  void fill_as(const std::vector<std::uint32_t>& holds) {
    for (std::size_t page = 0; page < holds.size(); ++page) write(page, holds[page]);
  }

  [[nodiscard]] std::size_t pages() const { return contents_.pages(); }
  Contents& contents() { return contents_; }
  [[nodiscard]] double pool_pages() const { return static_cast<double>(device_->pool().stats().pages); }
  Device& device() { return *device_; }

 private:
  const Corpus& corpus_;
  std::unique_ptr<Device> device_;
  StreamPtr stream_;
  Contents contents_;
};

// What a device of any design would do at least.
class PackedStore {
 public:
  PackedStore(const Corpus& corpus, std::size_t pages) : corpus_(corpus), packed_(pages), contents_(corpus, pages) {}

  void write(std::size_t page, std::size_t what) {
    packed_.write(*codec_, page, corpus_.page(what));
    contents_.note(page, what);
  }
  void read(std::size_t page, std::span<std::byte, kPageSize> out) { packed_.read(*codec_, page, out); }
  [[nodiscard]] std::size_t pages() const { return contents_.pages(); }
  Contents& contents() { return contents_; }

 private:
  const Corpus& corpus_;
  PackedPages packed_;
  std::unique_ptr<Compressor> codec_ = make_compressor({});
  Contents contents_;
};

template <class Pages>
void verify(Pages& pages, std::size_t page) {
  std::array<std::byte, kPageSize> bytes;
  pages.read(page, bytes);
  ensure(std::ranges::equal(bytes, pages.contents().wanted(page)), "a page is read back as it was written");
}

// The corpus's pages that LZ4 makes kMostLength of or less.
std::vector<std::uint32_t> compressible(const Corpus& corpus) {
  const auto plain = Plain::make({});
  std::array<std::byte, Plain::kRoom> room;
  std::vector<std::uint32_t> pages;
  for (std::size_t n = 0; n < corpus.pages(); ++n) {
    const std::size_t length = plain->compress(corpus.page(n), room);
    if (length >= 100 && length <= kMostLength) pages.push_back(static_cast<std::uint32_t>(n));
  }
  if (pages.empty()) throw std::runtime_error("the corpus has no page that compresses to a sixth");
  return pages;
}

// Times random operations on a large store and on a small one, which hold pages of `usable` already; those of the
// device in turns with those of the packed pages.
void size_rows(Store& large, Store& small, PackedStore& packed_large, PackedStore& packed_small,
               const std::vector<std::uint32_t>& usable, int rounds) {
  constexpr std::size_t kOperations = 20'000;  // in one slice
  constexpr std::size_t kSlices = 8;
  Random random(1);
  const auto row = [&](const std::string& what, const auto& operation) {
    const auto time = [&](auto& pages) {
      pages.contents().settle();
      return time_of(CLOCK_THREAD_CPUTIME_ID, [&] {
        for (std::size_t i = 0; i < kOperations; ++i) operation(pages, random() % pages.pages());
      });
    };
    const auto add_round = [&](Comparison& c, int round, auto& a, auto& b) {
      c.add_round(
          round, kSlices, [&](std::size_t) { return time(a); }, [&](std::size_t) { return time(b); });
    };
    Comparison device;
    Comparison packed;
    for (int round = 0; round < rounds; ++round) {
      add_round(device, round, large, small);
      add_round(packed, round, packed_large, packed_small);
    }
    const auto print = [&](const std::string& name, const Comparison& c) {
      const double operations = kOperations * kSlices;
      std::printf("%-34s %8.0f %8.0f %8.3f\n", name.c_str(), c.seconds_a.median() / operations * 1e9,
                  c.seconds_b.median() / operations * 1e9, c.a_over_b.median());
    };
    print(what, device);
    print(what + ", LZ4 alone, packed", packed);
  };
  std::array<std::byte, kPageSize> bytes;
  row("write", [&](auto& pages, std::size_t page) { pages.write(page, usable[random() % usable.size()]); });
  row("read", [&](auto& pages, std::size_t page) { pages.read(page, bytes); });
  for (std::size_t i = 0; i < kOperations; ++i) {
    verify(large, random() % large.pages());
    verify(packed_large, random() % large.pages());
  }
}

template <class Pages>
void fill(Pages& pages, const std::vector<std::uint32_t>& usable) {
  Random random(2);
  for (std::size_t page = 0; page < pages.pages(); ++page) pages.write(page, usable[random() % usable.size()]);
}

void size_of_device(const Corpus& corpus, std::uint64_t bytes, int rounds) {
  constexpr std::size_t kSmallPages = (256 << 20) / kPageSize;
  const std::vector<std::uint32_t> usable = compressible(corpus);
  const std::size_t pages = bytes / kPageSize;
  const std::string large_size = std::to_string(bytes >> 20) + " MiB";
  std::printf("\n%-34s %8s %8s %8s\n", "one random operation, ns", large_size.c_str(), "256 MiB", "ratio");
  PageArena arena({});
  Store large(arena, corpus, pages, 0);
  Store small(arena, corpus, std::min(kSmallPages, pages), 1);
  PackedStore packed_large(corpus, pages);
  PackedStore packed_small(corpus, std::min(kSmallPages, pages));
  fill(large, usable);
  fill(small, usable);
  fill(packed_large, usable);
  fill(packed_small, usable);
  size_rows(large, small, packed_large, packed_small, usable, rounds);
}

void overwrites(const Corpus& corpus) {
  constexpr int kPasses = 10;
  Random random(2);
  PageArena arena({});
  std::vector<std::uint32_t> order(corpus.pages());
  std::iota(order.begin(), order.end(), 0);
  Store store(arena, corpus, corpus.pages(), 0);
  store.fill_as(order);
  std::printf("\n%-34s %8s %8s %8s\n", "pages of the pool", "aged", "fresh", "ratio");
  const auto row = [&](const char* what) {
    Store fresh(arena, corpus, corpus.pages(), 1);
    fresh.fill_as(store.contents().holds());
    std::printf("%-34s %8.0f %8.0f %8.3f\n", what, store.pool_pages(), fresh.pool_pages(),
                store.pool_pages() / fresh.pool_pages());
  };
  for (int pass = 0; pass < kPasses; ++pass) {
    for (std::size_t i = 0; i < store.pages(); ++i) {
      store.write(random() % store.pages(), static_cast<std::size_t>(random() % corpus.pages()));
    }
  }
  row("after ten random overwrites");
  store.device().compact();
  row("and a compaction");
  for (std::size_t page = 0; page < store.pages(); ++page) verify(store, page);
}

// The 99th percentile of the time of random reads, in us, until `done`.
double p99_of_reads(Store& store, const std::function<bool()>& done) {
  Random random(3);
  std::array<std::byte, kPageSize> bytes;
  std::vector<double> took;
  while (!done()) {
    const std::size_t page = random() % store.pages();
    took.push_back(time_of(CLOCK_MONOTONIC, [&] { store.read(page, bytes); }) * 1e6);
  }
  const auto at = took.begin() + static_cast<std::ptrdiff_t>(took.size() * 99 / 100);
  std::nth_element(took.begin(), at, took.end());
  return *at;
}

std::uint64_t freeable(const Device& device) {
  std::uint64_t frames = 0;
  const ZsPool& pool = device.pool();
  for (unsigned index = 0; index < kClasses; ++index) {
    if (pool.classes().exists(index)) frames += pool.class_stats(index).freeable();
  }
  return frames;
}

void compaction(const Corpus& corpus, std::uint64_t bytes, int rounds) {
  Random random(4);
  PageArena arena({});
  std::printf("\n%-34s %8s %8s %8s\n", "compact, half freed at random", "", "", "");
  Spread freed;
  Spread quiet;
  Spread beside;
  Spread ratio;
  Spread seconds_taken;
  for (int round = 0; round < rounds; ++round) {
    Store store(arena, corpus, bytes / kPageSize);
    for (std::size_t page = 0; page < store.pages(); ++page) store.write(page, page % corpus.pages());
    std::vector<std::size_t> kept;
    for (std::size_t page = 0; page < store.pages(); ++page) {
      if (random() % 2 == 0) {
        store.device().discard(ByteOffset{page * kPageSize}, kPageSize);
      } else {
        kept.push_back(page);
      }
    }
    const auto could = static_cast<double>(freeable(store.device()));
    const double end = seconds(CLOCK_MONOTONIC) + 1;
    // A thread that only computes takes the place of compaction, so that the reads have the same share of the machine.
    std::atomic<bool> stop{false};
    std::jthread other([&] {
      while (!stop) continue;
    });
    const double before = p99_of_reads(store, [&] { return seconds(CLOCK_MONOTONIC) > end; });
    stop = true;
    other.join();
    std::atomic<bool> compacted{false};
    std::uint64_t frames = 0;
    double took = 0;
    std::jthread compactor([&] {
      took = time_of(CLOCK_MONOTONIC, [&] { frames = store.device().compact(); });
      compacted = true;
    });
    const double during = p99_of_reads(store, [&] { return compacted.load(); });
    compactor.join();
    freed.add(static_cast<double>(frames) / could);
    quiet.add(before);
    beside.add(during);
    ratio.add(during / before);
    seconds_taken.add(took);
    for (const std::size_t page : kept) verify(store, page);
    store.device().check_invariants();
  }
  std::printf("%-34s %26.3f   in %.2f s\n", "freed of what could be freed", freed.median(), seconds_taken.median());
  std::printf("%-34s %8.1f %8.1f %8.3f\n", "readers' p99, us: during, before", beside.median(), quiet.median(),
              ratio.median());
}

int run(int argc, char** argv) {
  CLI::App app("What growth, age and compaction cost a device, in this process");
  std::string path;
  std::string large = "16G";
  std::string pool = "1G";
  int rounds = 5;
  app.add_option("--corpus", path, "a file with the pages, as from bench/make-corpus; made-up pages otherwise");
  app.add_option("--large", large, "pages stored in the large device, 16G; takes about a fifth of it");
  app.add_option("--compact", pool, "pages stored in the device that is compacted, 1G");
  app.add_option("--rounds", rounds, "of which the median is shown, 5")->check(CLI::Range(1, 1000));
  CLI11_PARSE(app, argc, argv);
  const std::uint64_t large_bytes = size_of_option("--large", large);
  const std::uint64_t pool_bytes = size_of_option("--compact", pool);
  constexpr std::uint64_t kMostCorpus = 256 << 20;
  const Corpus corpus = Corpus::of_option(path, std::min(kMostCorpus, pool_bytes));
  std::printf("%s, lz4, %d rounds\n", corpus.description().c_str(), rounds);
  overwrites(corpus);
  compaction(corpus, pool_bytes, rounds);
  size_of_device(corpus, large_bytes, rounds);
  std::printf("\nWhat was stored was read back and compared.\n");
  return 0;
}

}  // namespace
}  // namespace uzram::bench

int main(int argc, char** argv) { return uzram::bench::run_main("scale", uzram::bench::run, argc, argv); }
