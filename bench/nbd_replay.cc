// Replays the pages of a file over one NBD connection, in 4 KiB requests of which kDepth are in flight, and prints the
// requests per second of random writes and of random reads. A page is always written with the file's bytes of the same
// offset, so after the timed writes every page is read back and compared.

#include <libnbd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "bench/corpus.h"
#include "bench/rounds.h"

namespace uzram::bench {
namespace {

constexpr std::size_t kDepth = 32;
constexpr std::uint64_t kMostBytes = std::uint64_t{1} << 30;

[[noreturn]] void throw_nbd_error() { throw std::runtime_error(nbd_get_error()); }

// One connection. Everything happens in the caller's thread.
class Replay {
 public:
  using NextPage = std::function<std::optional<std::size_t>()>;
  enum class Job { write, read, read_and_compare };

  Replay(const std::string& uri, const Corpus& corpus) : corpus_(corpus), nbd_(nbd_create(), nbd_close) {
    if (!nbd_ || nbd_connect_uri(nbd_.get(), uri.c_str()) == -1) throw_nbd_error();
    nbd_set_pread_initialize(nbd_.get(), false);
    if (nbd_get_size(nbd_.get()) < static_cast<std::int64_t>(corpus.pages() * kPageSize)) {
      throw std::runtime_error("the export is smaller than the file");
    }
    for (Slot& slot : slots_) {
      slot.replay = this;
      free_.push_back(&slot);
    }
  }
  Replay(const Replay&) = delete;
  Replay& operator=(const Replay&) = delete;

  // Does the job for the pages that `next` names until it names none; returns requests per second.
  double run(Job job, const NextPage& next) {
    std::size_t requests = 0;
    const double took = time_of(CLOCK_MONOTONIC, [&] {
      for (bool more = true; more || free_.size() < kDepth;) {
        while (more && !free_.empty()) {
          const auto page = next();
          more = page.has_value();
          if (more) begin(job, *page);
          requests += more;
        }
        if (free_.size() < kDepth && nbd_poll(nbd_.get(), -1) == -1) throw_nbd_error();
        if (!failure_.empty()) throw std::runtime_error(failure_);
      }
    });
    return static_cast<double>(requests) / took;
  }

 private:
  struct Slot {
    Replay* replay = nullptr;
    Job job = Job::read;
    std::size_t page = 0;
    std::array<std::byte, kPageSize> data{};
  };

  void begin(Job job, std::size_t page) {
    Slot& slot = *free_.back();
    free_.pop_back();
    slot.job = job;
    slot.page = page;
    const nbd_completion_callback done = {&Replay::complete, &slot, nullptr};
    const std::int64_t cookie =
        job == Job::write ? nbd_aio_pwrite(nbd_.get(), corpus_.page(page).data(), kPageSize, page * kPageSize, done, 0)
                          : nbd_aio_pread(nbd_.get(), slot.data.data(), kPageSize, page * kPageSize, done, 0);
    if (cookie == -1) throw_nbd_error();
  }

  static int complete(void* user_data, int* error) {
    Slot& slot = *static_cast<Slot*>(user_data);
    Replay& replay = *slot.replay;
    if (*error != 0) {
      replay.failure_ = "page " + std::to_string(slot.page) + ": " + std::strerror(*error);
    } else if (slot.job == Job::read_and_compare && !std::ranges::equal(slot.data, replay.corpus_.page(slot.page))) {
      replay.failure_ = "page " + std::to_string(slot.page) + " is not as it was written";
    }
    replay.free_.push_back(&slot);
    return 1;  // libnbd may forget the request
  }

  const Corpus& corpus_;
  std::string failure_;
  std::array<Slot, kDepth> slots_;
  std::vector<Slot*> free_;
  std::unique_ptr<nbd_handle, decltype(&nbd_close)> nbd_;  // closed first: it may still call back
};

Replay::NextPage each_once(std::size_t pages) {
  return [pages, n = std::size_t{0}]() mutable { return n < pages ? std::optional(n++) : std::nullopt; };
}

Replay::NextPage random_for(double seconds_long, std::size_t pages) {
  const double end = seconds(CLOCK_MONOTONIC) + seconds_long;
  return [=, random = std::mt19937_64(pages)]() mutable {
    return seconds(CLOCK_MONOTONIC) < end ? std::optional<std::size_t>(random() % pages) : std::nullopt;
  };
}

int run(int argc, char** argv) {
  const bool keeps_nothing = argc > 1 && std::strcmp(argv[1], "--keeps-nothing") == 0;
  if (argc != (keeps_nothing ? 5 : 4)) {
    std::fprintf(stderr,
                 "usage: nbd_replay [--keeps-nothing] URI FILE SECONDS\n"
                 "SECONDS of writes and as many of reads; 0 only stores the file and compares.\n"
                 "--keeps-nothing is for a server that drops what it is sent: nothing is compared.\n");
    return 2;
  }
  argv += keeps_nothing;
  const Corpus corpus = Corpus::of_file(argv[2], kMostBytes);
  const double seconds_each = std::strtod(argv[3], nullptr);
  Replay replay(argv[1], corpus);
  const std::size_t pages = corpus.pages();

  replay.run(Replay::Job::write, each_once(pages));
  if (seconds_each > 0) {
    std::printf("write %.0f\n", replay.run(Replay::Job::write, random_for(seconds_each, pages)));
  }
  if (!keeps_nothing) replay.run(Replay::Job::read_and_compare, each_once(pages));
  if (seconds_each > 0) std::printf("read %.0f\n", replay.run(Replay::Job::read, random_for(seconds_each, pages)));
  return 0;
}

}  // namespace
}  // namespace uzram::bench

int main(int argc, char** argv) {
  try {
    return uzram::bench::run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "nbd_replay: %s\n", error.what());
    return 1;
  }
}
