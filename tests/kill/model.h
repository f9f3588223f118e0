#pragma once
// What a device has to hold, for a client that was told of some of its writes only: each page holds its bytes, or,
// where a change of it was never answered, those of the change.
//
// Threads: one.

#include <cstddef>
#include <cstdint>
#include <map>
#include <random>
#include <span>
#include <vector>

#include "blockdev/types.h"

namespace uzram::kill {

using Bytes = std::vector<std::byte>;

class Model {
 public:
  explicit Model(std::uint64_t size) : bytes_(size) {}

  [[nodiscard]] std::uint64_t size() const { return bytes_.size(); }
  [[nodiscard]] std::span<const std::byte> bytes(std::uint64_t offset, std::uint64_t length) const {
    return std::span(bytes_).subspan(offset, length);
  }
  // Whether no page of the range is of two minds.
  [[nodiscard]] bool is_certain(std::uint64_t offset, std::uint64_t length) const;

  // A change of the range, which is certain, to `bytes` is asked for. Then one of the two: it was answered, or it never
  // will be.
  void begin(std::uint64_t offset, std::span<const std::byte> bytes);
  void finish(std::uint64_t offset, std::uint64_t length);

  // The pages of the range, read from the device: false where one is neither as before nor as after a change. What was
  // found is what it holds from here on. Both ends are a page's.
  [[nodiscard]] bool settle(std::uint64_t offset, std::span<const std::byte> found);

  [[nodiscard]] std::uint64_t settled_old() const { return settled_old_; }  // pages whose change did not take place
  [[nodiscard]] std::uint64_t settled_new() const { return settled_new_; }

 private:
  [[nodiscard]] std::span<std::byte> page(std::uint64_t n) {
    return std::span(bytes_).subspan(n * kPageSize, kPageSize);
  }

  Bytes bytes_;
  std::map<std::uint64_t, Bytes> maybe_;  // by page
  std::uint64_t settled_old_ = 0;
  std::uint64_t settled_new_ = 0;
};

// Bytes of every kind that the device tells apart, in runs of a page: zeroes, one word repeated, noise, and what
// compresses to some length between.
[[nodiscard]] Bytes draw_bytes(std::mt19937_64& random, std::size_t size);

}  // namespace uzram::kill
