#pragma once
// Long reads that have arrived one behind the other, shared as wholes: a worker of the crew decompresses one and sends
// the reply itself, from its processor's cache, while the others decompress. Replies leave in any order.
//
// Threads: those of its session, and the crew's.

#include <memory>
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
  // A buffer for each helper, which uses memory only as far as it is touched. `reader` and `replies` are the session's.
  LongReads(const Device& device, SharedIo& io, Crew& crew, Reader& reader, ReplyBuffer& replies,
            Connection& connection, bool structured);

  // Whether `request`, a read, is one to be put off; if not, those that are go before it.
  [[nodiscard]] bool room_for(const Request& request) const;
  void put_off(const Request& request);

  // Answers what was put off, behind what is gathered in the session's buffer. Where helpers take part, this thread
  // calls `meanwhile` first.
  template <class Meanwhile>
  void execute(const Meanwhile& meanwhile) {
    if (requests_.size() < 2) {
      // Nobody has to wait for one: its pieces are shared.
      for (const Request& request : requests_) reader_.read(request);
    } else {
      workers_.front().replies.flush();
      shared_ = false;
      crew_.run(
          requests_.size(), [this](std::size_t n, unsigned number) { answer(requests_[n], number); },
          [&] {
            shared_ = true;
            meanwhile();
          });
      if (shared_) send_what_is_left();
    }
    requests_.clear();
    bytes_ = 0;
  }

 private:
  struct Worker {
    ReplyBuffer& replies;
    Reader reader;
  };

  void answer(const Request& request, unsigned number);
  void send_what_is_left();

  Crew& crew_;
  Reader& reader_;
  std::vector<std::unique_ptr<ReplyBuffer>> helpers_replies_;
  std::vector<Worker> workers_;
  std::vector<Request> requests_;
  std::size_t bytes_ = 0;  // that their replies may take
  const bool encrypted_;
  std::mutex sending_;
  ReplyBuffer* unfinished_ = nullptr;  // whose reply has begun to leave: nobody else sends until it has left
  bool shared_ = false;                // this thread's: whether helpers take part
};

}  // namespace uzram::nbd
