#include <lz4.h>
#include <lz4hc.h>

#include <algorithm>
#include <array>

#include "compress/contexts.h"
#include "compress/lz4_encoder.h"

namespace uzram {
namespace {

const char* chars(std::span<const std::byte> bytes) { return reinterpret_cast<const char*>(bytes.data()); }
char* chars(std::span<std::byte> bytes) { return reinterpret_cast<char*>(bytes.data()); }

// Spans reach LZ4 as int: all of ours are a page and a little.
int count(std::span<const std::byte> bytes) { return static_cast<int>(bytes.size()); }

// What lz4 and lz4hc share: one block format.
template <class Base>
class Lz4Block : public Base {
 public:
  bool decompress(std::span<const std::byte> in, std::span<std::byte> out) final {
    return LZ4_decompress_safe(chars(in), chars(out), count(in), count(out)) == count(out);
  }
};

class Lz4 final : public Lz4Block<Compressor> {
 public:
  explicit Lz4(int acceleration) : acceleration_(static_cast<unsigned>(acceleration)) {}

  void prepare() override { encoder_.prepare(); }

  std::span<const std::byte> compress(std::span<const std::byte> in, std::size_t most) override {
    const std::size_t length = encoder_.encode(in, out_, acceleration_);
    return std::span(out_).first(length <= most ? length : 0);
  }

 private:
  static_assert(Lz4Encoder::kMostInput == kMostInput);
  const unsigned acceleration_;
  Lz4Encoder encoder_;
  alignas(64) std::array<std::byte, Lz4Encoder::kRoom> out_{};
};

class Lz4hc final : public Lz4Block<Compressor> {
 public:
  explicit Lz4hc(int level) : level_(level) {}

  std::span<const std::byte> compress(std::span<const std::byte> in, std::size_t most) override {
    const auto room = std::span(out_).first(std::min(most, out_.size()));
    const int length = LZ4_compress_HC_extStateHC(&state_, chars(in), chars(room), count(in), count(room), level_);
    return room.first(static_cast<std::size_t>(length));
  }

 private:
  const int level_;
  LZ4_streamHC_t state_{};
  alignas(64) std::array<std::byte, LZ4_COMPRESSBOUND(kMostInput)> out_{};
};

}  // namespace

std::unique_ptr<Compressor> make_lz4(int acceleration) { return std::make_unique<Lz4>(acceleration); }
std::unique_ptr<Compressor> make_lz4hc(int level) { return std::make_unique<Lz4hc>(level); }
std::unique_ptr<Decompressor> make_lz4_reader() { return std::make_unique<Lz4Block<Decompressor>>(); }

}  // namespace uzram
