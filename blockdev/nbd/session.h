#pragma once
// The transmission phase of one connection: takes all complete requests that the socket holds, validates each once,
// executes them, and answers them in one send. Writes that do not overlap and have arrived one behind the other are
// executed together, and so are long reads, whose answers leave as they are done. Nothing is allocated after the
// constructor.
//
// A request or a reply larger than its buffer streams through it. A write that fails is still received to its end.
// An error after a simple reply has begun closes the connection: there is no other way to say it.
//
// Threads: one thread for each session.

#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "allocator/image.h"
#include "blockdev/device.h"
#include "blockdev/nbd/connection.h"
#include "blockdev/nbd/handshake.h"
#include "blockdev/nbd/long_reads.h"
#include "blockdev/nbd/reader.h"
#include "blockdev/nbd/receive_window.h"
#include "blockdev/nbd/reply_buffer.h"
#include "blockdev/nbd/request.h"
#include "blockdev/nbd/shared_io.h"

namespace uzram::nbd {

class Session {
 public:
  // Allocates its buffers, about 2 MiB that use memory only as far as they are touched, and a stream of the device
  // for each of the crew's workers. All three outlive the session.
  Session(Connection& connection, const Agreement& agreement, Crew& crew);

  // Serves until the client leaves or breaks the protocol, or its socket is shut. Where the connection is told to
  // pause, `stand_still` is called between two receives, with every request that was begun answered, or `save` able to
  // tell what is left of it; the session goes on when it returns.
  void run(const std::function<void()>& stand_still = {});

  // What another session of the same connection needs to go on from here, and how it takes that: before `run`.
  void save(ImageWriter& image) const;
  [[nodiscard]] bool load(ImageReader& image);

 private:
  // What is to be done after a batch.
  enum class Next { receive, close };

  Next execute_batch();
  Next take_requests();
  void execute_writes();
  void execute_reads();
  void execute_put_off();
  void execute(const Request& request, std::span<const std::byte> payload);
  Next stream_write(const Request& request);
  Next go_on_streaming();
  [[nodiscard]] bool receive(std::size_t needed, bool within_request);
  void answer(const Request& request, const Refusal& refusal);

  Connection& connection_;
  Device& device_;
  SharedIo io_;
  const Contexts contexts_;
  const Rules rules_;
  ReceiveWindow window_;
  const std::unique_ptr<std::byte[]> reply_memory_;
  ReplyBuffer replies_;
  Reader reader_;
  LongReads long_reads_;
  std::size_t needed_ = 0;  // bytes of the request at the window's front, as far as they are known
  const std::function<void()>* stand_still_ = nullptr;
  // The write that streams in, how much of its payload is still to come (0 where none does), and what it has failed
  // with.
  Request streamed_;
  std::uint64_t left_ = 0;
  Refusal failure_;
};

}  // namespace uzram::nbd
