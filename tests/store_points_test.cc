// Looks at the shared state after every store of a sequence into it, and takes it over from there, as after a kill:
// each page is as before or as after, nothing is damaged, and every frame belongs to somebody.

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <optional>
#include <random>
#include <set>

#include "allocator/ensure.h"
#include "blockdev/device_table.h"
#include "blockdev/recovery.h"
#include "tests/state_whole.h"
#include "tests/store_trap.h"

namespace uzram::testing {
namespace {

using Bytes = std::vector<std::byte>;
constexpr std::uint64_t kCapacity = 64 << 20;
constexpr std::uint64_t kPages = 64;  // of the device, unless a story needs more

// A page that no other (n, version) has; `noise` bytes of it do not compress.
Bytes page_of(std::uint64_t n, std::uint64_t version = 0, std::size_t noise = 1000) {
  std::mt19937_64 random(n * 1000 + version);
  Bytes bytes(kPageSize);
  for (std::size_t i = 0; i < noise; ++i) bytes[i] = static_cast<std::byte>(random());
  return bytes;
}
Bytes words(std::uint64_t word) {
  Bytes bytes(kPageSize);
  for (std::size_t i = 0; i < bytes.size(); i += sizeof word) std::memcpy(&bytes[i], &word, sizeof word);
  return bytes;
}

// A process's view of the state.
struct World {
  World(int fd, std::uint64_t pages) : arena({.capacity = kCapacity, .fd = fd}), devices(arena) {
    if (arena.holds_state()) return;
    create("zram0", pages);
    stream = device().make_stream();
  }
  void take_over() { devices.adopt(std::move(recover(arena).value().devices)); }
  void create(const char* name, std::uint64_t pages) {
    DeviceOptions options;
    options.name = name;
    options.size = pages * kPageSize;
    ensure(devices.create(options).has_value(), "the story goes as it should");
  }
  Device& device() { return **devices.find("zram0"); }
  void write(std::uint64_t offset, const Bytes& bytes) {
    ensure(device().write(*stream, ByteOffset{offset}, bytes).has_value(), "the story goes as it should");
  }
  void write_page(std::uint64_t n, const Bytes& bytes) { write(n * kPageSize, bytes); }
  void discard(std::uint64_t n) { device().discard(ByteOffset{n * kPageSize}, kPageSize); }

