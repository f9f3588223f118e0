#include "allocator/arena_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <stdexcept>
#include <string>
#include <system_error>

namespace uzram {
namespace {

// What the header holds, as read from the file.
struct RawHeader {
  std::uint64_t magic;
  std::uint32_t version;
  std::uint32_t frame_size;
  std::uint32_t chunk_frames;
  std::uint32_t header_size;
  std::uint64_t chunks;
};
static_assert(sizeof(RawHeader) == sizeof(ArenaHeader));

[[noreturn]] void refuse(const std::string& why) { throw std::runtime_error("the state cannot be served: " + why); }

}  // namespace

std::optional<std::uint32_t> read_chunks(int fd, std::uint32_t chunk_frames) {
  struct stat info {};
  if (fstat(fd, &info) != 0) throw std::system_error(errno, std::generic_category(), "the state cannot be read");
  if (info.st_size == 0) return std::nullopt;
  RawHeader header{};
  const auto offset = static_cast<off_t>(raw(kHeaderFrame) * kFrameSize);
  if (pread(fd, &header, sizeof header, offset) != static_cast<ssize_t>(sizeof header)) {
    refuse("it is cut short before its header");
  }
  if (header.magic != ArenaHeader::kMagic) refuse("it does not begin as one of uzram's");
  if (header.version != ArenaHeader::kVersion) {
    refuse("it is of version " + std::to_string(header.version) + ", this program reads version " +
           std::to_string(ArenaHeader::kVersion));
  }
  if (header.frame_size != kFrameSize || header.chunk_frames != chunk_frames ||
      header.header_size != sizeof(ArenaHeader)) {
    refuse("it was written with another geometry");
  }
  const std::uint64_t chunk_bytes = chunk_frames * kFrameSize;
  const auto chunks = static_cast<std::uint32_t>(header.chunks);
  if (chunks == 0 || header.chunks != ArenaHeader::pack_chunks(chunks)) refuse("its header is damaged");
  if (chunks > static_cast<std::uint64_t>(info.st_size) / chunk_bytes) {
    refuse("it is cut short: " + std::to_string(info.st_size) + " bytes where it says " +
           std::to_string(chunks * chunk_bytes));
  }
  return chunks;
}

bool commit_file(int fd, std::uint64_t offset, std::uint64_t bytes) {
  int result = 0;
  do {
    result = fallocate(fd, 0, static_cast<off_t>(offset), static_cast<off_t>(bytes));
  } while (result != 0 && errno == EINTR);
  return result == 0;
}

bool punch_file(int fd, std::uint64_t offset, std::uint64_t bytes) {
  int result = 0;
  do {
    result = fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset),
                       static_cast<off_t>(bytes));
  } while (result != 0 && errno == EINTR);
  return result == 0;
}

}  // namespace uzram
