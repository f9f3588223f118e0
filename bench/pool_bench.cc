// Microbenchmarks of what one page's write and read are made of: the pool, the same-filled test, the check, a codec.

#include <benchmark/benchmark.h>

#include <algorithm>
#include <array>
#include <random>
#include <vector>

#include "allocator/ensure.h"
#include "allocator/zs_pool.h"
#include "bench/corpus.h"
#include "blockdev/object_check.h"
#include "blockdev/same_filled.h"
#include "compress/codec.h"

namespace uzram::bench {
namespace {

constexpr std::size_t kObjects = 20'000;

// A pool with objects of one size, for benchmarks that work on objects in random order.
class FilledPool {
 public:
  explicit FilledPool(std::size_t size) : size_(size), arena_({}), pool_(arena_, {}) {
    for (std::size_t i = 0; i < kObjects; ++i) objects_.push_back(make());
    std::ranges::shuffle(objects_, std::mt19937_64(7));
  }
  ~FilledPool() {
    for (const Location object : objects_) pool_.free(object);
  }
  FilledPool(const FilledPool&) = delete;
  FilledPool& operator=(const FilledPool&) = delete;

  Location make() {
    const auto object = pool_.malloc(size_, {Owner{1}, 0});
    ensure(object.has_value(), "there is memory");
    return *object;
  }
  Location& next() { return objects_[position_++ % kObjects]; }
  ZsPool& pool() { return pool_; }

 private:
  const std::size_t size_;
  PageArena arena_;
  ZsPool pool_;
  std::vector<Location> objects_;
  std::size_t position_ = 0;
};

void sizes(benchmark::internal::Benchmark* b) { b->Arg(100)->Arg(1000)->Arg(2900)->Arg(4096); }

void BM_PoolFreeAndMalloc(benchmark::State& state) {
  FilledPool filled(static_cast<std::size_t>(state.range(0)));
  for (auto _ : state) {
    Location& object = filled.next();
    filled.pool().free(object);
    object = filled.make();
  }
}
BENCHMARK(BM_PoolFreeAndMalloc)->Apply(sizes);

void BM_PoolWrite(benchmark::State& state) {
  FilledPool filled(static_cast<std::size_t>(state.range(0)));
  const std::vector<std::byte> payload(static_cast<std::size_t>(state.range(0)), std::byte{7});
  for (auto _ : state) filled.pool().write(filled.next(), payload);
  state.SetBytesProcessed(state.iterations() * state.range(0));
}
BENCHMARK(BM_PoolWrite)->Apply(sizes);

void BM_PoolRead(benchmark::State& state) {
  const auto size = static_cast<std::size_t>(state.range(0));
  FilledPool filled(size);
  alignas(64) std::array<std::byte, kFrameSize> scratch;
  for (auto _ : state) benchmark::DoNotOptimize(filled.pool().read(filled.next(), size, scratch).data());
}
BENCHMARK(BM_PoolRead)->Apply(sizes);

void BM_SameFilledTest(benchmark::State& state) {
  alignas(64) std::array<std::byte, kPageSize> page{};
  page[static_cast<std::size_t>(state.range(0))] = std::byte{1};
  for (auto _ : state) benchmark::DoNotOptimize(same_filled_word(page));
}
BENCHMARK(BM_SameFilledTest)->ArgName("differs_at")->Arg(0)->Arg(2048)->Arg(4087);

void BM_ObjectCheck(benchmark::State& state) {
  const Corpus corpus = Corpus::made_up(kPageSize * 64);
  const auto payload = corpus.page(3).first(static_cast<std::size_t>(state.range(0)));
  for (auto _ : state) benchmark::DoNotOptimize(object_check(payload, 1));
  state.SetBytesProcessed(state.iterations() * state.range(0));
}
BENCHMARK(BM_ObjectCheck)->Apply(sizes);

const char* const kCodecs[] = {"lz4", "lz4hc", "zstd(level=-5)", "zstd(level=1)", "zstd"};

void codecs(benchmark::internal::Benchmark* b) { b->DenseRange(0, std::size(kCodecs) - 1); }

void BM_Compress(benchmark::State& state) {
  const char* name = kCodecs[state.range(0)];
  state.SetLabel(name);
  const Corpus corpus = Corpus::made_up(kPageSize * 1024);
  const auto codec = make_compressor(CodecSpec::parse(name).value());
  std::size_t n = 0;
  for (auto _ : state) benchmark::DoNotOptimize(codec->compress(corpus.page(n++ % corpus.pages()), kPageSize));
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(kPageSize));
}
BENCHMARK(BM_Compress)->Apply(codecs);

void BM_Decompress(benchmark::State& state) {
  const char* name = kCodecs[state.range(0)];
  state.SetLabel(name);
  const Corpus corpus = Corpus::made_up(kPageSize * 1024);
  const auto codec = make_compressor(CodecSpec::parse(name).value());
  std::vector<std::vector<std::byte>> blocks;
  for (std::size_t n = 0; n < corpus.pages(); ++n) {
    const auto block = codec->compress(corpus.page(n), 2 * kPageSize);
    blocks.emplace_back(block.begin(), block.end());
  }
  std::array<std::byte, kPageSize> out;
  std::size_t n = 0;
  for (auto _ : state) {
    ensure(codec->decompress(blocks[n % blocks.size()], out), "a block is decompressed");
    benchmark::DoNotOptimize(out.data());
    ++n;
  }
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(kPageSize));
}
BENCHMARK(BM_Decompress)->Apply(codecs);

}  // namespace
}  // namespace uzram::bench

BENCHMARK_MAIN();
