// The backing file: whose it may be, and which of its blocks are taken.

#include "blockdev/backing_file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <array>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>

namespace uzram {
namespace {

namespace fs = std::filesystem;

class BackingFileTest : public ::testing::Test {
 protected:
  BackingFileTest() {
    char name[] = "/var/tmp/uzram-backing-XXXXXX";  // on a disk, where /tmp may be memory
    folder_ = ::mkdtemp(name);
    path_ = folder_ / "backing";
  }
  ~BackingFileTest() override { fs::remove_all(folder_); }

  void fill(const std::string& text) const { std::ofstream(path_, std::ios::binary) << text; }
  [[nodiscard]] std::string contents() const {
    std::ifstream file(path_, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  [[nodiscard]] Error refused(std::uint64_t size) const {
    const auto file = BackingFile::open(path_, size);
    EXPECT_FALSE(file);
    return file ? Error{0, ""} : file.error();
  }

  fs::path folder_;
  fs::path path_;
};

constexpr std::uint64_t kFour = 4 * kPageSize;

TEST_F(BackingFileTest, IsMadeForItsOwnerAlone) {
  const auto file = BackingFile::open(path_, kFour + 1);
  ASSERT_TRUE(file) << file.error().message;
  struct stat info {};
  ASSERT_EQ(::stat(path_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777U, 0600U);
  EXPECT_EQ(info.st_size, static_cast<off_t>(kFour));
}

TEST_F(BackingFileTest, TakesTheSizeOfAFileThatIsThere) {
  fill(std::string(kFour, '\0'));
  const auto file = BackingFile::open(path_, 0);
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_EQ((*file)->allocate(100).count, 3U);
}

TEST_F(BackingFileTest, KeepsPagesApart) {
  const auto file = BackingFile::open(path_, kFour);
  ASSERT_TRUE(file) << file.error().message;
  struct alignas(kPageSize) Pages : std::array<std::byte, 3 * kPageSize> {
  } out, in;
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = static_cast<std::byte>(i / kPageSize * 100 + i % 97);
  ASSERT_EQ((*file)->write(1, out), 0);
  ASSERT_EQ((*file)->read(1, in), 0);
  EXPECT_EQ(in, out);
  ASSERT_EQ((*file)->read(2, std::span(in).first(kPageSize)), 0);
  EXPECT_TRUE(std::equal(in.begin(), in.begin() + kPageSize, out.begin() + kPageSize));
  EXPECT_EQ((*file)->read(4, std::span(in).first(kPageSize)), EIO);  // beyond its end
}

TEST_F(BackingFileTest, HandsOutEveryBlockOnce) {
  const auto file = BackingFile::open(path_, 8 * kPageSize);
  ASSERT_TRUE(file) << file.error().message;
  BackingFile& f = **file;
  const auto first = f.allocate(3);
  const auto second = f.allocate(2);
  EXPECT_EQ(first.first, 1U);
  EXPECT_EQ(first.count, 3U);
  EXPECT_EQ(second.first, 4U);
  EXPECT_EQ(f.allocate(9).count, 2U);
  EXPECT_EQ(f.allocate(1).count, 0U);
  f.free({.first = 4, .count = 2});
  f.free({.first = 2, .count = 1});
  const auto third = f.allocate(9);
  EXPECT_EQ(third.first, 2U);
  EXPECT_EQ(third.count, 1U);
  const auto fourth = f.allocate(9);
  EXPECT_EQ(fourth.first, 4U);
  EXPECT_EQ(fourth.count, 2U);
  EXPECT_EQ(f.allocate(1).count, 0U);
}

TEST_F(BackingFileTest, RefusesWhatHoldsSomething) {
  std::string text(kFour, '\0');
  text[1080] = '\x53';  // where ext4 keeps its magic number
  fill(text);
  EXPECT_EQ(refused(0).code, EEXIST);
  EXPECT_EQ(refused(8 * kPageSize).code, EEXIST);
  EXPECT_EQ(contents(), text);
}

TEST_F(BackingFileTest, RefusesWhatHoldsSomethingBehindAHole) {
  std::ofstream(path_).flush();
  fs::resize_file(path_, 8 << 20);
  {
    std::fstream file(path_, std::ios::binary | std::ios::in | std::ios::out);
    file.seekp((5 << 20) + 77);
    file << "the only copy";
  }
  const std::string before = contents();
  EXPECT_EQ(refused(0).code, EEXIST);
  EXPECT_EQ(contents(), before);
}

TEST_F(BackingFileTest, TakesALargeFileOfZeroes) {
  fill(std::string(1 << 20, '\0'));
  EXPECT_TRUE(BackingFile::open(path_, 0));
}

TEST_F(BackingFileTest, TakesWhatAKilledDaemonLeft) {
  fill("uzram backing 1\n" + std::string(kFour, 'x'));
  const auto file = BackingFile::open(path_, 0);
  ASSERT_TRUE(file) << file.error().message;
}

TEST_F(BackingFileTest, IsEmptyAndAsLargeAtItsEnd) {
  {
    const auto file = BackingFile::open(path_, kFour);
    ASSERT_TRUE(file) << file.error().message;
    struct alignas(kPageSize) Page : std::array<std::byte, kPageSize> {
    } page;
    page.fill(std::byte{7});
    ASSERT_EQ((*file)->write(3, page), 0);
  }
  EXPECT_EQ(contents(), std::string(kFour, '\0'));
  EXPECT_TRUE(BackingFile::open(path_, 0));
}

TEST_F(BackingFileTest, IsOneDaemonsAtATime) {
  const auto file = BackingFile::open(path_, kFour);
  ASSERT_TRUE(file) << file.error().message;
  const Error error = refused(0);
  EXPECT_EQ(error.code, EBUSY);
  EXPECT_EQ(error.message, path_.string() + " is used by another process");
}

TEST_F(BackingFileTest, NeedsRoomForAPage) {
  EXPECT_EQ(refused(2 * kPageSize - 1).code, EINVAL);
  EXPECT_FALSE(fs::exists(path_));
  fill("");
  EXPECT_EQ(refused(0).code, EINVAL);
}

TEST_F(BackingFileTest, IsAFileOrADisk) {
  fs::create_directory(path_);
  EXPECT_EQ(refused(kFour).code, ENOTBLK);
  fs::remove(path_);
  EXPECT_EQ(refused(0).code, ENOENT);
  path_ = folder_ / "none" / "backing";
  EXPECT_EQ(refused(kFour).code, ENOENT);
}

}  // namespace
}  // namespace uzram
