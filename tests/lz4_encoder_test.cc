// The encoder's blocks, read by liblz4: inputs of every length, next to memory that nobody may touch.

#include "compress/lz4_encoder.h"

#include <gtest/gtest.h>
#include <lz4.h>

#include <algorithm>
#include <memory>
#include <random>
#include <span>
#include <vector>

#include "tests/guarded.h"

namespace uzram {
namespace {

using Bytes = std::vector<std::byte>;

// What memory holds, and what an encoder may stumble over: bytes that repeat after 1 to 9 bytes, or never; words of few
// values; matches that end with the input; and pieces of all that.
class Lz4EncoderTest : public testing::Test {
 protected:
  // Into room that ends at memory that nobody may touch.
  Bytes encode(std::span<const std::byte> in, unsigned acceleration = 1) {
    const std::size_t length = encoder_->encode(in, out_, acceleration);
    EXPECT_LE(length, static_cast<std::size_t>(LZ4_compressBound(static_cast<int>(in.size()))));
    return {out_.begin(), out_.begin() + static_cast<std::ptrdiff_t>(length)};
  }

  Bytes noise(std::size_t length) {
    Bytes bytes(length);
    for (std::byte& byte : bytes) byte = static_cast<std::byte>(random_());
    return bytes;
  }

  // Whether liblz4 makes exactly the input of the block.
  bool reads_back(std::span<const std::byte> block, std::span<const std::byte> in) {
    Bytes read(in.size() + 1);
    const int length =
        LZ4_decompress_safe(reinterpret_cast<const char*>(block.data()), reinterpret_cast<char*>(read.data()),
                            static_cast<int>(block.size()), static_cast<int>(in.size()));
    return length == std::ssize(in) && std::equal(in.begin(), in.end(), read.begin());
  }

  std::vector<Bytes> inputs(std::size_t length) {
    std::vector<Bytes> all;
    const auto add = [&](const auto& value_at) {
      Bytes& bytes = all.emplace_back(length);
      for (std::size_t i = 0; i < length; ++i) bytes[i] = static_cast<std::byte>(value_at(i));
    };
    for (std::size_t period = 1; period <= 9; ++period) {
      add([&](std::size_t i) { return i % period * 37; });
    }
    add([&](std::size_t) { return random_(); });
    add([&](std::size_t) { return random_() % 2; });
    add([&](std::size_t) { return random_() % 8; });
    add([&](std::size_t i) { return i < length / 2 ? random_() : 0; });
    add([&](std::size_t i) { return i % 64 < 50 ? i / 640 : random_(); });
    Bytes& pieces = all.emplace_back();
    while (pieces.size() < length) {
      const Bytes& from = all[random_() % (all.size() - 1)];
      const std::size_t most = std::min(length - pieces.size(), 1 + random_() % 100);
      const std::size_t at = random_() % (length - most + 1);
      pieces.insert(pieces.end(), from.begin() + static_cast<std::ptrdiff_t>(at),
                    from.begin() + static_cast<std::ptrdiff_t>(at + most));
    }
    return all;
  }

