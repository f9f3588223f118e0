#pragma once
// The page arena: the only place that takes memory from the system and gives it back, one 4 KiB frame at a
// time.
//
// It is one range of address space, reserved in proportion to the machine's memory and committed in chunks of
// 1 MiB as frames are asked for. The first frame of a chunk holds the entries of the chunk's frames, so the
// range describes itself, and every link in it is a frame's number or a Location: offsets, never pointers.
//
// On a file it is shared memory: what is in it outlives the process, and `rebuild` takes it over.
//
// Not here: what frames are for (ZsPool, SlotTable), and any limit but the machine's (ZsPool has the memory
// limit).
//
// Threads: everything may be called from any thread. A frame's bytes, entry and state belong to whoever
// allocated it.

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <span>

#include "allocator/arena_file.h"
#include "allocator/frame_entry.h"
#include "allocator/spin_lock.h"
#include "allocator/types.h"

namespace uzram {

class ImageReader;
class ImageWriter;

class PageArena {
 public:
  struct Options {
    std::uint64_t capacity = 0;  // bytes of address space; 0: twice the machine's memory
    std::uint64_t reserve = 0;   // bytes committed at once and never given back; rounded up to chunks
    bool grow = true;            // commit more than the reserve when it is used up
    bool lock = false;           // mlock what is committed
    std::uint64_t ahead = 0;     // bytes that a thread of the caller's keeps free by `grow_ahead`; 0: there is none
    int fd = -1;                 // the file to share, kept open by the caller; -1: private memory
    // Private memory that is not locked comes in huge pages from this byte on: where so much is kept that the processor
    // cannot hold the addresses of its pages, and the 1 MiB that may be taken ahead is little beside it.
    std::uint64_t huge_from = 256 << 20;
  };

  static constexpr std::uint32_t kChunkFrames = 256;
  // Free frames are given back to the system this many at a time, by a call of `free` that leaves twice as many.
  static constexpr std::size_t kReleaseBatch = 512;

  // Throws std::system_error where the system refuses the range or the reserve, std::runtime_error where the file holds
  // something that cannot be served. A file that holds a state: frames can be looked at, and none be allocated or
  // freed until `rebuild`.
  explicit PageArena(const Options& options);
  ~PageArena();
  PageArena(const PageArena&) = delete;
  PageArena& operator=(const PageArena&) = delete;

  // Fills `out` with frames whose bytes are unspecified, or returns false and takes none. Their entries read
  // `free`.
  [[nodiscard]] bool allocate(std::span<FrameNumber> out);
  // Takes frames back. Their entries must not be live any more for anyone.
  void free(std::span<const FrameNumber> frames);

  // Growth ahead of need, for who must not wait for the system where frames are allocated (`grow` is false, then): one
  // thread of the caller's waits here until fewer than `ahead` bytes are free, or `stop_ahead` was called: false.
  [[nodiscard]] bool wait_until_low() const;
  // Commits some more. False where the system has no memory, or the range no room.
  [[nodiscard]] bool grow_ahead();
  void stop_ahead();

  [[nodiscard]] std::byte* bytes(FrameNumber frame) const { return base_ + std::size_t{raw(frame)} * kFrameSize; }
  [[nodiscard]] std::byte* bytes(Location location) const { return base_ + raw(location) * 16; }
  [[nodiscard]] FrameEntry& entry(FrameNumber frame) const {
    const std::uint32_t n = raw(frame);
    auto* entries = reinterpret_cast<FrameEntry*>(base_ + std::size_t{n & ~(kChunkFrames - 1)} * kFrameSize);
    return entries[n % kChunkFrames];
  }
  [[nodiscard]] ZspageState& state(FrameNumber frame) const { return states_[raw(frame)]; }

  // Whether the file held a state, which `rebuild` has not taken over yet.
  [[nodiscard]] bool holds_state() const { return holds_state_; }
  // Frames from this one on are not committed.
  [[nodiscard]] FrameNumber end() const;
  // Recovery: takes the state over; each frame that is not `used` becomes free. False where there is no memory.
  [[nodiscard]] bool rebuild(const std::function<bool(FrameNumber)>& used);

