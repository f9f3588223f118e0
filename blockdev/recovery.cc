#include "blockdev/recovery.h"

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <utility>

#include "blockdev/device_record.h"
#include "blockdev/slot_table.h"

namespace uzram {

namespace {

// A bit for each of many things.
class Bitmap {
 public:
  explicit Bitmap(std::uint64_t bits) : words_((bits + 63) / 64) {}
  // Sets the bit; true if it was set before.
  bool set(std::uint64_t i) {
    const std::uint64_t bit = std::uint64_t{1} << (i % 64);
    return (std::exchange(words_[i / 64], words_[i / 64] | bit) & bit) != 0;
  }
  [[nodiscard]] bool test(std::uint64_t i) const { return (words_[i / 64] >> (i % 64) & 1) != 0; }

 private:
  std::vector<std::uint64_t> words_;
};

struct Leaf {
  LeafTag tag;
  FrameNumber frame{};
};

}  // namespace

// One recovery at work. Named here, and not in the anonymous namespace, as Device's friend.
class Recovery {
 public:
  explicit Recovery(PageArena& arena)
      : arena_(arena), used_(raw(arena.end())), live_(std::uint64_t{raw(arena.end())} * kUnitsPerFrame) {}

  // Everything that can be refused; changes nothing that is shared.
  Result<void> look() {
    if (auto found = find_frames(); !found) return found;
    return sort_leaves();
  }

  Result<RecoveredDevices> run() {
    if (auto looked = look(); !looked) return tl::unexpected(looked.error());
    for (const Leaf& leaf : leaves_) take_slots(leaf);
    take_zspages();
    if (!arena_.rebuild([this](FrameNumber f) { return used_.test(raw(f)); })) return no_memory();
    for (const Leaf& leaf : leaves_) {
      if (!by_number_[leaf.tag.device]->table_.adopt(leaf.tag.index, leaf.frame)) return no_memory();
    }
    return RecoveredDevices{std::move(devices_), report_};
  }

 private:
  static tl::unexpected<Error> refuse(FrameNumber frame, const std::string& why) {
    return fail(EINVAL, "the state cannot be served: frame " + std::to_string(raw(frame)) + " " + why);
  }
  static tl::unexpected<Error> no_memory() { return fail(ENOSPC, "no memory to take the state over"); }

  // Devices and leaves. Frames of other kinds are used only if a slot says so.
  Result<void> find_frames() {
    for (std::uint32_t f = 0; f < raw(arena_.end()); ++f) {
      if (f % PageArena::kChunkFrames == 0) continue;
      const FrameNumber frame{f};
      switch (arena_.entry(frame).link().kind) {
        case FrameKind::device: {
          const auto record = read_record(arena_.bytes(frame));
          if (!record) return refuse(frame, "holds the record of a device, and it is damaged or of another version");
          if (auto added = add_device(frame, *record); !added) return added;
          break;
        }
        case FrameKind::leaf: {
          const auto tag = LeafTag::unpack(arena_.entry(frame).tag.load(std::memory_order_relaxed));
          if (!tag) return refuse(frame, "holds slots, and does not say of which pages");
          leaves_.push_back({*tag, frame});
          break;
        }
        case FrameKind::header:
        case FrameKind::head:
        case FrameKind::tail:
        case FrameKind::node:
        case FrameKind::free:
        case FrameKind::absent:
          break;
        default:
          return refuse(frame, "is of no kind that exists");
      }
    }
    std::sort(devices_.begin(), devices_.end(),
              [](const auto& a, const auto& b) { return a->identity().sequence < b->identity().sequence; });
    return {};
  }

  Result<void> add_device(FrameNumber frame, const RecordedDevice& record) {
    // A reset that was cut short leaves two of one name, the fresh one and the old one, and nobody could open either
    // meanwhile: any of them will do.
    const bool twice = std::any_of(devices_.begin(), devices_.end(),
                                   [&](const auto& d) { return d->options().name == record.options.name; });
    if (twice) return {};
    Device*& slot = by_number_[record.identity.number];
    if (slot != nullptr) return refuse(frame, "holds the record of a device whose number is another's");
    devices_.push_back(std::unique_ptr<Device>(new Device(arena_, record.options, record.identity, frame)));
    slot = devices_.back().get();
    used_.set(raw(frame));
    return {};
  }

  // Drops the leaves of devices that were removed, and of two for the same pages the one that is empty: its maker lost
  // a race, or was stopped before the leaf was hung into the tree.
  Result<void> sort_leaves() {
    std::erase_if(leaves_, [this](const Leaf& leaf) { return by_number_[leaf.tag.device] == nullptr; });
    const auto key = [](const Leaf& leaf) { return std::pair(leaf.tag.device, leaf.tag.index); };
    std::sort(leaves_.begin(), leaves_.end(), [&](const Leaf& a, const Leaf& b) { return key(a) < key(b); });
    std::vector<Leaf> kept;
    for (const Leaf& leaf : leaves_) {
      if (leaf.tag.index * SlotTable::kLeafSlots >= by_number_[leaf.tag.device]->table_.pages()) {
        return refuse(leaf.frame, "holds slots past its device's end");
      }
      if (kept.empty() || key(kept.back()) != key(leaf)) {
        kept.push_back(leaf);
      } else if (is_empty(kept.back())) {
        kept.back() = leaf;
      } else if (!is_empty(leaf)) {
        return refuse(leaf.frame, "holds slots that another frame holds too");
      }
    }
    leaves_ = std::move(kept);
    for (const Leaf& leaf : leaves_) used_.set(raw(leaf.frame));
    return {};
  }

