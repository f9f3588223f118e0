#include "tests/kill/load.h"

#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <stdexcept>

namespace uzram::kill {
namespace {

constexpr std::size_t kDepth = 6;  // requests in flight on a connection
constexpr std::uint64_t kMostPages = 24;
constexpr int kPatience = 20'000;  // milliseconds without an answer

bool is_dead(nbd_handle* nbd) { return nbd_aio_is_dead(nbd) == 1 || nbd_aio_is_closed(nbd) == 1; }

}  // namespace

void Load::run(const std::string& uri, unsigned connections) {
  std::vector<Connection> all(connections);
  for (Connection& c : all) c.nbd = connect(uri);
  std::erase_if(all, [](const Connection& c) { return c.nbd == nullptr; });
  while (!all.empty()) {
    for (Connection& c : all) {
      collect(c);
      while (c.in_flight.size() < kDepth && !is_dead(c.nbd.get())) issue(c);
    }
    // What was in flight on a connection that has ended is never answered: the model keeps both.
    std::erase_if(all, [this](const Connection& c) {
      if (!is_dead(c.nbd.get())) return false;
      for (const auto& [cookie, request] : c.in_flight) mark(request, false);
      return true;
    });
    if (!all.empty()) poll(all);
  }
}

// A range that no request in flight touches, and of which the model is certain.
bool Load::draw_range(Range& range) {
  const bool aligned = random_() % 2 == 0;
  const std::uint64_t pages = 1 + random_() % (random_() % 4 == 0 ? kMostPages : 3);
  range.offset = random_() % (model_.size() / kPageSize - pages - 1) * kPageSize;
  range.length = pages * kPageSize;
  if (!aligned) {
    range.offset += random_() % kPageSize;
    range.length = 1 + random_() % range.length;
  }
  const auto first = busy_.begin() + static_cast<std::ptrdiff_t>(range.offset / kPageSize);
  const auto last = busy_.begin() + static_cast<std::ptrdiff_t>((range.offset + range.length - 1) / kPageSize);
  return std::find(first, last + 1, true) == last + 1 && model_.is_certain(range.offset, range.length);
}

void Load::issue(Connection& c) {
  Range range;
  while (!draw_range(range)) continue;
  constexpr Kind kKinds[] = {Kind::write, Kind::write, Kind::write, Kind::write, Kind::trim, Kind::zero, Kind::read};
  Request request{.kind = kKinds[random_() % std::size(kKinds)], .offset = range.offset, .bytes = {}};
  if (request.kind == Kind::write) {
    request.bytes = draw_bytes(random_, range.length);
  } else {
    request.bytes.resize(range.length);
  }
  if (request.kind == Kind::trim) {
    // The whole pages in the range are zero afterwards, and the rest stays.
    const std::uint64_t first = (range.offset + kPageSize - 1) / kPageSize * kPageSize;
    const std::uint64_t end = (range.offset + range.length) / kPageSize * kPageSize;
    if (first < end) model_.begin(first, Bytes(end - first));
  } else if (request.kind != Kind::read) {
    model_.begin(range.offset, request.bytes);
  }
  mark(request, true);
  const std::int64_t cookie = send(c.nbd.get(), request);
  if (cookie < 0) {
    mark(request, false);
    if (!is_dead(c.nbd.get())) throw std::runtime_error(std::string("a request was not sent: ") + nbd_get_error());
    return;
  }
  // The buffer does not move with its owner.
  c.in_flight.emplace(cookie, std::move(request));
}

std::int64_t Load::send(nbd_handle* nbd, Request& request) {
  constexpr nbd_completion_callback kNoCompletion = {};
  auto& bytes = request.bytes;
  switch (request.kind) {
    case Kind::write:
      return nbd_aio_pwrite(nbd, bytes.data(), bytes.size(), request.offset, kNoCompletion, 0);
    case Kind::trim:
      return nbd_aio_trim(nbd, bytes.size(), request.offset, kNoCompletion, 0);
    case Kind::zero:
      return nbd_aio_zero(nbd, bytes.size(), request.offset, kNoCompletion, 0);
    case Kind::read:
      return nbd_aio_pread(nbd, bytes.data(), bytes.size(), request.offset, kNoCompletion, 0);
  }
  return -1;
}

void Load::poll(const std::vector<Connection>& connections) {
  std::vector<pollfd> fds;
  for (const Connection& c : connections) {
    const unsigned direction = nbd_aio_get_direction(c.nbd.get());
    const bool reads = (direction & LIBNBD_AIO_DIRECTION_READ) != 0;
    const bool writes = (direction & LIBNBD_AIO_DIRECTION_WRITE) != 0;
    fds.push_back({nbd_aio_get_fd(c.nbd.get()), static_cast<short>((reads ? POLLIN : 0) | (writes ? POLLOUT : 0)), 0});
  }
  if (::poll(fds.data(), fds.size(), kPatience) == 0) throw std::runtime_error("the daemon does not answer");
  for (std::size_t i = 0; i < fds.size(); ++i) {
    nbd_handle* const nbd = connections[i].nbd.get();
    const unsigned direction = nbd_aio_get_direction(nbd);
    if ((fds[i].revents & (POLLIN | POLLHUP | POLLERR)) != 0 && (direction & LIBNBD_AIO_DIRECTION_READ) != 0) {
      (void)nbd_aio_notify_read(nbd);
    } else if ((fds[i].revents & (POLLOUT | POLLHUP | POLLERR)) != 0 && (direction & LIBNBD_AIO_DIRECTION_WRITE) != 0) {
      (void)nbd_aio_notify_write(nbd);
    }
  }
}

void Load::collect(Connection& c) {
  for (auto at = c.in_flight.begin(); at != c.in_flight.end();) {
    const int done = nbd_aio_command_completed(c.nbd.get(), static_cast<std::uint64_t>(at->first));
    // A connection's end fails what is in flight there; that is no answer.
    if (done == 0 || (done < 0 && is_dead(c.nbd.get()))) {
      ++at;
      continue;
    }
    answer(at->second, done < 0 ? nbd_get_errno() : 0);
    at = c.in_flight.erase(at);
  }
}

void Load::answer(const Request& request, int error) {
  mark(request, false);
  ++answered_;
  if (error == ENOSPC && request.kind != Kind::read) {
    ++refused_;  // some of its pages may be written: the model keeps both
    return;
  }
  if (error != 0) throw std::runtime_error("a request failed: error " + std::to_string(error));
  if (request.kind != Kind::read) {
    model_.finish(request.offset, request.bytes.size());
  } else if (!std::ranges::equal(request.bytes, model_.bytes(request.offset, request.bytes.size()))) {
    throw std::runtime_error("byte " + std::to_string(request.offset) + ": read other bytes than were written");
  }
}

void Load::mark(const Request& request, bool busy) {
  const std::uint64_t last = (request.offset + request.bytes.size() - 1) / kPageSize;
  for (std::uint64_t page = request.offset / kPageSize; page <= last; ++page) busy_[page] = busy;
}

}  // namespace uzram::kill
