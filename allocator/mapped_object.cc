#include "allocator/mapped_object.h"

#include <array>
#include <cstring>
#include <utility>

#include "allocator/ensure.h"

namespace uzram {
namespace {
// Where a straddling object is presented; the kernel keeps one a CPU, as an object is mapped for a moment
// only.
thread_local struct {
  std::array<std::byte, kFrameSize> bytes;
  bool in_use = false;
} mapping_area;
}  // namespace

MappedObject ZsPool::map(Location object, MapMode mode) { return {*this, object, mode}; }

MappedObject::MappedObject(ZsPool& pool, Location object, MapMode mode) : pool_(&pool), object_(object), mode_(mode) {
  const unsigned index = pool.position(object).index;
  const std::size_t size = index == kHugeClass ? kFrameSize : pool.classes_[index].size - kHeaderSize;
  std::byte* const from = pool.payload(object, size);
  const std::size_t room = kFrameSize - reinterpret_cast<std::uintptr_t>(from) % kFrameSize;
  straddles_ = size > room;
  if (!straddles_) {
    bytes_ = {from, size};
    return;
  }
  ensure(!mapping_area.in_use, "a thread maps one object at a time");
  mapping_area.in_use = true;
  bytes_ = {mapping_area.bytes.data(), size};
  if (mode == MapMode::write_only) return;
  std::memcpy(bytes_.data(), from, room);
  std::memcpy(bytes_.data() + room, pool.next_frame(object), size - room);
}

MappedObject::MappedObject(MappedObject&& other) noexcept
    : pool_(std::exchange(other.pool_, nullptr)),
      object_(other.object_),
      mode_(other.mode_),
      straddles_(other.straddles_),
      bytes_(other.bytes_) {}

MappedObject::~MappedObject() {
  if (pool_ == nullptr || !straddles_) return;
  if (mode_ != MapMode::read_only) pool_->write(object_, bytes_);
  mapping_area.in_use = false;
}

}  // namespace uzram
