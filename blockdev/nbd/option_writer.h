#pragma once
// Gathers the answers to an option until they are sent together.
//
// Threads: those of its handshake.

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "blockdev/nbd/wire.h"

namespace uzram::nbd {

class OptionWriter {
 public:
  template <class T>
  void put(T value) {
    std::array<std::byte, sizeof(T)> bytes;
    store_be(bytes.data(), value);
    bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
  }
  void put_text(std::string_view text) {
    const auto bytes = std::as_bytes(std::span(text));
    bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
  }
  void put_zeroes(std::size_t n) { bytes_.resize(bytes_.size() + n); }

  // Answers to `option`. The header of one with `length` bytes, which follow:
  void reply(Option option, OptionReply type, std::size_t length) {
    put(kOptionReplyMagic);
    put(option);
    put(type);
    put(static_cast<std::uint32_t>(length));
  }
  void ack(Option option) { reply(option, OptionReply::ack, 0); }
  void refuse(Option option, OptionReply error, std::string_view why) {
    reply(option, error, why.size());
    put_text(why);
  }
  void export_info(Option option, std::uint64_t size, std::uint16_t flags) {
    reply(option, OptionReply::info, 12);
    put(Info::exported);
    put(size);
    put(flags);
  }
  void name_info(Option option, std::string_view name) {
    reply(option, OptionReply::info, 2 + name.size());
    put(Info::name);
    put_text(name);
  }
  void block_size_info(Option option) {
    reply(option, OptionReply::info, 14);
    put(Info::block_size);
    put(kMinBlockBytes);
    put(kPreferredBlockBytes);
    put(kMaxRequestBytes);
  }
  void context(Option option, std::uint32_t id, std::string_view name) {
    reply(option, OptionReply::meta_context, 4 + name.size());
    put(id);
    put_text(name);
  }

  [[nodiscard]] std::vector<std::byte>& bytes() { return bytes_; }

 private:
  std::vector<std::byte> bytes_;
};

}  // namespace uzram::nbd
