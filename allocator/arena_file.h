#pragma once
// The file below a shared arena (a memfd, or a file in tmpfs), which outlives the process: its header, and how its
// bytes are committed and given back. The header is frame 1 of the file; frame 0 holds entries, as every 256th does.
//
// Threads: free functions without state of their own.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "allocator/types.h"

namespace uzram {

inline constexpr FrameNumber kHeaderFrame{1};

// Written once, but for `chunks`. A file with another version or geometry is refused.
struct ArenaHeader {
  static constexpr std::uint64_t kMagic = 0x314d4152'5a550a0d;  // "\r\nUZRAM1"
  static constexpr std::uint32_t kVersion = 1;

  std::uint64_t magic = kMagic;
  std::uint32_t version = kVersion;
  std::uint32_t frame_size = kFrameSize;
  std::uint32_t chunk_frames = 0;
  std::uint32_t header_size = sizeof(ArenaHeader);
  // Chunks that may hold something, and the same inverted in the upper half: never more than the file has, or it was
  // cut short.
  std::atomic<std::uint64_t> chunks{pack_chunks(0)};

  [[nodiscard]] static constexpr std::uint64_t pack_chunks(std::uint32_t n) { return std::uint64_t{~n} << 32 | n; }
};

// The number of chunks that the file's header tells, or nothing where the file is empty. Throws std::runtime_error,
// with one line that says why, where the file is not a state that this version can serve.
[[nodiscard]] std::optional<std::uint32_t> read_chunks(int fd, std::uint32_t chunk_frames);

// Backs bytes of the file with memory, extending it; false where there is none (ENOSPC).
[[nodiscard]] bool commit_file(int fd, std::uint64_t offset, std::uint64_t bytes);

// Gives bytes of the file back to the system; they read as zeroes.
[[nodiscard]] bool punch_file(int fd, std::uint64_t offset, std::uint64_t bytes);

}  // namespace uzram