  // A process that takes over from one that has saved an image, without recovery. `lock_ahead` does what can be done
  // while that one still serves; it, and a `load` that fails, change nothing in the file.
  [[nodiscard]] bool lock_ahead();
  // Between the two, by one thread, nothing is committed, so that `save` tells all.
  void hold_growth() { growth_.lock(); }
  void let_grow() { growth_.unlock(); }
  void save(ImageWriter& image) const;
  [[nodiscard]] bool load(ImageReader& image);
  // Commits what is missing of the reserve. False where there is no memory.
  [[nodiscard]] bool fill_reserve();

  struct Stats {
    std::uint64_t capacity_frames = 0;   // the whole range
    std::uint64_t committed_frames = 0;  // backed by memory: in use, free, or entries
    std::uint64_t free_frames = 0;       // committed and free
    std::uint64_t released_frames = 0;   // given back to the system, ever
  };
  [[nodiscard]] Stats stats() const;
  [[nodiscard]] const Options& options() const { return options_; }

 private:
  struct Run {
    std::uint32_t first = 0;
    std::uint32_t count = 0;
  };
  using Batch = std::array<FrameNumber, kReleaseBatch>;
  static constexpr std::uintptr_t kHugeBytes = 2 << 20;  // of a huge page
  // Of a bit for each huge page that so many frames may touch.
  static constexpr std::uint64_t split_bytes(std::uint64_t frames) {
    return (frames * kFrameSize / kHugeBytes + 2 + 63) / 64 * sizeof(std::uint64_t);
  }

  void map(std::uint64_t bytes);
  void unmap();
  [[nodiscard]] bool begin_file();
  [[noreturn]] void abandon(const char* what);
  [[nodiscard]] bool back(Run run);
  [[nodiscard]] bool may_be_huge(Run run) const;
  void advise_huge_pages(Run run, int advice) const;
  [[nodiscard]] Run claim_run();  // under mutex_; an uncommitted run, or an empty one
  [[nodiscard]] bool commit(Run run);
  void add_free(Run run);         // under mutex_
  void push_free(FrameNumber f);  // under mutex_
  FrameNumber pop_free();         // under mutex_
  void release(Batch& batch);
  [[nodiscard]] static Run run_at(const Batch& batch, std::size_t i);
  [[nodiscard]] bool give_back_at_once(const Batch& batch) const;
  void split_huge_pages(Run run) const;
  [[nodiscard]] bool give_back(Run run);
  [[nodiscard]] bool take_free(std::span<FrameNumber> out);
  [[nodiscard]] bool has_free(std::size_t frames) const;
  [[nodiscard]] bool grow();  // under growth_, but for the constructor
  void tell_level();
  void mark_absent(std::uint32_t f);  // under mutex_
  [[nodiscard]] bool is_absent(std::uint32_t f) const { return (absent_[f / 64] >> (f % 64) & 1) != 0; }

  Options options_;
  std::byte* base_ = nullptr;
  ZspageState* states_ = nullptr;
  ArenaHeader* header_ = nullptr;  // of the file, if there is one
  bool holds_state_ = false;
  std::uint64_t* absent_ = nullptr;  // a bit a frame: inside a committed chunk, but given back
  std::uint64_t* split_ = nullptr;   // a bit for the frames of each huge page: it has been split
  std::uint32_t capacity_ = 0;       // frames
  std::uint64_t reserve_ = 0;        // frames
  std::uint64_t ahead_ = 0;          // frames

  std::mutex growth_;  // held by the thread that commits; taken before mutex_
  static constexpr std::uint32_t kEnough = 0;
  static constexpr std::uint32_t kLow = 1;
  static constexpr std::uint32_t kStopped = 2;
  std::atomic<std::uint32_t> level_{kEnough};  // of the free frames; kept where `ahead` is not 0

  mutable SpinLock mutex_;
  FrameNumber free_head_ = FrameNumber::none;
  std::uint32_t chunks_end_ = 0;  // the first frame that no chunk has covered yet
  std::uint32_t absent_cursor_ = 0;
  std::uint64_t absent_count_ = 0;
  std::uint64_t free_count_ = 0;
  std::uint64_t committed_ = 0;
  std::uint64_t released_ = 0;
};

}  // namespace uzram
