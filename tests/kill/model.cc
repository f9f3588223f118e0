#include "tests/kill/model.h"

#include <algorithm>
#include <cstring>

namespace uzram::kill {

bool Model::is_certain(std::uint64_t offset, std::uint64_t length) const {
  const auto first = maybe_.lower_bound(offset / kPageSize);
  return first == maybe_.end() || first->first * kPageSize >= offset + length;
}

void Model::begin(std::uint64_t offset, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const std::uint64_t n = offset / kPageSize;
    const std::size_t in_page = offset % kPageSize;
    const std::size_t here = std::min(bytes.size(), kPageSize - in_page);
    const auto old = page(n);
    Bytes changed(old.begin(), old.end());
    std::memcpy(&changed[in_page], bytes.data(), here);
    maybe_.insert_or_assign(n, std::move(changed));
    offset += here;
    bytes = bytes.subspan(here);
  }
}

void Model::finish(std::uint64_t offset, std::uint64_t length) {
  auto at = maybe_.lower_bound(offset / kPageSize);
  while (at != maybe_.end() && at->first * kPageSize < offset + length) {
    std::ranges::copy(at->second, page(at->first).begin());
    at = maybe_.erase(at);
  }
}

bool Model::settle(std::uint64_t offset, std::span<const std::byte> found) {
  for (std::uint64_t n = offset / kPageSize; !found.empty(); ++n, found = found.subspan(kPageSize)) {
    const auto now = found.first(kPageSize);
    const auto maybe = maybe_.find(n);
    const bool is_old = std::ranges::equal(now, page(n));
    if (maybe == maybe_.end()) {
      if (!is_old) return false;
      continue;
    }
    if (!is_old && !std::ranges::equal(now, maybe->second)) return false;
    ++(is_old ? settled_old_ : settled_new_);
    std::ranges::copy(now, page(n).begin());
    maybe_.erase(maybe);
  }
  return true;
}

Bytes draw_bytes(std::mt19937_64& random, std::size_t size) {
  Bytes bytes(size);
  for (std::size_t at = 0; at < size; at += kPageSize) {
    const auto run = std::span(bytes).subspan(at, std::min(kPageSize, size - at));
    const std::uint64_t kind = random() % 10;
    if (kind == 0) continue;  // zeroes
    const std::uint64_t word = kind == 1 ? random() % 1000 : random();
    for (std::size_t i = 0; i < run.size(); ++i) run[i] = static_cast<std::byte>(word >> i % 8 * 8);
    if (kind <= 2) continue;  // one word, in its slot or in an object
    const std::size_t noise = kind == 3 ? run.size() : random() % 3500;
    for (std::size_t i = 0; i < std::min(noise, run.size()); ++i) run[i] = static_cast<std::byte>(random());
  }
  return bytes;
}

}  // namespace uzram::kill
