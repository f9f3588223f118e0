#pragma once
// Long reads that have arrived one behind the other, shared as wholes: a worker of the crew decompresses one and sends
// the reply from its processor's cache, while the others decompress. Replies leave in any order.
//
// Threads: those of its session, and the crew's.

#include <atomic>
#include <cstddef>
#include <deque>
#include <mutex>
#include <vector>

#include "blockdev/nbd/crew.h"
#include "blockdev/nbd/reader.h"
#include "blockdev/nbd/reply_buffer.h"
#include "blockdev/nbd/request.h"
#include "blockdev/nbd/shared_io.h"

namespace uzram::nbd {

class LongReads {
 public:
  // `replies` and `sharing_reader` are the session's: the reader answers what is not shared as a whole, and workers
  // have parts of the buffer while there is nothing in it.
  LongReads(Device& device, SharedIo& io, Crew& crew, const Connection& connection, bool structured,
            ReplyBuffer& replies, Reader& sharing_reader);

  // Whether `request`, a read, is to be put off.
  [[nodiscard]] bool takes(const Request& request) const;
  // False where those that were put off have to be answered before another is.
  [[nodiscard]] bool has_room() const { return requests_.size() < kMostReads; }
  void put_off(const Request& request) { requests_.push_back(request); }

  // Answers what was put off. Where helpers are asked to take wholes, this thread calls `meanwhile` first.
  template <class Meanwhile>
  void execute(const Meanwhile& meanwhile) {
    if (requests_.empty()) return;
    // Of few each worker has as many, and those that are left over are shared in pieces.
    const bool few = requests_.size() < 2 * workers_.size();
    end_ = few ? requests_.size() - requests_.size() % workers_.size() : requests_.size();
    for (next_ = 0; next_ < end_;) {
      replies_.flush();
      const auto answer = [&](std::size_t, unsigned worker) { answer_some(worker); };
      if (!crew_.share(workers_.size(), answer, meanwhile)) break;
      send_what_is_left();
    }
    for (std::size_t n = next_; n < requests_.size(); ++n) sharing_reader_.read(requests_[n]);
    requests_.clear();
  }

 private:
  static constexpr std::size_t kMostReads = 64;

  struct Worker {
    Worker(const ReplyBuffer& part, Device& device, Stream& stream, bool structured);
    ReplyBuffer replies;
    Reader reader;
  };

  void answer_some(unsigned worker);
  void send_what_is_left();

  Crew& crew_;
  ReplyBuffer& replies_;
  Reader& sharing_reader_;
  std::deque<Worker> workers_;  // none where nothing is put off
  std::vector<Request> requests_;
  std::atomic<std::size_t> next_{0};  // the first that nobody has
  std::size_t end_ = 0;               // of those that are shared as wholes
  std::mutex sending_;
  ReplyBuffer* torn_ = nullptr;  // has sent a part: nothing else is sent before the rest
};

}  // namespace uzram::nbd