  std::mt19937_64 random_{20261128};
  const std::unique_ptr<Lz4Encoder> encoder_ = std::make_unique<Lz4Encoder>();
  Guarded guarded_;
  Guarded room_;
  const std::span<std::byte, Lz4Encoder::kRoom> out_ = room_.room(Lz4Encoder::kRoom).first<Lz4Encoder::kRoom>();
};

TEST_F(Lz4EncoderTest, InputsAreReadBackAndNothingBehindThemIsRead) {
  for (std::size_t length = 0; length <= Lz4Encoder::kMostInput; length += length < 300 ? 1 : 73) {
    for (const Bytes& input : inputs(length)) {
      const auto in = guarded_.copy(input);
      ASSERT_TRUE(reads_back(encode(in), in)) << length;
    }
  }
}

// A whole page has guards on both of its sides.
TEST_F(Lz4EncoderTest, APageIsReadBackAtEveryAcceleration) {
  for (const unsigned acceleration : {1U, 2U, 3U, 17U, 64U, 4096U, 65537U}) {
    for (const Bytes& input : inputs(Lz4Encoder::kMostInput)) {
      const auto in = guarded_.copy(input);
      ASSERT_TRUE(reads_back(encode(in, acceleration), in)) << acceleration;
    }
  }
}

TEST_F(Lz4EncoderTest, AccelerationPassesPositionsOver) {
  const Bytes input = inputs(Lz4Encoder::kMostInput).back();
  EXPECT_GT(encode(input, 50).size(), encode(input, 1).size());
}

// Noise of every length; the only match begins at the last place where one may.
TEST_F(Lz4EncoderTest, AMatchAtTheEndWritesNothingBehindTheRoom) {
  for (std::size_t length = 20; length <= Lz4Encoder::kMostInput; ++length) {
    Bytes bytes = noise(length);
    std::copy_n(bytes.begin(), 7, bytes.end() - 12);
    const auto in = guarded_.copy(bytes);
    ASSERT_TRUE(reads_back(encode(in), in)) << length;
  }
}

// Literals, as many of them again, and the end: lengths around those that take another byte.
TEST_F(Lz4EncoderTest, LengthsAtTheEdgesOfATokenAreWrittenInAsFewBytesAsTheyNeed) {
  const auto bytes_beyond_token = [](std::size_t length) { return length < 15 ? 0 : (length - 15) / 255 + 1; };
  constexpr std::size_t kEnd = 12;
  for (const std::size_t literals : {14U, 15U, 16U, 269U, 270U, 271U, 524U, 525U, 526U}) {
    for (const std::size_t match : {5U, 6U, 14U, 18U, 19U, 20U, 268U, 273U, 274U, 275U}) {
      // Of many literals not every position is looked at: short matches may be passed over.
      if (match > literals || (literals > 64 && match < 18)) continue;
      Bytes bytes = noise(literals);
      bytes.insert(bytes.end(), bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(match));
      const Bytes end = noise(kEnd);
      bytes.insert(bytes.end(), end.begin(), end.end());
      bytes[literals + match] = ~bytes[match];  // or the match might go on
      const Bytes block = encode(bytes);
      EXPECT_TRUE(reads_back(block, bytes));
      EXPECT_EQ(block.size(),
                1 + bytes_beyond_token(literals) + literals + 2 + bytes_beyond_token(match - 4) + 1 + kEnd)
          << literals << " literals, a match of " << match;
    }
  }
}

TEST_F(Lz4EncoderTest, BlocksAreNotOnePercentLongerThanThoseOfLiblz4) {
  std::size_t ours = 0;
  int theirs = 0;
  for (int repeat = 0; repeat < 50; ++repeat) {
    for (const Bytes& input : inputs(Lz4Encoder::kMostInput)) {
      ours += encode(input).size();
      theirs += LZ4_compress_default(reinterpret_cast<const char*>(input.data()), reinterpret_cast<char*>(out_.data()),
                                     static_cast<int>(input.size()), static_cast<int>(out_.size()));
    }
  }
  EXPECT_LT(static_cast<double>(ours), theirs * 1.01);
}

TEST_F(Lz4EncoderTest, WhatCameBeforeChangesNothing) {
  const auto all = inputs(Lz4Encoder::kMostInput);
  for (const Bytes& first : all) {
    *encoder_ = Lz4Encoder();
    const Bytes alone = encode(first);
    for (const Bytes& before : all) {
      (void)encode(before);
      ASSERT_EQ(encode(first), alone);
      (void)encode(before);
      encoder_->prepare();
      encoder_->prepare();
      ASSERT_EQ(encode(first), alone);
    }
  }
}

}  // namespace
}  // namespace uzram
