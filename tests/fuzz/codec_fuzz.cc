// Every codec: a page comes back as it went in, and a payload that nobody compressed, or that was damaged, gives data
// or a refusal. Every buffer ends at a page that cannot be touched: the codecs' libraries are not built with
// sanitizers.
//
// The first byte chooses the codec, the second what is done. Built by clang with -fsanitize=fuzzer.

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <span>

#include "blockdev/types.h"
#include "compress/codec.h"
#include "tests/fuzz/world.h"

using namespace uzram;

namespace {

constexpr std::array kSpecs = {"lz4",  "lz4(level=50)",  "lz4hc",         "lz4hc(level=12)",
                               "zstd", "zstd(level=-5)", "zstd(level=19)"};

// Two pages' room in front of a page that cannot be touched.
class Guarded {
 public:
  static constexpr std::size_t kRoom = 2 * kPageSize;

  Guarded() {
    void* const at = mmap(nullptr, kRoom + kPageSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    fuzz::must(at != MAP_FAILED);
    bytes_ = static_cast<std::byte*>(at);
    fuzz::must(mprotect(bytes_ + kRoom, kPageSize, PROT_NONE) == 0);
  }
  // The last `size` bytes in front of the guard.
  [[nodiscard]] std::span<std::byte> last(std::size_t size) const { return {bytes_ + kRoom - size, size}; }

 private:
  std::byte* bytes_ = nullptr;
};

Compressor& codec(std::size_t index) {
  static std::array<std::unique_ptr<Compressor>, kSpecs.size()> codecs;
  if (!codecs[index]) codecs[index] = make_compressor(*CodecSpec::parse(kSpecs[index]));
  return *codecs[index];
}

// `in` again and again, until the page is full: the fuzzer need not find 4096 bytes one by one.
void repeat(std::span<const std::byte> in, std::span<std::byte> page) {
  for (std::size_t i = 0; i < page.size(); ++i) page[i] = in.empty() ? std::byte{0} : in[i % in.size()];
}

void decompress_anything(Compressor& compressor, std::span<const std::byte> payload) {
  static const Guarded in;
  static const Guarded out;
  const auto copy = in.last(payload.size());
  std::copy(payload.begin(), payload.end(), copy.begin());
  (void)compressor.decompress(copy, out.last(kPageSize));
}

// The page comes back; what is made of it with one byte changed may be anything that stays inside.
void round_trip(Compressor& compressor, std::span<const std::byte> bytes, std::size_t most) {
  static const Guarded in;
  static const Guarded packed;
  static const Guarded out;
  const auto page = in.last(kPageSize);
  repeat(bytes, page);
  const auto payload = compressor.compress(page, most);
  fuzz::must(payload.size() <= most);
  if (payload.empty()) return;
  const auto again = packed.last(payload.size());
  std::ranges::copy(payload, again.begin());
  fuzz::must(compressor.decompress(again, out.last(kPageSize)));
  fuzz::must(std::memcmp(out.last(kPageSize).data(), page.data(), kPageSize) == 0);
  again[bytes.size() % again.size()] ^= std::byte{static_cast<std::uint8_t>(1U << most % 8)};
  (void)compressor.decompress(again, out.last(kPageSize));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2 || size - 2 > Guarded::kRoom) return 0;
  Compressor& compressor = codec(data[0] % kSpecs.size());
  const auto bytes = std::as_bytes(std::span(data + 2, size - 2));
  if (data[1] < 128) {
    decompress_anything(compressor, bytes);
  } else {
    round_trip(compressor, bytes, (data[1] - 128U) * 32 + 1);
  }
  return 0;
}
