#pragma once
// The codecs of a device's objects, by zram's priorities: 0 compresses what is written, 1 to 3 recompress it. A slot
// has kCodecFirst + priority.
//
// An entry is set once, before any object is its, and never changes: whoever has the lock of an object's slot may look
// its entry up.
//
// Threads: any number look up; one at a time sets.

#include <array>
#include <atomic>
#include <optional>

#include "compress/codec.h"

namespace uzram {

class CodecTable {
 public:
  static constexpr unsigned kPriorities = 4;

  // Nothing where there is no such priority, or none has been set.
  [[nodiscard]] std::optional<CodecSpec> at(unsigned priority) const {
    if (priority >= kPriorities || !entries_[priority].there.load(std::memory_order_acquire)) return std::nullopt;
    return entries_[priority].spec;
  }

  // `priority` has not been set.
  void set(unsigned priority, const CodecSpec& spec) {
    entries_[priority].spec = spec;
    entries_[priority].there.store(true, std::memory_order_release);
  }

  // The highest that has been set; 0 is.
  [[nodiscard]] unsigned highest() const {
    unsigned priority = kPriorities - 1;
    while (priority > 0 && !at(priority)) --priority;
    return priority;
  }

 private:
  struct Entry {
    CodecSpec spec;
    std::atomic<bool> there{false};
  };
  std::array<Entry, kPriorities> entries_;
};

}  // namespace uzram
