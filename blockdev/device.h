#pragma once
// A compressed RAM disk with zram's semantics: byte ranges in, pages compressed into a pool of its own.
//
// Ranges are right when they arrive here (the session validates them); a wrong one is a bug and asserts.
//
// Threads: everything may be called from any number of threads at once. Each page of a write is wholly old or
// wholly new to every reader; a write of part of a page keeps what others write to the rest of it. A Stream
// belongs to one thread at a time.

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <span>

#include "allocator/page_arena.h"
#include "allocator/zs_pool.h"
#include "blockdev/codec_table.h"
#include "blockdev/device_types.h"
#include "blockdev/slot_table.h"
#include "blockdev/types.h"
#include "compress/codec.h"

namespace uzram {

// One worker's buffers and codec context for one device; from Device::make_stream.
class Stream;
struct StreamDeleter {
  void operator()(Stream*) const;
};
using StreamPtr = std::unique_ptr<Stream, StreamDeleter>;

class Device {
 public:
  // A device that is not published yet: it ends with this process. Fails with a message where an option is out of its
  // range, or memory for the first frames is missing. `arena` outlives the device. No other device of the arena has its
  // number.
  [[nodiscard]] static Result<std::unique_ptr<Device>> create(PageArena& arena, const DeviceOptions& options,
                                                              const DeviceIdentity& identity = {});
  // What is stored in a shared arena stays, for the process that comes next; in a private one it is freed.
  ~Device();
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  // From here on the device is one of the arena's, for the process that comes next; until `unpublish`. For the moment
  // between the two of an exchange, two of one name may be.
  void publish();
  void unpublish();

  // Unpublishes it and frees everything; for a device that is removed. No client has it open any more; an observer may
  // still call what is not for clients, and finds it empty.
  void erase();

  // For a process that takes over without recovery; no other thread is at work. Null where the image is not right.
  void save(ImageWriter& image) const;
  [[nodiscard]] static std::unique_ptr<Device> load(PageArena& arena, ImageReader& image);

  // Allocates all that reads and writes need, so that they allocate nothing but pool memory.
  [[nodiscard]] StreamPtr make_stream() const;

  // Reads out.size() bytes from `offset`. On failure the bytes of `out` are unspecified.
  [[nodiscard]] IoResult read(Stream& stream, ByteOffset offset, std::span<std::byte> out);

  // Writes `in` at `offset`. On failure the pages before the failing one are written, it and the rest are as
  // before.
  [[nodiscard]] IoResult write(Stream& stream, ByteOffset offset, std::span<const std::byte> in);

  // Frees the whole pages inside the range; the partial pages at its edges stay as they are.
  void discard(ByteOffset offset, std::uint64_t length);

  // Makes the range read as zeroes: whole pages are freed, partial pages at the edges are written.
  [[nodiscard]] IoResult write_zeroes(Stream& stream, ByteOffset offset, std::uint64_t length);

  // The run of one kind that starts at `offset`, at most `length` bytes long; it may be shorter than the
  // kind's run.
  [[nodiscard]] Extent extent_at(ByteOffset offset, std::uint64_t length) const;
  // The same for how the pages are stored.
  [[nodiscard]] PageExtent page_extent_at(ByteOffset offset, std::uint64_t length) const;

  // Compacts the pool; returns the number of frames freed. Beside readers and writers.
  std::uint64_t compact();

  // Verifies what every page has to be read with: the slot's parity, the zspage's frame entries, the object's owner and
  // its check, which covers payload, length and codec. Nothing is decompressed, and without `check` the payload is not
  // verified. Beside readers and writers: each page as it is when its turn comes.
  ScrubReport scrub();

  // Marks every page that is kept in an object idle: reading or writing it clears the mark.
  void mark_idle();

  // Moves pages to the backing file and frees their objects, the largest first. A page that is read or written
  // meanwhile stays. ENODEV without a backing file, ENOSPC where it is full, EIO where the limit is used up or it
  // cannot be written, ERANGE for a page that the device does not have: what was moved until then has been. Beside
  // readers and writers.
  [[nodiscard]] Result<void> write_back(const WritebackRequest& request);

  // Sets the algorithm of a priority from 1 to 3, which then stays. EINVAL for another priority, EBUSY where another
  // algorithm has been set, EAGAIN while a pass is under way.
  [[nodiscard]] Result<void> set_recompression(unsigned priority, const CodecSpec& codec);
  [[nodiscard]] const CodecTable& codecs() const { return codecs_; }

  // Compresses pages once more, with the algorithm of a priority, and keeps what takes a smaller size class; the
  // largest objects first, and none that an algorithm of this or a higher priority made. The others lose their idle
  // mark, and if no priority is higher, they are incompressible until they are written anew. A page that is read or
  // written meanwhile stays as it is. EINVAL where the priority has no algorithm or the threshold is not below the
  // pool's huge_class_size, ENOSPC where there is no memory. Beside readers and writers.
  [[nodiscard]] Result<void> recompress(const RecompressRequest& request);

  // Ends a pass of either kind that is under way after the pages that it is at, and all that come, with ECANCELED: for
  // the device's end.
  void end_passes() { ending_.store(true, std::memory_order_relaxed); }

  // How many pages may still be written back; counts down while it is enabled.
  struct WritebackLimit {
    std::atomic<bool> enabled{false};
    std::atomic<std::uint64_t> pages{0};
  };
  [[nodiscard]] WritebackLimit& writeback_limit() { return writeback_limit_; }
  [[nodiscard]] const WritebackLimit& writeback_limit() const { return writeback_limit_; }

  // Bytes, rounded up to pages, less than 2^52; 0 is none. Takes effect at once for what is allocated from now on.
  void set_mem_limit(std::uint64_t bytes);
  // Sets mem_used_max to what is used now.
  void reset_mem_used_max();

