#pragma once
// Pages compressed and packed into memory: the least that keeping them in less memory can cost. A page lies in a place
// of its length, rounded up to 64 bytes; places of one size that were given up are used again, the last one first, and
// are linked through their first bytes, as zsmalloc links them: a list beside them would take memory.
// Nothing is shared between sizes, checked, counted, moved or given back.
//
// Threads: one at a time.

#include <sys/mman.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <stdexcept>
#include <vector>

#include "blockdev/types.h"
#include "compress/codec.h"

namespace uzram::bench {

class PackedPages {
 public:
  // Holds `pages` of them. Throws where what their sizes were at different times takes twice the room of all.
  explicit PackedPages(std::size_t pages) : kept_(pages), size_(2 * pages * kPageSize + kUnit) {
    void* const memory =
        mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) throw std::runtime_error("no memory for the packed pages");
    memory_ = static_cast<std::byte*>(memory);
  }
  ~PackedPages() { munmap(memory_, size_); }
  PackedPages(const PackedPages&) = delete;
  PackedPages& operator=(const PackedPages&) = delete;

  void write(Compressor& codec, std::size_t page, std::span<const std::byte, kPageSize> in) {
    const auto payload = codec.compress(in, kPageSize - 1);
    keep(page, payload.empty() ? in : payload);
  }

  // Keeps what a page was compressed to, by whatever did; the page itself where it is 4096 bytes long.
  void keep(std::size_t page, std::span<const std::byte> payload) {
    Kept& kept = kept_[page];
    const std::uint32_t place = take(units(payload.size()));
    std::memcpy(at(place), payload.data(), payload.size());
    if (kept.length != 0) give_up(kept);
    kept = {place, static_cast<std::uint32_t>(payload.size())};
  }

  // A page that was never written has whatever is in `out`.
  void read(Decompressor& codec, std::size_t page, std::span<std::byte, kPageSize> out) const {
    const Kept& kept = kept_[page];
    const std::span<const std::byte> payload(at(kept.place), kept.length);
    if (payload.size() == kPageSize) {
      std::memcpy(out.data(), payload.data(), kPageSize);
    } else if (!payload.empty() && !codec.decompress(payload, out)) {
      throw std::runtime_error("a page does not decompress");
    }
  }

 private:
  static constexpr std::size_t kUnit = 64;
  static constexpr std::uint32_t kNone = 0;  // no place
  struct Kept {
    std::uint32_t place = 0;   // in units
    std::uint32_t length = 0;  // bytes; 0: never written
  };

  static std::size_t units(std::size_t length) { return (length + kUnit - 1) / kUnit; }
  [[nodiscard]] std::byte* at(std::uint32_t place) const { return memory_ + place * kUnit; }

  void give_up(const Kept& kept) {
    std::uint32_t& first = given_up_[units(kept.length)];
    std::memcpy(at(kept.place), &first, sizeof first);
    first = kept.place;
  }

  std::uint32_t take(std::size_t units) {
    std::uint32_t& first = given_up_[units];
    if (first != kNone) {
      const std::uint32_t place = first;
      std::memcpy(&first, at(place), sizeof first);
      return place;
    }
    if ((end_ + units) * kUnit > size_) throw std::runtime_error("the packed pages are full");
    end_ += units;
    return static_cast<std::uint32_t>(end_ - units);
  }

  std::vector<Kept> kept_;
  std::array<std::uint32_t, kPageSize / kUnit + 1> given_up_{};  // of each number of units, the first
  const std::size_t size_;
  std::size_t end_ = 1;  // in units; the first one is nobody's
  std::byte* memory_ = nullptr;
};

}  // namespace uzram::bench
