// Recompression: objects that another algorithm makes smaller.

#include "blockdev/device.h"
#include "blockdev/device_record.h"
#include "blockdev/largest_first.h"
#include "blockdev/stream.h"

namespace uzram {

Result<void> Device::set_recompression(unsigned priority, const CodecSpec& codec) {
  const std::shared_lock lock(life_);
  if (priority == 0 || priority >= CodecTable::kPriorities) return fail(EINVAL, "a priority is 1, 2 or 3");
  if (record_ == FrameNumber::none) return {};
  const std::unique_lock one(post_processing_, std::try_to_lock);
  if (!one) return fail(EAGAIN, "a pass is under way");
  if (const auto there = codecs_.at(priority)) {
    if (*there == codec) return {};
    return fail(EBUSY,
                "priority " + std::to_string(priority) + " is " + there->to_string() + " until the device is reset");
  }
  // In the record first: no object is of a codec that the next process does not know.
  record_recompression(arena_.bytes(record_), priority, codec);
  codecs_.set(priority, codec);
  return {};
}

// One call of recompress. A page is compressed without its slot's lock, whose waiters spin: what is made of it takes
// its place only if the slot still has the mark that it was given with the copy, which whatever else changes or reads
// the page takes away.
class RecompressPass {
 public:
  RecompressPass(Device& device, const RecompressRequest& request, const CodecSpec& codec)
      : device_(device), request_(request), compressor_(make_compressor(codec)) {}

  [[nodiscard]] bool wants(SlotValue value) const {
    if (!is_asked_for(value, request_) || value.is_incompressible()) return false;
    const bool made_so = !value.is_huge() && value.codec() - kCodecFirst >= request_.priority;
    return !made_so && value.length() >= request_.threshold;
  }

  // Every page that is wanted and whose object is in the bucket.
  Result<void> run(std::size_t bucket) {
    Result<void> result;
    device_.table_.for_each(PageIndex{0}, PageIndex{device_.table_.pages()}, [&](PageIndex page, Slot& slot) {
      if (!result || is_done()) return;
      const SlotValue value(slot.load(std::memory_order_relaxed));
      if (!wants(value) || bucket_of(value) != bucket) return;
      result =
          device_.ending_.load(std::memory_order_relaxed) ? fail(ECANCELED, "the device ends") : try_page(page, slot);
    });
    return result;
  }

 private:
  [[nodiscard]] bool is_done() const { return request_.max_pages != 0 && tried_ == request_.max_pages; }

  Result<void> try_page(PageIndex page, Slot& slot) {
    const std::size_t before = choose(page, slot);
    if (before == 0) return {};
    ++tried_;
    const SizeClasses& classes = device_.pool_.classes();
    const auto payload = compressor_->compress(stream_->page, classes.huge_class_size() - 1);
    const bool smaller = !payload.empty() && classes.index_for(payload.size()) < classes.index_for(before);
    if (!smaller || (request_.threshold != 0 && payload.size() >= request_.threshold)) {
      give_up(slot, !smaller && device_.codecs_.highest() == request_.priority);
      return {};
    }
    const auto value = device_.store_object(*stream_, page, payload, kCodecFirst + request_.priority);
    if (!value) {
      give_up(slot, false);
      return fail(ENOSPC, "no memory is left for what a page becomes");
    }
    publish(slot, *value);
    return {};
  }

  // Copies the page and marks its slot; returns the length of its object, 0 where it is not wanted any more. A damaged
  // page stays where it is, and its reads fail.
  std::size_t choose(PageIndex page, Slot& slot) {
    SlotGuard guard(slot);
    const SlotValue value = guard.value();
    if (!wants(value) || !device_.decode(*stream_, page, value, stream_->page)) return 0;
    (void)guard.exchange(value.unmarked().chosen());  // the same object
    return value.length();
  }

  void give_up(Slot& slot, bool incompressible) {
    SlotGuard guard(slot);
    if (!guard.value().is_chosen()) return;
    const SlotValue value = guard.value().not_chosen();
    (void)guard.exchange(incompressible ? value.incompressible() : value);  // the same object
  }

  void publish(Slot& slot, SlotValue value) {
    SlotGuard guard(slot);
    if (!guard.value().is_chosen()) return device_.pool_.free(value.location(), stream_->worker());
    device_.replace(guard, value, stream_->worker());
  }

  Device& device_;
  const RecompressRequest& request_;
  const std::unique_ptr<Compressor> compressor_;
  const StreamPtr stream_ = device_.make_stream();  // reads them all; its buffers hold the page and what it becomes
  std::uint64_t tried_ = 0;
};

Result<void> Device::recompress(const RecompressRequest& request) {
  const std::shared_lock lock(life_);
  if (record_ == FrameNumber::none) return {};
  const auto codec = request.priority == 0 ? std::nullopt : codecs_.at(request.priority);
  if (!codec) return fail(EINVAL, "no algorithm of priority " + std::to_string(request.priority) + " has been set");
  if (request.threshold >= pool_.classes().huge_class_size()) {
    return fail(EINVAL, "the threshold is less than " + std::to_string(pool_.classes().huge_class_size()) +
                            " bytes, from which on pages are stored as they are");
  }
  const std::unique_lock one(post_processing_, std::try_to_lock);
  if (!one) return fail(EAGAIN, "another pass is under way");
  RecompressPass pass(*this, request, *codec);
  const Buckets there =
      buckets_of(table_, PageIndex{0}, PageIndex{table_.pages()}, [&](SlotValue value) { return pass.wants(value); });
  return for_each_largest_first(there, [&](std::size_t bucket) { return pass.run(bucket); });
}

}  // namespace uzram
