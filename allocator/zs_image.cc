// What a ZsPool knows beside its arena, for a process that takes over from this one without recovery.

#include "allocator/image.h"
#include "allocator/zs_pool.h"

namespace uzram {

void ZsPool::save(ImageWriter& image) const {
  image.put(pages_.load(std::memory_order_relaxed));
  image.put(max_pages_.load(std::memory_order_relaxed));
  image.put(limit_.load(std::memory_order_relaxed));
  image.put(pages_compacted_.load(std::memory_order_relaxed));
  for (const ClassState& c : states_) {
    image.put(c.partly_filled);
    image.put(c.lists);
    image.put(c.zspages);
    image.put(c.almost_empty);
    image.put(c.objects_used);
  }
}

bool ZsPool::load(ImageReader& image) {
  pages_ = image.get<std::uint64_t>();
  max_pages_ = image.get<std::uint64_t>();
  limit_ = image.get<std::uint64_t>();
  pages_compacted_ = image.get<std::uint64_t>();
  for (ClassState& c : states_) {
    c.partly_filled = image.get<decltype(c.partly_filled)>();
    c.lists = image.get<decltype(c.lists)>();
    c.zspages = image.get<decltype(c.zspages)>();
    c.almost_empty = image.get<decltype(c.almost_empty)>();
    c.objects_used = image.get<decltype(c.objects_used)>();
  }
  return image.good();
}

}  // namespace uzram