  [[nodiscard]] DeviceStats stats() const;
  [[nodiscard]] const ZsPool& pool() const { return pool_; }
  [[nodiscard]] const DeviceOptions& options() const { return options_; }  // as it began in this process
  [[nodiscard]] const DeviceIdentity& identity() const { return identity_; }
  [[nodiscard]] std::uint64_t size() const { return options_.size; }
  // Whether a write may be refused although the machine has memory: block status is then withheld (nbd.md
  // C34).
  [[nodiscard]] bool can_run_full() const;

  // Checks that slot table, pool and counters agree; for tests, with no other thread at work. Aborts if they
  // do not.
  void check_invariants() const;

 private:
  // Gauges and events, one line for each of a few workers; a reader sums them. A gauge of one line may be
  // negative.
  struct alignas(64) Counters {
    std::atomic<std::int64_t> pages{0};
    std::atomic<std::int64_t> compr_data_size{0};
    std::atomic<std::int64_t> same_pages{0};
    std::atomic<std::int64_t> huge_pages{0};
    std::atomic<std::int64_t> huge_pages_since{0};
    std::atomic<std::int64_t> failed_reads{0};
    std::atomic<std::int64_t> failed_writes{0};
    std::atomic<std::int64_t> notify_free{0};
    std::atomic<std::int64_t> check_failures{0};
    std::atomic<std::int64_t> scrub_failures{0};
    std::atomic<std::int64_t> bd_count{0};
    std::atomic<std::int64_t> bd_reads{0};
    std::atomic<std::int64_t> bd_writes{0};
  };
  using Counter = std::atomic<std::int64_t> Counters::*;
  static constexpr Counter kCounters[] = {
      &Counters::pages,          &Counters::compr_data_size,  &Counters::same_pages,
      &Counters::huge_pages,     &Counters::huge_pages_since, &Counters::failed_reads,
      &Counters::failed_writes,  &Counters::notify_free,      &Counters::check_failures,
      &Counters::scrub_failures, &Counters::bd_count,         &Counters::bd_reads,
      &Counters::bd_writes};
  static_assert(sizeof(Counters) <= (std::size(kCounters) * sizeof(std::int64_t) + 63) / 64 * 64);
  static constexpr unsigned kWorkers = 8;
  static constexpr unsigned kNoStream = 0;  // the worker where no stream is at hand

  using Page = std::span<std::byte, kPageSize>;
  using ConstPage = std::span<const std::byte, kPageSize>;

  friend class Recovery;
  friend class RecompressPass;
  friend class WritebackPass;

  Device(PageArena& arena, const DeviceOptions& options, const DeviceIdentity& identity, FrameNumber record);
  [[nodiscard]] Owner owner(PageIndex page) const { return Owner{std::uint64_t{identity_.number} << 32 | raw(page)}; }

  [[nodiscard]] IoResult read_page(Stream& stream, PageIndex page, Page out);
  void fetch_ahead(Stream& stream, PageIndex page, const Slot& slot) const;
  enum class Fetched : std::uint8_t { whole, damaged, changed };
  [[nodiscard]] Fetched fetch(PageIndex page, const Slot& slot, SlotValue value, Page into) const;
  [[nodiscard]] std::uint32_t block_check(PageIndex page, ConstPage bytes) const;
  [[nodiscard]] std::optional<IoResult> read_written_back(Stream& stream, PageIndex page, const Slot& slot,
                                                          SlotValue value, Page out);
  [[nodiscard]] bool decode(Stream& stream, PageIndex page, SlotValue value, Page out);
  [[nodiscard]] bool decode_object(Stream& stream, PageIndex page, SlotValue value, Page out);
  [[nodiscard]] bool is_whole(PageIndex page, SlotValue value, ObjectHeader header,
                              std::span<const std::byte> payload) const;
  [[nodiscard]] bool scrub_object(PageIndex page, SlotValue value) const;
  [[nodiscard]] std::optional<bool> scrub_in_memory(PageIndex page, SlotValue value, ScrubReport& report) const;
  void scrub_slot(PageIndex page, Slot& slot, ScrubReport& report) const;
  [[nodiscard]] IoResult write_page(Stream& stream, PageIndex page, ConstPage in);
  [[nodiscard]] IoResult write_part(Stream& stream, PageIndex page, std::size_t at, std::span<const std::byte> in);
  [[nodiscard]] IoResult zero_part(Stream& stream, ByteOffset offset, std::uint64_t length);
  [[nodiscard]] std::optional<SlotValue> store(Stream& stream, PageIndex page, ConstPage in);
  [[nodiscard]] std::optional<SlotValue> store_object(const Stream& stream, PageIndex page,
                                                      std::span<const std::byte> payload, unsigned codec);
  void replace(SlotGuard& slot, SlotValue value, unsigned worker);
  static void account(Counters& counters, SlotValue before, SlotValue after);
  void free_pages(PageIndex first, PageIndex end);
  [[nodiscard]] std::int64_t sum(Counter counter) const;
  [[nodiscard]] Counters& counters() const;

  const DeviceOptions options_;
  const DeviceIdentity identity_;
  // Held by all who use the table or the record without being a client, and alone by `erase`.
  std::shared_mutex life_;
  FrameNumber record_;  // the frame of the device's record; none once it is erased
  PageArena& arena_;
  ZsPool pool_;
  SlotTable table_;
  CodecTable codecs_;
  std::mutex post_processing_;  // one pass at a time: the mark of a chosen page is of one pass
  std::atomic<bool> ending_{false};
  WritebackLimit writeback_limit_;
  mutable std::atomic<unsigned> next_worker_{0};
  mutable std::array<Counters, kWorkers> counters_;
};

}  // namespace uzram