  PageArena arena;
  DeviceTable devices;
  StreamPtr stream;
};

struct Process {
  int fd;
  std::uint64_t pages;
  std::optional<World> world;
};

struct Story {
  const char* name;
  void (*prepare)(Process&);
  void (*act)(Process&);
  std::uint64_t pages = kPages;
  bool punches = false;  // the kernel changes the file at the end, by no store
  unsigned every = 1;    // of the points that are recovered from
  bool whole = false;    // the device changes at once, not page by page
};

void nothing(Process&) {}
void ten_pages(Process& c) {
  for (std::uint64_t n = 0; n < 10; ++n) c.world->write_page(n, page_of(n));
}

// Objects of one class, most of them discarded again: some zspages can be emptied into others.
void sparse_class(Process& c) {
  for (std::uint64_t n = 0; n < 48; ++n) c.world->write_page(n, page_of(n));
  for (std::uint64_t n = 0; n < 48; ++n) {
    if (n % 4 != 0) c.world->discard(n);
  }
}

void set_zstd(Process& c) {
  ensure(c.world->device().set_recompression(1, {Algorithm::zstd, 1}).has_value(), "the story goes as it should");
}

// Digits, which LZ4 can hardly compress, some zeroes behind most of them, and one page that nothing compresses.
void pages_for_zstd(Process& c) {
  for (std::uint64_t n = 0; n < 10; ++n) {
    Bytes bytes = page_of(n, 0, n == 3 ? kPageSize : n % 2 == 0 ? kPageSize : 1000 + n * 200);
    if (n != 3) {
      for (std::byte& b : bytes) b &= std::byte{0x0f};
    }
    c.world->write_page(n, bytes);
  }
  set_zstd(c);
}

void two_devices(Process& c) {
  ten_pages(c);
  c.world->create("second", 8);
}

void fill_the_chunk(Process& c) {
  for (std::uint64_t n = 0; c.world->arena.stats().free_frames > 0; ++n) {
    c.world->write_page(n, page_of(n, 0, kPageSize));
  }
}

// As many free frames as there may be: one more, and a batch of them is given back.
void many_free_frames(Process& c) {
  for (std::uint64_t n = 0; n < c.pages; ++n) c.world->write_page(n, page_of(n, 0, kPageSize));
  for (std::uint64_t n = 1; c.world->arena.stats().free_frames + 1 < 2 * PageArena::kReleaseBatch; ++n) {
    c.world->discard(n);
  }
}

// What a process leaves that was killed while it held locks, and had begun a zspage and an object.
void killed_at_work(Process& c) {
  sparse_class(c);
  auto& pool = const_cast<ZsPool&>(c.world->device().pool());
  (void)pool.malloc(700, {Owner{60}, 5});
  (void)pool.malloc(1000, {Owner{4}, 6});
  for (std::uint32_t f = 1; f < PageArena::kChunkFrames; ++f) {
    if (c.world->arena.entry(FrameNumber{f}).link().kind != FrameKind::leaf) continue;
    auto* const slots = reinterpret_cast<std::uint64_t*>(c.world->arena.bytes(FrameNumber{f}));
    for (std::uint64_t n = 0; n < kPages; n += 3) slots[n] |= SlotValue::kLock;
  }
  c.world.reset();
  c.world.emplace(c.fd, c.pages);
}

const Story kStories[] = {
    {"FirstWriteOfALeaf", nothing, [](Process& c) { c.world->write_page(3, page_of(3)); }},
    {"WriteIntoAZspage", ten_pages, [](Process& c) { c.world->write_page(20, page_of(20)); }},
    {"WriteThatMakesAZspage", ten_pages, [](Process& c) { c.world->write_page(20, page_of(20, 0, 2000)); }},
    {"OverwriteInItsClass", ten_pages, [](Process& c) { c.world->write_page(2, page_of(2, 1)); }},
    {"OverwriteThatFreesAZspage",
     [](Process& c) {
       ten_pages(c);
       c.world->write_page(2, page_of(2, 1, 3000));
     },
     [](Process& c) { c.world->write_page(2, page_of(2, 2)); }},
    {"OverwriteByAWordInTheSlot", ten_pages, [](Process& c) { c.world->write_page(2, words(5)); }},
    {"OverwriteByAWordInAnObject", ten_pages, [](Process& c) { c.world->write_page(2, words(0x123456789abcdef0)); }},
    {"OverwriteByWhatDoesNotCompress", ten_pages, [](Process& c) { c.world->write_page(2, page_of(2, 1, kPageSize)); }},
    {"WriteOfPartOfAPage", ten_pages,
     [](Process& c) { c.world->write(2 * kPageSize + 100, Bytes(500, std::byte{9})); }},
    {"WriteOfPartsOfThreePages", ten_pages, [](Process& c) { c.world->write(2 * kPageSize + 100, page_of(90)); }},
    {"WriteBeyondTheMemoryLimit",
     [](Process& c) {
       ten_pages(c);
       c.world->device().set_mem_limit(kPageSize);
     },
     [](Process& c) {
       ensure(!c.world->device().write(*c.world->stream, ByteOffset{0}, page_of(0, 1, 3000)),
              "the story goes as it should");
     }},
    {"SetOfTheMemoryLimit", ten_pages, [](Process& c) { c.world->device().set_mem_limit(1 << 20); }},
    {"Discard", ten_pages, [](Process& c) { c.world->discard(4); }},
    {"DiscardThatFreesAZspage",
     [](Process& c) {
       ten_pages(c);
       c.world->write_page(2, page_of(2, 1, 3000));
     },
     [](Process& c) { c.world->discard(2); }},
    {"DiscardOfAll", ten_pages, [](Process& c) { c.world->device().discard(ByteOffset{0}, kPages * kPageSize); }},
    {"WriteOfZeroesAcrossPages", ten_pages,
     [](Process& c) {
       ensure(c.world->device().write_zeroes(*c.world->stream, ByteOffset{kPageSize / 2}, 3 * kPageSize).has_value(),
              "the story goes as it should");
     }},
    {"Compaction", sparse_class,
     [](Process& c) { ensure(c.world->device().compact() != 0, "the story goes as it should"); }},
    {"SetOfARecompressionAlgorithm", ten_pages, set_zstd},
    {"Recompression", pages_for_zstd,
     [](Process& c) {
       Device& device = c.world->device();
       const std::uint64_t before = device.stats().compr_data_size;
       ensure(device.recompress({}).has_value(), "the story goes as it should");
       ensure(device.stats().compr_data_size < before, "the story goes as it should");
     }},
    {"CreationOfADevice", ten_pages, [](Process& c) { c.world->create("second", 8); }},
    {"RemovalOfADevice", two_devices,
     [](Process& c) { ensure(c.world->devices.remove("second").has_value(), "the story goes as it should"); }},
    {.name = "ResetOfADevice",
     .prepare =
         [](Process& c) {
           ten_pages(c);
           c.world->stream.reset();
         },
     .act = [](Process& c) { ensure(c.world->devices.reset("zram0").has_value(), "the story goes as it should"); },
     .whole = true},
    {.name = "WriteThatGrowsTheArena",
     .prepare = fill_the_chunk,
     .act = [](Process& c) { c.world->write_page(400, page_of(400, 0, kPageSize)); },
     .pages = 512},
    {.name = "DiscardThatGivesFramesBack",
     .prepare = many_free_frames,
     .act = [](Process& c) { c.world->discard(0); },
     .pages = 1100,
     .punches = true,
     .every = 16},
    {"Recovery", killed_at_work, [](Process& c) { c.world->take_over(); }},
};

using Snapshot = std::map<std::string, std::vector<Bytes>>;

std::vector<Bytes> pages_of(Device& device) {
  const StreamPtr stream = device.make_stream();
  std::vector<Bytes> pages(device.size() / kPageSize, Bytes(kPageSize));
  for (std::size_t n = 0; n < pages.size(); ++n) {
    EXPECT_TRUE(device.read(*stream, ByteOffset{n * kPageSize}, pages[n])) << "page " << n;
  }
  return pages;
}

// The state as it was when it was last looked at.
class Mirror {
 public:
  Mirror(int fd, const std::byte* mapped) : fd_(fd), mapped_(mapped) {}

