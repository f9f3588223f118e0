// Damages a state at the places that the input gives, and takes it over. It is refused, or each page reads as it was
// written, fails, or is empty where more was damaged than one bit; then the devices work. Five bytes of the input are
// one damage: a region, a position in it, what is done there, and a value.

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <map>
#include <random>
#include <stdexcept>
#include <vector>

#include "allocator/ensure.h"
#include "blockdev/object_check.h"
#include "blockdev/recovery.h"

namespace {

using namespace uzram;
using Bytes = std::vector<std::byte>;

constexpr std::uint64_t kPages = 96;  // of each device; not all of them are written
constexpr std::uint64_t kCapacity = 16 << 20;

Bytes make_page(std::uint64_t n) {
  std::mt19937_64 random(n);
  Bytes bytes(kPageSize);
  if (n % 6 == 5) return bytes;  // stays unwritten, or is zeroes
  const std::size_t noise = n % 6 == 0 ? kPageSize : n * 131 % 3000;
  for (std::size_t i = 0; i < noise; ++i) bytes[i] = static_cast<std::byte>(random());
  if (n % 6 == 1) std::fill(bytes.begin(), bytes.end(), static_cast<std::byte>(n));
  return bytes;
}

// Made once: random numbers took most of a run.
const Bytes& page_of(std::uint64_t n) {
  static const std::vector<Bytes> pages = [] {
    std::vector<Bytes> made;
    for (std::uint64_t i = 0; i <= kPages; ++i) made.push_back(make_page(i));
    return made;
  }();
  return pages.at(n);
}

// Where the state keeps a page, as offsets in the file.
struct Place {
  std::size_t slot = 0;
  std::size_t header = 0;              // of its object, if it has one
  std::vector<std::size_t> payload{};  // a byte each
  std::uint64_t word = 0;
};

// A state as a process left it, and what is in it.
class State {
 public:
  State() : fd_(memfd_create("state", MFD_CLOEXEC)) {
    {
      PageArena arena({.capacity = kCapacity, .fd = fd_});
      const auto first = make(arena, {.name = "a", .size = kPages * kPageSize}, 0);
      const auto second = make(arena, {.name = "b", .size = kPages * kPageSize, .codec = {Algorithm::zstd, 1}}, 1);
      find_places(arena);
    }
    bytes_.resize(static_cast<std::size_t>(lseek(fd_, 0, SEEK_END)));
    ensure(pread(fd_, bytes_.data(), bytes_.size(), 0) == static_cast<ssize_t>(bytes_.size()), "the state is read");
  }

  [[nodiscard]] const Bytes& bytes() const { return bytes_; }
  [[nodiscard]] int fd() const { return fd_; }
  [[nodiscard]] const Place& place(std::uint8_t device, std::uint64_t page) const {
    return places_.at(device * kPages + page);
  }
  // The frames that a region is made of: entries, the header, slots, nodes, records, objects; then all of them.
  [[nodiscard]] const std::vector<std::uint32_t>& region(unsigned n) const { return regions_[n % 7]; }

 private:
  static std::unique_ptr<Device> make(PageArena& arena, const DeviceOptions& options, std::uint8_t number) {
    auto device = std::move(*Device::create(arena, options, {number, number}));
    const StreamPtr stream = device->make_stream();
    for (std::uint64_t n = 0; n < kPages; ++n) {
      if (n % 12 == 5) continue;
      ensure(device->write(*stream, ByteOffset{n * kPageSize}, page_of(n)).has_value(), "a page is written");
    }
    for (std::uint64_t n = 80; n < 90; ++n) device->discard(ByteOffset{n * kPageSize}, kPageSize);
    device->publish();
    return device;
  }

  void find_places(const PageArena& arena) {
    for (std::uint32_t f = 0; f < raw(arena.end()); ++f) {
      const FrameKind kind = f == 0 ? FrameKind::free : arena.entry(FrameNumber{f}).link().kind;
      regions_[6].push_back(f);
      if (f == 0) regions_[0].push_back(f);
      if (kind == FrameKind::header) regions_[1].push_back(f);
      if (kind == FrameKind::node) regions_[3].push_back(f);
      if (kind == FrameKind::device) regions_[4].push_back(f);
      if (kind == FrameKind::head || kind == FrameKind::tail) regions_[5].push_back(f);
      if (kind != FrameKind::leaf) continue;
      regions_[2].push_back(f);
      const auto tag = LeafTag::unpack(arena.entry(FrameNumber{f}).tag);
      for (std::uint64_t n = 0; n < kPages; ++n) add_place(arena, FrameNumber{f}, tag->device * kPages + n, n);
    }
  }

  void add_place(const PageArena& arena, FrameNumber leaf, std::uint64_t key, std::uint64_t n) {
    Place place{.slot = raw(leaf) * kFrameSize + n * sizeof(Slot)};
    std::memcpy(&place.word, arena.bytes(leaf) + n * sizeof(Slot), sizeof place.word);
    const SlotValue value(place.word);
    if (value.kind() == SlotKind::object) {
      const FrameNumber frame = frame_of(value.location());
      const std::size_t at = raw(value.location()) * 16;
      place.header = value.is_huge() ? offset_of(arena, &arena.entry(frame).tag) : at;
      const std::size_t first = value.is_huge() ? at : at + sizeof(std::uint64_t);
      const std::size_t rest = std::size_t{raw(arena.entry(frame).link().next)} * kFrameSize;
      const std::size_t end = (std::size_t{raw(frame)} + 1) * kFrameSize;
      for (std::size_t i = first; i < first + value.length(); ++i)
        place.payload.push_back(i < end ? i : rest + i - end);
    }
    places_.emplace(key, std::move(place));
  }
  static std::size_t offset_of(const PageArena& arena, const void* at) {
    return static_cast<std::size_t>(static_cast<const std::byte*>(at) - arena.bytes(FrameNumber::none));
  }

