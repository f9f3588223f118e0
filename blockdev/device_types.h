#pragma once
// What a Device is made with, what it is asked for, and what it tells.

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "allocator/size_class.h"
#include "blockdev/types.h"
#include "compress/codec.h"

namespace uzram {

class BackingFile;

struct DeviceOptions {
  std::string name = "zram0";
  std::uint64_t size = 0;  // bytes; rounded up to pages, 1 page to kMaxDeviceBytes
  CodecSpec codec{};
  std::uint64_t mem_limit = 0;  // bytes of pool, rounded up to pages; 0: none
  Geometry geometry{};          // the rule, the chain length and the fullness threshold of the pool
  bool check = true;            // keep and verify a 24-bit check of every object
  // Names the contents, and stays with them; all zero: a new one is drawn.
  std::array<std::byte, 16> uuid{};
  BackingFile* backing = nullptr;  // where pages are written back to; outlives the device, in a private arena only
};

inline constexpr unsigned kMaxDevices = 255;

// Which of an arena's devices this is: its number is in its objects' headers and its leaves' tags, so that no two
// devices share one; the sequence gives their order.
struct DeviceIdentity {
  std::uint8_t number = 0;
  std::uint64_t sequence = 0;
};

// What mm_stat and io_stat are made of; sizes in bytes, the rest in pages or events.
struct DeviceStats {
  std::uint64_t orig_data_size = 0;
  std::uint64_t compr_data_size = 0;
  std::uint64_t mem_used_total = 0;
  std::uint64_t mem_limit = 0;
  std::uint64_t mem_used_max = 0;
  std::uint64_t same_pages = 0;
  std::uint64_t pages_compacted = 0;
  std::uint64_t huge_pages = 0;        // stored as they are, now
  std::uint64_t huge_pages_since = 0;  // stored as they are, ever
  std::uint64_t failed_reads = 0;
  std::uint64_t failed_writes = 0;
  std::uint64_t notify_free = 0;     // pages freed by discard and write-zeroes
  std::uint64_t check_failures = 0;  // reads that met a damaged object
  std::uint64_t scrub_failures = 0;  // damaged pages that scrubs met
  std::uint64_t bd_count = 0;        // pages that are written back, now
  std::uint64_t bd_reads = 0;        // blocks of the backing file that were read, ever
  std::uint64_t bd_writes = 0;       // and written
  std::uint64_t table_memory = 0;    // bytes of the slot table; not part of mem_used_total, as in zram
};

// What `write_back` moves to the backing file: of all pages those that are huge, idle or incompressible, or all of that
// if more than one is asked for; or all of the named pages.
struct WritebackRequest {
  struct Pages {
    PageIndex first{};
    PageIndex last{};  // inclusive
  };
  bool huge = false;
  bool idle = false;
  bool incompressible = false;  // tried by recompress, in vain
  std::vector<Pages> pages{};   // empty: all of the device's
};

// What `recompress` tries: of the pages that are kept in an object those that are huge, or idle, or both if both are
// asked for.
struct RecompressRequest {
  bool huge = false;
  bool idle = false;
  unsigned priority = 1;
  std::size_t threshold = 0;    // bytes: smaller objects are left, and none becomes this or larger; 0: none
  std::uint64_t max_pages = 0;  // how many are tried; 0: all
};

// What a scrub found.
struct ScrubReport {
  static constexpr std::size_t kNamed = 16;

  std::uint64_t pages = 0;       // that hold something
  std::uint64_t objects = 0;     // of those, kept in an object; the others are in their slot
  std::uint64_t damaged = 0;     // pages whose reads fail
  std::vector<PageIndex> named;  // the first of the damaged ones, in ascending order
};

// What a run of bytes is, for block status.
enum class ExtentKind : std::uint8_t {
  hole,  // never written or discarded: reads as zeroes, uses nothing
  zero,  // a written page of zeroes: uses no object
  data,
};
struct Extent {
  std::uint64_t length = 0;  // bytes, at least 1
  ExtentKind kind = ExtentKind::hole;
};

// How a page is stored.
enum class PageState : std::uint8_t { hole, same_filled, compressed, huge, written_back, damaged };
struct PageExtent {
  std::uint64_t length = 0;  // bytes, at least 1
  PageState kind = PageState::hole;
};

}  // namespace uzram