  // The first byte that has changed since, if any has.
  std::optional<std::size_t> look() {
    struct stat info {};
    fstat(fd_, &info);
    bytes_.resize(static_cast<std::size_t>(info.st_size));
    std::optional<std::size_t> first;
    for (std::size_t at = 0; at < bytes_.size(); at += kFrameSize) {
      if (std::memcmp(&bytes_[at], mapped_ + at, kFrameSize) == 0) continue;
      if (!first)
        first = at + static_cast<std::size_t>(std::mismatch(&bytes_[at], &bytes_[at] + kFrameSize, mapped_ + at).first -
                                              &bytes_[at]);
      std::memcpy(&bytes_[at], mapped_ + at, kFrameSize);
    }
    return first;
  }
  [[nodiscard]] const Bytes& bytes() const { return bytes_; }

 private:
  const int fd_;
  const std::byte* const mapped_;
  Bytes bytes_;
};

struct Count {
  unsigned stores = 0;
  unsigned points = 0;  // stores that changed something
  unsigned recovered = 0;
  unsigned run = 0;      // points one byte after the other
  std::size_t last = 0;  // the first byte that the last point changed
};

class StorePoints : public ::testing::TestWithParam<Story> {
 protected:
  ~StorePoints() override { close(copy_); }

  // What a process finds that takes over a copy of the state.
  Snapshot recovered(std::span<const std::byte> file) const {
    EXPECT_EQ(ftruncate(copy_, static_cast<off_t>(file.size())), 0);
    EXPECT_EQ(pwrite(copy_, file.data(), file.size(), 0), static_cast<ssize_t>(file.size()));
    PageArena arena({.capacity = 64 << 20, .fd = copy_});
    const auto found = recover(arena);
    EXPECT_TRUE(found) << found.error().message;
    if (!found) return {};
    EXPECT_EQ(found->report.damaged_pages, 0U);
    EXPECT_EQ(check_whole(arena, found->devices), "");
    Snapshot snapshot;
    for (const auto& device : found->devices) snapshot.emplace(device->options().name, pages_of(*device));
    return snapshot;
  }
  Snapshot recovered(const Process& process) const {
    Mirror mirror(process.fd, process.world->arena.bytes(FrameNumber::none));
    (void)mirror.look();
    return recovered(mirror.bytes());
  }

