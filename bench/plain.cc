#include "bench/plain.h"

#include <lz4.h>
#include <lz4hc.h>
#include <zstd.h>

#include "allocator/ensure.h"

namespace uzram::bench {
namespace {

const char* source(std::span<const std::byte> bytes) { return reinterpret_cast<const char*>(bytes.data()); }
char* target(std::span<std::byte> bytes) { return reinterpret_cast<char*>(bytes.data()); }

class PlainLz4 : public Plain {
 public:
  explicit PlainLz4(int level) : level_(level) {}
  std::size_t compress(ConstPage in, std::span<std::byte, kRoom> out) override {
    return static_cast<std::size_t>(LZ4_compress_fast(source(in), target(out), kPageSize, kRoom, level_));
  }
  void decompress(std::span<const std::byte> in, Page out) override {
    const int n = LZ4_decompress_safe(source(in), target(out), static_cast<int>(in.size()), kPageSize);
    ensure(n == kPageSize, "lz4 reads what it wrote");
  }

 protected:
  const int level_;
};

class PlainLz4hc final : public PlainLz4 {
 public:
  using PlainLz4::PlainLz4;
  std::size_t compress(ConstPage in, std::span<std::byte, kRoom> out) override {
    return static_cast<std::size_t>(LZ4_compress_HC(source(in), target(out), kPageSize, kRoom, level_));
  }
};

class PlainZstd final : public Plain {
 public:
  explicit PlainZstd(int level) : level_(level), out_context_(ZSTD_createCCtx()), in_context_(ZSTD_createDCtx()) {}
  ~PlainZstd() override {
    ZSTD_freeCCtx(out_context_);
    ZSTD_freeDCtx(in_context_);
  }
  PlainZstd(const PlainZstd&) = delete;
  PlainZstd& operator=(const PlainZstd&) = delete;

  std::size_t compress(ConstPage in, std::span<std::byte, kRoom> out) override {
    return ZSTD_compressCCtx(out_context_, out.data(), kRoom, in.data(), kPageSize, level_);
  }
  void decompress(std::span<const std::byte> in, Page out) override {
    const std::size_t n = ZSTD_decompressDCtx(in_context_, out.data(), kPageSize, in.data(), in.size());
    ensure(n == kPageSize, "zstd reads what it wrote");
  }

 private:
  const int level_;
  ZSTD_CCtx* const out_context_;
  ZSTD_DCtx* const in_context_;
};

}  // namespace

std::unique_ptr<Plain> Plain::make(const CodecSpec& spec) {
  switch (spec.algorithm) {
    case Algorithm::lz4:
      return std::make_unique<PlainLz4>(spec.level);
    case Algorithm::lz4hc:
      return std::make_unique<PlainLz4hc>(spec.level);
    case Algorithm::zstd:
      break;
  }
  return std::make_unique<PlainZstd>(spec.level);
}

}  // namespace uzram::bench
