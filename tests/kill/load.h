#pragma once
// A client that writes, writes parts of pages, discards, writes zeroes and reads what it knows, on several connections
// with several requests in flight on each, and keeps a model of what the device holds.
//
// Threads: one.

#include <atomic>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "tests/kill/daemon.h"
#include "tests/kill/model.h"

namespace uzram::kill {

class Load {
 public:
  Load(Model& model, std::mt19937_64& random) : model_(model), random_(random), busy_(model.size() / kPageSize) {}

  // Connects and goes on until every connection has ended. Throws where a read gives what was not written.
  void run(const std::string& uri, unsigned connections);

  // From any thread.
  [[nodiscard]] std::uint64_t answered() const { return answered_; }
  [[nodiscard]] std::uint64_t refused() const { return refused_; }  // for want of memory

 private:
  enum class Kind { write, trim, zero, read };
  struct Request {
    Kind kind{};
    std::uint64_t offset = 0;
    Bytes bytes;  // what is written, or what a read brings
  };
  struct Connection {
    Nbd nbd;
    std::map<std::int64_t, Request> in_flight;  // by cookie
  };
  struct Range {
    std::uint64_t offset = 0;
    std::uint64_t length = 0;
  };

  [[nodiscard]] bool draw_range(Range& range);
  void issue(Connection& c);
  [[nodiscard]] static std::int64_t send(nbd_handle* nbd, Request& request);
  void collect(Connection& c);
  void answer(const Request& request, int error);
  void mark(const Request& request, bool busy);
  static void poll(const std::vector<Connection>& connections);

  Model& model_;
  std::mt19937_64& random_;
  std::vector<bool> busy_;  // pages that a request in flight touches
  std::atomic<std::uint64_t> answered_ = 0;
  std::uint64_t refused_ = 0;
};

}  // namespace uzram::kill