  // A process at the beginning of the story.
  static void begin(Process& process) {
    process.world.emplace(process.fd, process.pages);
    GetParam().prepare(process);
  }

  // The state before and after the story, from a process that goes through it at once.
  void run_through() {
    const int fd = memfd_create("story", MFD_CLOEXEC);
    Process process{fd, GetParam().pages, {}};
    begin(process);
    before_ = recovered(process);
    GetParam().act(process);
    after_ = recovered(process);
    close(fd);
  }

  // Whether each device is as before or as after; and if it is in both, each page.
  void check(const Snapshot& now) const {
    std::set<std::string> names;
    for (const auto& [name, pages] : now) {
      names.insert(name);
      const auto old = before_.find(name);
      const auto fresh = after_.find(name);
      ASSERT_TRUE(old != before_.end() || fresh != after_.end()) << name;
      if (old == before_.end() || fresh == after_.end() || GetParam().whole) {
        EXPECT_TRUE((old != before_.end() && pages == old->second) ||
                    (fresh != after_.end() && pages == fresh->second));
        continue;
      }
      for (std::size_t n = 0; n < pages.size(); ++n) {
        ASSERT_TRUE(pages[n] == old->second[n] || pages[n] == fresh->second[n]) << name << " page " << n;
      }
    }
    for (const auto& [name, pages] : before_) {
      EXPECT_TRUE(names.contains(name) || !after_.contains(name)) << name << " is lost";
    }
  }

  const int copy_ = memfd_create("copy", MFD_CLOEXEC);
  Snapshot before_;
  Snapshot after_;
};

TEST_P(StorePoints, EachIsRecoveredFrom) {
  run_through();
  const int fd = memfd_create("stopped", MFD_CLOEXEC);
  Process process{fd, GetParam().pages, {}};
  begin(process);
  Mirror mirror(fd, process.world->arena.bytes(FrameNumber::none));
  (void)mirror.look();
  Count count;
  const auto after_store = [&] {
    ++count.stores;
    const auto change = mirror.look();
    if (!change || HasFailure()) return;
    ++count.points;
    // A copy byte by byte is one store for each; of such a run every 64th will do.
    count.run = *change == count.last + 1 ? count.run + 1 : 0;
    count.last = *change;
    if (count.run % 64 != 0 || count.points % GetParam().every != 0) return;
    ++count.recovered;
    SCOPED_TRACE("point " + std::to_string(count.points));
    check(recovered(mirror.bytes()));
  };
  at_each_store(
      {process.world->arena.bytes(FrameNumber::none), kCapacity}, [&] { GetParam().act(process); }, after_store);
  EXPECT_TRUE(count.points > 0 || before_ == after_);
  EXPECT_EQ(mirror.look().has_value(), GetParam().punches) << "every change was stopped at";
  EXPECT_EQ(recovered(mirror.bytes()), after_);
  std::printf("%-32s %6u stores, %6u points, %6u recovered from\n", GetParam().name, count.stores, count.points,
              count.recovered);
  close(fd);
}

INSTANTIATE_TEST_SUITE_P(All, StorePoints, ::testing::ValuesIn(kStories),
                         [](const auto& story) { return std::string(story.param.name); });

}  // namespace
}  // namespace uzram::testing
