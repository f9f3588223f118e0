// What a ZsPool knows beside its arena, for a process that takes over from this one without recovery.

#include "allocator/image.h"
#include "allocator/zs_pool.h"

namespace uzram {

void ZsPool::save(ImageWriter& image) const {
  image.put(pages_.load(std::memory_order_relaxed));
  image.put(max_pages_.load(std::memory_order_relaxed));
  image.put(limit_.load(std::memory_order_relaxed));
  image.put(pages_compacted_.load(std::memory_order_relaxed));
  for (const auto& lanes : lanes_) {
    for (const Lane& lane : lanes) {
      image.put(lane.partly_filled.load(std::memory_order_relaxed));
      image.put(lane.lists);
      image.put(lane.zspages);
      image.put(lane.almost_empty);
      image.put(lane.objects_used);
    }
  }
}

bool ZsPool::load(ImageReader& image) {
  pages_ = image.get<std::uint64_t>();
  max_pages_ = image.get<std::uint64_t>();
  limit_ = image.get<std::uint64_t>();
  pages_compacted_ = image.get<std::uint64_t>();
  for (auto& lanes : lanes_) {
    for (Lane& lane : lanes) {
      lane.partly_filled = image.get<std::uint16_t>();
      lane.lists = image.get<decltype(lane.lists)>();
      lane.zspages = image.get<decltype(lane.zspages)>();
      lane.almost_empty = image.get<decltype(lane.almost_empty)>();
      lane.objects_used = image.get<decltype(lane.objects_used)>();
    }
  }
  return image.good();
}

}  // namespace uzram
