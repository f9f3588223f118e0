// ZSTD_c_format and ZSTD_d_format are names for stable parameter numbers, behind this switch; no function is.
#define ZSTD_STATIC_LINKING_ONLY
#include <zstd.h>

#include <array>
#include <cassert>
#include <new>

#include "compress/contexts.h"

namespace uzram {
namespace {

// Whether `in` is one frame of one block as Zstd::compress makes them, its length as the headers say: a frame
// descriptor of 0, a window descriptor, and the 24 bits of a block header (RFC 8878, 3.1.1.2). zstd would
// take several frames, skippable ones and those of its old versions too, and it reads up to three bytes past
// input that ends inside the first four bytes of a magicless frame (1.5.4, ZSTD_decompressMultiFrame).
bool is_one_block(std::span<const std::byte> in) {
  constexpr std::size_t kHeaders = 5;
  if (in.size() <= kHeaders || in[0] != std::byte{0}) return false;
  const auto at = [&](std::size_t i) { return std::to_integer<std::uint32_t>(in[i]); };
  const std::uint32_t header = at(2) | at(3) << 8 | at(4) << 16;
  const bool last = (header & 1) != 0;
  const bool repeats_a_byte = (header >> 1 & 3) == 1;
  return last && in.size() - kHeaders == (repeats_a_byte ? 1 : header >> 3);
}

struct FreeContext {
  void operator()(ZSTD_CCtx* context) const { ZSTD_freeCCtx(context); }
  void operator()(ZSTD_DCtx* context) const { ZSTD_freeDCtx(context); }
};

// Reads frames of one block.
template <class Base>
class ZstdFrame : public Base {
 public:
  ZstdFrame() {
    if (!in_context_ ||
        ZSTD_isError(ZSTD_DCtx_setParameter(in_context_.get(), ZSTD_d_format, ZSTD_f_zstd1_magicless))) {
      throw std::bad_alloc();
    }
  }

  bool decompress(std::span<const std::byte> in, std::span<std::byte> out) final {
    return is_one_block(in) &&
           ZSTD_decompressDCtx(in_context_.get(), out.data(), out.size(), in.data(), in.size()) == out.size();
  }

 private:
  const std::unique_ptr<ZSTD_DCtx, FreeContext> in_context_{ZSTD_createDCtx()};
};

class Zstd final : public ZstdFrame<Compressor> {
 public:
  explicit Zstd(int level) : out_context_(ZSTD_createCCtx()) {
    if (!out_context_) throw std::bad_alloc();
    // A page's frame is a descriptor and one block: no magic number, size, checksum or dictionary to repeat
    // 2^32 times.
    set(ZSTD_c_compressionLevel, level);
    set(ZSTD_c_format, ZSTD_f_zstd1_magicless);
    set(ZSTD_c_contentSizeFlag, 0);
    set(ZSTD_c_checksumFlag, 0);
    set(ZSTD_c_dictIDFlag, 0);
    // The context takes its memory with the first page; here rather than on the I/O path.
    const std::array<std::byte, kMostInput> page{};
    if (compress(page, out_.size()).empty()) throw std::bad_alloc();
  }

  std::span<const std::byte> compress(std::span<const std::byte> in, std::size_t most) override {
    assert(in.size() <= kMostInput);
    // zstd may refuse a block that would just fit, so it gets all the room that it could want.
    const std::size_t length = ZSTD_compress2(out_context_.get(), out_.data(), out_.size(), in.data(), in.size());
    if (ZSTD_isError(length) || length > most) return {};
    return std::span(out_).first(length);
  }

 private:
  void set(ZSTD_cParameter parameter, int value) {
    if (ZSTD_isError(ZSTD_CCtx_setParameter(out_context_.get(), parameter, value))) throw std::bad_alloc();
  }

  const std::unique_ptr<ZSTD_CCtx, FreeContext> out_context_;
  alignas(64) std::array<std::byte, ZSTD_COMPRESSBOUND(kMostInput)> out_{};
};

}  // namespace

std::unique_ptr<Compressor> make_zstd(int level) { return std::make_unique<Zstd>(level); }
std::unique_ptr<Decompressor> make_zstd_reader() { return std::make_unique<ZstdFrame<Decompressor>>(); }

}  // namespace uzram
