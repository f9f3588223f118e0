#pragma once
// A mapped object, zsmalloc's zs_map_object and zs_unmap_object in one: the bytes of an object while this lives. An
// object that straddles two frames is presented in a buffer of its thread, and written back at the end if it was
// mapped for writing.
//
// Threads: belongs to the thread that mapped it.

#include <span>

#include "allocator/zs_pool.h"

namespace uzram {

class MappedObject {
 public:
  MappedObject(MappedObject&& other) noexcept;
  MappedObject& operator=(MappedObject&&) = delete;
  ~MappedObject();

  // The whole payload of the object's class, contiguous.
  [[nodiscard]] std::span<std::byte> bytes() const { return bytes_; }

 private:
  friend class ZsPool;
  MappedObject(ZsPool& pool, Location object, MapMode mode);

  ZsPool* pool_;
  Location object_;
  MapMode mode_;
  bool straddles_ = false;
  std::span<std::byte> bytes_;
};

}  // namespace uzram