  [[nodiscard]] Slot* slots(const Leaf& leaf) const { return by_number_[leaf.tag.device]->table_.slots(leaf.frame); }

  [[nodiscard]] bool is_empty(const Leaf& leaf) const {
    return std::all_of(slots(leaf), slots(leaf) + SlotTable::kLeafSlots,
                       [](const Slot& s) { return SlotValue(s.load(std::memory_order_relaxed)).is_empty(); });
  }

  // Unlocks the leaf's slots and marks what they point at as live; a slot that cannot be right becomes damaged.
  void take_slots(const Leaf& leaf) {
    Device& device = *by_number_[leaf.tag.device];
    Slot* const all = slots(leaf);
    for (std::uint64_t i = 0; i < SlotTable::kLeafSlots; ++i) {
      if (i + kAhead < SlotTable::kLeafSlots) prefetch(SlotValue(all[i + kAhead].load(std::memory_order_relaxed)));
      const std::uint64_t word = all[i].load(std::memory_order_relaxed);
      if (word == 0) continue;
      SlotValue value(word);  // without the lock, which died with its holder
      const PageIndex page{leaf.tag.index * SlotTable::kLeafSlots + i};
      if (raw(page) >= device.table_.pages()) {
        all[i].store(0, std::memory_order_relaxed);  // past the end: no page's
        continue;
      }
      if (!is_right(device, page, value)) {
        value = SlotValue::damaged();
        ++report_.damaged_pages;
      }
      if (value.word() != word) all[i].store(value.word(), std::memory_order_relaxed);
      Device::account(device.counters_[0], {}, value);
      if (value.is_huge()) device.counters_[0].huge_pages_since.fetch_add(1, std::memory_order_relaxed);
      report_.pages += value.is_empty() ? 0 : 1;
    }
  }

  // The entry and the header of a slot's object are the two lines that a check of it waits for.
  void prefetch(SlotValue value) const {
    if (value.kind() != SlotKind::object || raw(frame_of(value.location())) >= raw(arena_.end())) return;
    __builtin_prefetch(&arena_.entry(frame_of(value.location())));
    __builtin_prefetch(arena_.bytes(value.location()));
  }

  [[nodiscard]] bool is_right(const Device& device, PageIndex page, SlotValue value) {
    if (!value.intact()) return false;
    switch (value.kind()) {
      case SlotKind::empty:
        return value.is_empty();
      case SlotKind::same:
        return true;
      case SlotKind::object:
        return take_object(device, page, value);
      default:
        return false;
    }
  }

  // Whether the slot's object is there and is its own; then it is live.
  bool take_object(const Device& device, PageIndex page, SlotValue value) {
    const unsigned codec = value.codec();
    if (codec != kCodecAsIs && codec != kCodecPattern && !device.codecs_.at(codec - kCodecFirst)) return false;
    if ((codec == kCodecAsIs) != (value.length() == kPageSize)) return false;
    const auto found = device.pool_.probe(value.location(), value.length(), arena_.end());
    if (!found || found->header.owner != device.owner(page)) return false;
    // A zspage is of one device: the first that was seen to have an object in it.
    ZspageState& state = arena_.state(found->head);
    const FrameNumber mine{device.identity_.number + 1U};
    if (state.next != FrameNumber::none && state.next != mine) return false;
    if (live_.set(raw(value.location()))) return false;
    state.next = mine;
    ++report_.objects;
    return true;
  }

  // Gives each zspage that has live objects to its device's pool.
  void take_zspages() {
    for (std::uint32_t f = 0; f < raw(arena_.end()); ++f) {
      const FrameNumber head{f};
      if (f % PageArena::kChunkFrames == 0 || arena_.state(head).next == FrameNumber::none) continue;
      if (used_.test(f) || arena_.entry(head).link().kind != FrameKind::head) continue;
      ZsPool& pool = by_number_[raw(arena_.state(head).next) - 1]->pool_;
      FrameNumber frame = head;
      for (unsigned i = 0; i < pool.classes()[arena_.entry(head).link().size_class].frames; ++i) {
        used_.set(raw(frame));
        frame = arena_.entry(frame).link().next;
      }
      heads_.emplace_back(head, &pool);
      ++report_.zspages;
    }
    for (const auto& [head, pool] : heads_) {
      pool->adopt(head, [this](Location at) { return live_.test(raw(at)); });
    }
  }

  static constexpr std::uint64_t kAhead = 16;  // slots

  PageArena& arena_;
  Bitmap used_;  // frames
  Bitmap live_;  // locations
  std::vector<std::unique_ptr<Device>> devices_;
  std::array<Device*, kMaxDevices + 1> by_number_{};
  std::vector<Leaf> leaves_;
  std::vector<std::pair<FrameNumber, ZsPool*>> heads_;
  RecoveryReport report_;
};

Result<void> check_recoverable(PageArena& arena) { return Recovery(arena).look(); }

Result<RecoveredDevices> recover(PageArena& arena) { return Recovery(arena).run(); }

}  // namespace uzram
