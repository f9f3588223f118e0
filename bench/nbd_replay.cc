// Replays the pages of a file over one NBD connection and prints what it did per second: random writes and reads of
// 4 KiB, of which 32 are in flight, and MB of sequential writes and reads of 128 KiB, of which 8 are. A page is always
// written with the file's bytes of the same offset, so after the timed writes every page is read back and compared.

#include <libnbd.h>

#include <CLI/CLI.hpp>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <semaphore>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "bench/corpus.h"
#include "bench/main.h"
#include "bench/plain.h"
#include "bench/rounds.h"

namespace uzram::bench {
namespace {

constexpr std::uint64_t kMostBytes = std::uint64_t{1} << 30;

[[noreturn]] void throw_nbd_error() { throw std::runtime_error(nbd_get_error()); }

// Compresses a page with plain LZ4, in a thread of its own, for each page that is handed over: beside a server that
// keeps pages as they are, the work of one that compresses.
class PlainLz4 {
 public:
  PlainLz4() : thread_([this] { work(); }) {}
  ~PlainLz4() {
    pages_[added_++ % kMostBehind] = nullptr;
    waiting_.release();
  }
  // Waits where it is kMostBehind pages behind.
  void add(const std::byte* page) {
    room_.acquire();
    pages_[added_++ % kMostBehind] = page;
    waiting_.release();
  }
  // Waits until nothing is left to do.
  void finish() {
    for (std::size_t i = 0; i < kMostBehind - 1; ++i) room_.acquire();
    room_.release(kMostBehind - 1);
  }

 private:
  static constexpr std::size_t kMostBehind = 64;

  void work() {
    const auto plain = Plain::make({});
    std::array<std::byte, Plain::kRoom> room;
    for (std::size_t n = 0;; ++n) {
      waiting_.acquire();
      const std::byte* const page = pages_[n % kMostBehind];
      if (page == nullptr) return;
      (void)plain->compress(Plain::ConstPage(page, kPageSize), room);
      room_.release();
    }
  }

  std::array<const std::byte*, kMostBehind> pages_{};
  std::size_t added_ = 0;
  std::counting_semaphore<kMostBehind> room_{kMostBehind - 1};  // one is kept for the end
  std::counting_semaphore<kMostBehind> waiting_{0};
  std::jthread thread_;
};

// One connection, with requests of one size at multiples of it. Everything happens in the caller's thread.
class Replay {
 public:
  using Next = std::function<std::optional<std::size_t>()>;
  enum class Job { write, read, read_and_compare };

  Replay(const std::string& uri, const Corpus& corpus, std::size_t request_bytes, std::size_t depth)
      : corpus_(corpus), request_bytes_(request_bytes), slots_(depth), nbd_(nbd_create(), nbd_close) {
    // Keys for nbds:// are in a file.
    if (!nbd_ || nbd_set_uri_allow_local_file(nbd_.get(), true) == -1 || nbd_connect_uri(nbd_.get(), uri.c_str()) == -1)
      throw_nbd_error();
    nbd_set_pread_initialize(nbd_.get(), false);
    if (nbd_get_size(nbd_.get()) < static_cast<std::int64_t>(corpus.pages() * kPageSize)) {
      throw std::runtime_error("the export is smaller than the file");
    }
    for (Slot& slot : slots_) {
      slot.replay = this;
      slot.data.resize(request_bytes);
      free_.push_back(&slot);
    }
  }
  Replay(const Replay&) = delete;
  Replay& operator=(const Replay&) = delete;

  // Every page that is written from now on is handed over to `beside`, too.
  void compress(PlainLz4& beside) { beside_ = &beside; }

  [[nodiscard]] std::size_t requests() const { return corpus_.bytes().size() / request_bytes_; }

  // Does the job for the requests that `next` names until it names none; returns how many there were in a second.
  double run(Job job, const Next& next) {
    std::size_t requests = 0;
    const double took = time_of(CLOCK_MONOTONIC, [&] {
      for (bool more = true; more || free_.size() < slots_.size();) {
        while (more && !free_.empty()) {
          const auto request = next();
          more = request.has_value();
          if (more) begin(job, *request);
          requests += more;
        }
        if (free_.size() < slots_.size() && nbd_poll(nbd_.get(), -1) == -1) throw_nbd_error();
        if (!failure_.empty()) throw std::runtime_error(failure_);
      }
      if (beside_ != nullptr) beside_->finish();
    });
    return static_cast<double>(requests) / took;
  }

 private:
  struct Slot {
    Replay* replay = nullptr;
    Job job = Job::read;
    std::size_t request = 0;
    std::vector<std::byte> data;
  };

  [[nodiscard]] std::span<const std::byte> wanted(std::size_t request) const {
    return corpus_.bytes().subspan(request * request_bytes_, request_bytes_);
  }