  const int fd_;
  Bytes bytes_;
  std::map<std::uint64_t, Place> places_;
  std::vector<std::uint32_t> regions_[7];
};

// The state with the input's damage. Returns how much of it is left.
std::size_t damage(const State& state, const std::uint8_t* data, std::size_t size, Bytes& bytes) {
  std::size_t left = bytes.size();
  for (; size >= 5; data += 5, size -= 5) {
    const auto& frames = state.region(data[0]);
    const std::size_t position = data[1] + data[2] * std::size_t{256};
    const std::size_t at =
        std::size_t{frames[position / kFrameSize % frames.size()]} * kFrameSize + position % kFrameSize;
    switch (data[3] % 8) {
      case 0:
        bytes[at] = static_cast<std::byte>(data[4]);
        break;
      case 1:  // eight bytes from elsewhere in the region: a link, a slot, a tag or a header that is another's
        std::memmove(&bytes[at & ~std::size_t{7}], &bytes[(at & ~std::size_t{0xfff}) + data[4] * 8U], 8);
        break;
      case 2:
        if (data[4] == 77) left = std::min(left, position * 16);
        break;
      default:
        bytes[at] ^= std::byte{1} << data[4] % 8;
    }
  }
  return left;
}

unsigned bits_changed(const Bytes& a, const Bytes& b, std::size_t from, std::size_t count) {
  unsigned bits = 0;
  for (std::size_t i = from; i < from + count; ++i) {
    bits += static_cast<unsigned>(std::popcount(std::to_integer<unsigned>(a[i] ^ b[i])));
  }
  return bits;
}

// Whether the checks cannot tell: more than one bit of the slot, or payload and header both, or a collision of 24 bits.
bool is_beyond_checks(const Place& place, const Bytes& was, const Bytes& is) {
  if (bits_changed(was, is, place.slot, sizeof(Slot)) > 1) return true;
  Bytes payload;
  bool changed = false;
  for (const std::size_t at : place.payload) {
    payload.push_back(is[at]);
    changed = changed || is[at] != was[at];
  }
  if (!changed) return false;
  std::uint64_t header = 0;
  std::memcpy(&header, &is[place.header], sizeof header);
  return object_check(payload, SlotValue(place.word).codec()) == ObjectHeader::unpack(header).check;
}

void check_pages(const State& state, const Bytes& is, Device& device, bool may_be_lost) {
  const StreamPtr stream = device.make_stream();
  Bytes bytes(kPageSize);
  for (std::uint64_t n = 0; n < kPages; ++n) {
    if (!device.read(*stream, ByteOffset{n * kPageSize}, bytes)) continue;
    const Place& place = state.place(device.identity().number, n);
    const bool is_empty = place.word == 0;
    if (bytes == (is_empty ? Bytes(kPageSize) : page_of(n))) continue;
    if (may_be_lost && bytes == Bytes(kPageSize)) continue;
    ensure(is_beyond_checks(place, state.bytes(), is), "a page reads as it was written, or fails");
  }
}

void use(Device& device) {
  const StreamPtr stream = device.make_stream();
  device.set_mem_limit(0);
  for (std::uint64_t n = 0; n < kPages; ++n) {
    ensure(device.write(*stream, ByteOffset{n * kPageSize}, page_of(n + 1)).has_value(), "a page is written");
  }
  device.compact();
  device.check_invariants();
  ensure(device.scrub().damaged == 0, "what was written anew is whole");
  device.discard(ByteOffset{0}, kPages * kPageSize);
  device.check_invariants();
  ensure(device.stats().mem_used_total == 0, "an empty device uses no memory");
}

// `left` of the bytes are in the file.
void take_over(const State& state, const Bytes& is, std::size_t left) {
  PageArena arena({.capacity = kCapacity, .fd = state.fd()});
  ensure(arena.holds_state() == (left != 0), "only an empty file is begun anew");
  if (!arena.holds_state()) return;
  const auto recovered = recover(arena);
  if (!recovered) return;
  // What is neither a slot nor an object: header, entries, records. One bit of these makes it refused, or harms
  // nothing.
  unsigned structure = 0;
  for (const unsigned region : {0U, 1U, 4U}) {
    for (const std::uint32_t f : state.region(region)) {
      structure += bits_changed(state.bytes(), is, std::size_t{f} * kFrameSize, kFrameSize);
    }
  }
  ensure(recovered->devices.size() == 2 || structure > 1, "a device is not lost");
  for (const auto& device : recovered->devices) check_pages(state, is, *device, structure > 1);
  for (const auto& device : recovered->devices) use(*device);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const State state;
  if (size > 5000) return 0;
  Bytes bytes = state.bytes();
  const std::size_t left = damage(state, data, size, bytes);
  ensure(ftruncate(state.fd(), 0) == 0, "the state is emptied");
  ensure(pwrite(state.fd(), bytes.data(), left, 0) == static_cast<ssize_t>(left), "the state is written");
  try {
    take_over(state, bytes, left);
  } catch (const std::runtime_error&) {
    // refused
  }
  return 0;
}
