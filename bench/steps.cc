// Measures what each step of a write adds to the plain library on the same pages: the steps are done one more at a
// time, in turns, and the last is the device itself.

#include <array>
#include <cstdio>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <vector>

#include "bench/corpus.h"
#include "bench/main.h"
#include "bench/packed_pages.h"
#include "bench/plain.h"
#include "bench/rounds.h"
#include "blockdev/device.h"
#include "blockdev/object_check.h"
#include "blockdev/same_filled.h"
#include "compress/codec.h"

namespace uzram::bench {
namespace {

constexpr std::size_t kSlicePages = 2048;
constexpr int kRounds = 9;
constexpr std::size_t kMostLength = 3264;  // what is longer is kept as it is: huge_class_size of the default geometry

class Steps {
 public:
  Steps(const Corpus& corpus, const CodecSpec& codec)
      : corpus_(corpus),
        device_(Device::create(arena_, {.name = "bench", .size = corpus.pages() * kPageSize, .codec = codec}).value()),
        stream_(device_->make_stream()),
        plain_(Plain::make(codec)),
        again_(Plain::make(codec)),
        compressor_(make_compressor(codec)),
        cold_(corpus.pages() * kPageSize),
        packed_(corpus.pages()) {}

  void plain(std::size_t page) { (void)plain_->compress(corpus_.page(page), out_); }
  // The same with tables elsewhere in memory: what it differs by is nobody's.
  void again(std::size_t page) { (void)again_->compress(corpus_.page(page), out_); }
  // The payload; empty where there is none to be kept.
  std::span<const std::byte> compressed(std::size_t page) {
    if (same_filled_word(corpus_.page(page))) return {};
    const auto payload = compressor_->compress(corpus_.page(page), kMostLength - 1);
    return payload.empty() ? corpus_.page(page) : payload;
  }
  std::span<const std::byte> checked(std::size_t page) {
    const auto payload = compressed(page);
    if (!payload.empty()) checks_ += object_check(payload, 1);
    return payload;
  }
  void copied(std::size_t page) {
    const auto payload = checked(page);
    if (!payload.empty()) std::memcpy(cold_.data() + page * kPageSize, payload.data(), payload.size());
  }
  void packed(std::size_t page) {
    const auto payload = checked(page);
    if (!payload.empty()) packed_.keep(page, payload);
  }
  void device(std::size_t page) {
    if (!device_->write(*stream_, ByteOffset{page * kPageSize}, corpus_.page(page))) throw std::bad_alloc();
  }
  // So that no check is left out as unused.
  [[nodiscard]] std::uint64_t checks() const { return checks_; }

 private:
  const Corpus& corpus_;
  PageArena arena_{PageArena::Options{}};
  std::unique_ptr<Device> device_;
  StreamPtr stream_;
  std::unique_ptr<Plain> plain_;
  std::unique_ptr<Plain> again_;
  std::unique_ptr<Compressor> compressor_;
  std::vector<std::byte> cold_;
  PackedPages packed_;
  std::array<std::byte, Plain::kRoom> out_;
  std::uint64_t checks_ = 0;
};

int run(int argc, char** argv) {
  if (argc < 2 || argc > 3) {
    std::fprintf(stderr,
                 "usage: steps FILE [ALGORITHM]\nFILE: pages, as from bench/make-corpus; its first 256 MiB are used\n"
                 "ALGORITHM: lz4 unless named\n");
    return 2;
  }
  const Corpus corpus = Corpus::of_file(argv[1], 256 << 20);
  const auto codec = CodecSpec::parse(argc == 3 ? argv[2] : "lz4");
  if (!codec) throw std::runtime_error(codec.error());
  Steps steps(corpus, *codec);
  constexpr std::array kNames = {
      "the plain library",    "once more", "and the same-filled test", "and the check", "and a copy into cold memory",
      "the same, but packed", "the device"};
  std::array<Spread, kNames.size()> relative;
  double plain_seconds = 0;
  for (int round = 0; round < kRounds; ++round) {
    std::array<double, kNames.size()> took{};
    for (std::size_t first = 0; first < corpus.pages(); first += kSlicePages) {
      const auto time = [&](std::size_t step, auto&& job) {
        took[step] += time_of(CLOCK_THREAD_CPUTIME_ID, [&] {
          for (std::size_t n = first; n < std::min(first + kSlicePages, corpus.pages()); ++n) job(n);
        });
      };
      time(0, [&](std::size_t n) { steps.plain(n); });
      time(1, [&](std::size_t n) { steps.again(n); });
      time(2, [&](std::size_t n) { (void)steps.compressed(n); });
      time(3, [&](std::size_t n) { (void)steps.checked(n); });
      time(4, [&](std::size_t n) { steps.copied(n); });
      time(5, [&](std::size_t n) { steps.packed(n); });
      time(6, [&](std::size_t n) { steps.device(n); });
    }
    for (std::size_t step = 0; step < took.size(); ++step) relative[step].add(took[step] / took[0]);
    plain_seconds = took[0];
  }
  std::printf("%-34s %8s   quartiles, %d rounds; the plain library takes %.0f ns a page (%llx)\n", "", "time", kRounds,
              plain_seconds / static_cast<double>(corpus.pages()) * 1e9,
              static_cast<unsigned long long>(steps.checks()));
  for (std::size_t step = 0; step < kNames.size(); ++step) {
    std::printf("%-34s %8.3f   %.3f-%.3f\n", kNames[step], relative[step].median(), relative[step].at(0.25),
                relative[step].at(0.75));
  }
  return 0;
}

}  // namespace
}  // namespace uzram::bench

int main(int argc, char** argv) { return uzram::bench::run_main("steps", uzram::bench::run, argc, argv); }