  void begin(Job job, std::size_t request) {
    Slot& slot = *free_.back();
    free_.pop_back();
    slot.job = job;
    slot.request = request;
    for (std::size_t at = 0; beside_ != nullptr && job == Job::write && at < request_bytes_; at += kPageSize) {
      beside_->add(wanted(request).data() + at);
    }
    const nbd_completion_callback done = {&Replay::complete, &slot, nullptr};
    const std::uint64_t offset = request * request_bytes_;
    const std::int64_t cookie =
        job == Job::write ? nbd_aio_pwrite(nbd_.get(), wanted(request).data(), request_bytes_, offset, done, 0)
                          : nbd_aio_pread(nbd_.get(), slot.data.data(), request_bytes_, offset, done, 0);
    if (cookie == -1) throw_nbd_error();
  }

  static int complete(void* user_data, int* error) {
    Slot& slot = *static_cast<Slot*>(user_data);
    Replay& replay = *slot.replay;
    if (*error != 0) {
      replay.failure_ = "request " + std::to_string(slot.request) + ": " + std::strerror(*error);
    } else if (slot.job == Job::read_and_compare && !std::ranges::equal(slot.data, replay.wanted(slot.request))) {
      replay.failure_ = "request " + std::to_string(slot.request) + " does not read as it was written";
    }
    replay.free_.push_back(&slot);
    return 1;  // libnbd may forget the request
  }

  const Corpus& corpus_;
  const std::size_t request_bytes_;
  PlainLz4* beside_ = nullptr;
  std::string failure_;
  std::vector<Slot> slots_;
  std::vector<Slot*> free_;
  std::unique_ptr<nbd_handle, decltype(&nbd_close)> nbd_;  // closed first: it may still call back
};

Replay::Next each_once(std::size_t requests) {
  return [requests, n = std::size_t{0}]() mutable { return n < requests ? std::optional(n++) : std::nullopt; };
}

Replay::Next random_for(double seconds_long, std::size_t requests) {
  const double end = seconds(CLOCK_MONOTONIC) + seconds_long;
  return [=, random = std::mt19937_64(requests)]() mutable {
    return seconds(CLOCK_MONOTONIC) < end ? std::optional<std::size_t>(random() % requests) : std::nullopt;
  };
}

Replay::Next round_and_round_for(double seconds_long, std::size_t requests) {
  const double end = seconds(CLOCK_MONOTONIC) + seconds_long;
  return [=, n = std::size_t{0}]() mutable {
    return seconds(CLOCK_MONOTONIC) < end ? std::optional(n++ % requests) : std::nullopt;
  };
}

// The timed part with requests of one shape. `scale` makes what is printed of requests per second.
void replay(Replay& replay, const char* name, double scale, const std::function<Replay::Next()>& next, bool compare,
            bool reads) {
  std::printf("%swrite %.0f\n", name, replay.run(Replay::Job::write, next()) * scale);
  if (compare) replay.run(Replay::Job::read_and_compare, each_once(replay.requests()));
  if (reads) std::printf("%sread %.0f\n", name, replay.run(Replay::Job::read, next()) * scale);
}

int run(int argc, char** argv) {
  CLI::App app("Replays the pages of a file over one NBD connection");
  std::string uri;
  std::string path;
  double seconds_each = 0;
  bool keeps_nothing = false;
  bool beside_lz4 = false;
  app.add_option("URI", uri, "of the export")->required();
  app.add_option("FILE", path, "with the pages, of which the first GiB is used")->required();
  app.add_option("SECONDS", seconds_each, "for each of the four; 0 only stores the file and compares")->required();
  app.add_flag("--keeps-nothing", keeps_nothing, "for a server that drops what it is sent: nothing is compared");
  app.add_flag("--beside-lz4", beside_lz4,
               "compress every page that is written, in a thread beside; only writes are timed");
  CLI11_PARSE(app, argc, argv);

  const Corpus corpus = Corpus::of_file(path, kMostBytes);
  std::optional<PlainLz4> lz4;
  if (beside_lz4) lz4.emplace();
  Replay pages(uri, corpus, kPageSize, 32);
  pages.run(Replay::Job::write, each_once(pages.requests()));
  if (seconds_each > 0) {
    if (lz4) pages.compress(*lz4);
    replay(
        pages, "", 1, [&] { return random_for(seconds_each, pages.requests()); }, !keeps_nothing, !beside_lz4);
    constexpr std::size_t kLong = 128 << 10;
    if (corpus.bytes().size() < kLong) return 0;
    Replay runs(uri, corpus, kLong, 8);
    if (lz4) runs.compress(*lz4);
    replay(
        runs, "sequential_", kLong / 1e6, [&] { return round_and_round_for(seconds_each, runs.requests()); },
        !keeps_nothing, !beside_lz4);
  } else if (!keeps_nothing) {
    pages.run(Replay::Job::read_and_compare, each_once(pages.requests()));
  }
  return 0;
}

}  // namespace
}  // namespace uzram::bench

int main(int argc, char** argv) { return uzram::bench::run_main("nbd_replay", uzram::bench::run, argc, argv); }
