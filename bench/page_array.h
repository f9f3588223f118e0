#pragma once
// Pages compressed by plain LZ4 into an array that has room of one size for each: the least that keeping them
// compressed can cost. No allocator, no locks, no checks, no statistics.
//
// Threads: two may not use one page at once; an LZ4_stream_t belongs to one.

#include <lz4.h>
#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <stdexcept>
#include <vector>

#include "blockdev/types.h"

namespace uzram::bench {

class PageArray {
 public:
  // `room`: bytes for each page. A page that does not compress to less takes a whole page of it, or throws where the
  // room is less.
  PageArray(std::size_t pages, std::size_t room) : lengths_(pages), room_(room), size_(pages * room) {
    void* const memory = mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) throw std::runtime_error("no memory for an array of pages");
    memory_ = static_cast<char*>(memory);
  }
  ~PageArray() { munmap(memory_, size_); }
  PageArray(const PageArray&) = delete;
  PageArray& operator=(const PageArray&) = delete;

  void write(LZ4_stream_t& state, std::size_t page, std::span<const std::byte, kPageSize> in) {
    char* const to = memory_ + page * room_;
    const char* const from = reinterpret_cast<const char*>(in.data());
    int length = LZ4_compress_fast_extState(&state, from, to, kPageSize, static_cast<int>(room_) - 1, 1);
    if (length == 0) {
      if (room_ < kPageSize) throw std::runtime_error("a page does not fit its room");
      std::memcpy(to, from, kPageSize);
      length = kPageSize;
    }
    lengths_[page] = static_cast<std::uint16_t>(length);
  }

  // A page that was never written has whatever is in `out`.
  void read(std::size_t page, std::span<std::byte, kPageSize> out) const {
    const char* const from = memory_ + page * room_;
    const int length = lengths_[page];
    if (length == static_cast<int>(kPageSize)) {
      std::memcpy(out.data(), from, kPageSize);
    } else if (length != 0 && LZ4_decompress_safe(from, reinterpret_cast<char*>(out.data()), length, kPageSize) !=
                                  static_cast<int>(kPageSize)) {
      throw std::runtime_error("a page does not decompress");
    }
  }

 private:
  std::vector<std::uint16_t> lengths_;  // 0: never written
  const std::size_t room_;
  const std::size_t size_;
  char* memory_ = nullptr;
};

}  // namespace uzram::bench
