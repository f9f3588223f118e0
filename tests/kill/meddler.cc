#include "tests/kill/meddler.h"

#include <algorithm>
#include <cerrno>
#include <stdexcept>

namespace uzram::kill {
namespace {

std::string description(const std::string& name, std::uint64_t size) {
  return R"({"name": ")" + name + R"(", "algorithm": "zstd", "size": )" + std::to_string(size) + "}";
}

// True where the daemon did it, false where it died; throws where it refused.
bool is_done(const Result<std::string>& answer) {
  if (answer) return true;
  const int code = answer.error().code;
  if (code != EIO && code != ECONNREFUSED) throw std::runtime_error(answer.error().message);
  return false;
}

}  // namespace

void Meddler::run(const Daemon& daemon) {
  while (step(daemon)) ++answered_;
}

bool Meddler::step(const Daemon& daemon) {
  const ControlClient control = daemon.control();
  switch (random_() % 9) {
    case 0:
    case 1:
      return is_done(control.put(device_target(main_, "compact"), "1"));
    case 2:
      return set_limit(control);
    case 3:
      return is_done(control.post(device_target(main_, "scrub"), ""));
    case 4:
      return recompress(control);
    default:
      const std::string name = "extra" + std::to_string(random_() % kExtras);
      return step_extra(daemon, name, extras_[name]);
  }
}

bool Meddler::set_limit(const ControlClient& control) {
  asked_limit_ = random_() % 3 != 0 ? 0 : (1 + random_() % 256) * kPageSize;
  if (!is_done(control.put(device_target(main_, "mem_limit"), std::to_string(*asked_limit_)))) return false;
  limit_ = *asked_limit_;
  asked_limit_.reset();
  return true;
}

// With a limit there may be no memory for what a page becomes.
bool Meddler::recompress(const ControlClient& control) {
  if (!is_done(control.put(device_target(main_, "recomp_algorithm"), "algo=zstd"))) return false;
  const auto done = control.put(device_target(main_, "recompress"), random_() % 2 == 0 ? "type=huge" : "");
  return (!done && done.error().code == ENOSPC) || is_done(done);
}

bool Meddler::step_extra(const Daemon& daemon, const std::string& name, Extra& extra) {
  const ControlClient control = daemon.control();
  if (!extra.exists) {
    return take_in(extra, Doing::creating, control.post("/v1/devices", description(name, kSize)));
  }
  const std::uint64_t what = random_() % 4;
  if (what == 0) return take_in(extra, Doing::removing, control.remove(device_target(name)));
  if (what == 1) return take_in(extra, Doing::resetting, control.put(device_target(name, "reset"), "1"));
  return fill(daemon, name, extra);
}

// A daemon that died may have done it or not.
bool Meddler::take_in(Extra& extra, Doing doing, const Result<std::string>& answer) {
  // The connection that filled it ends when the daemon has noticed.
  if (!answer && answer.error().code == EBUSY && doing != Doing::creating) return true;
  if (!is_done(answer)) {
    extra.doing = doing;
    return false;
  }
  extra.exists = doing != Doing::removing;
  extra.model = Model(kSize);
  return true;
}

bool Meddler::fill(const Daemon& daemon, const std::string& name, Extra& extra) {
  const Nbd nbd = connect(daemon.uri(name));
  if (!nbd) return false;
  const std::uint64_t offset = random_() % (kSize / 2);
  const Bytes bytes = draw_bytes(random_, 1 + random_() % (kSize / 2));
  extra.model.begin(offset, bytes);
  if (nbd_pwrite(nbd.get(), bytes.data(), bytes.size(), offset, 0) != 0) {
    if (nbd_aio_is_ready(nbd.get()) == 1) throw std::runtime_error(name + ": a write failed: " + nbd_get_error());
    return false;
  }
  extra.model.finish(offset, bytes.size());
  (void)nbd_shutdown(nbd.get(), 0);
  return true;
}

void Meddler::verify(const Daemon& daemon, const std::map<std::string, DeviceStats>& stats) {
  const std::uint64_t found = stats.at(main_).mem_limit;
  if (found != limit_ && found != asked_limit_) throw std::runtime_error(main_ + ": has another memory limit");
  limit_ = found;
  asked_limit_.reset();
  for (auto& [name, extra] : extras_) settle(daemon, name, extra, stats.contains(name));
  for (const auto& [name, s] : stats) {
    if (name != main_ && !extras_.contains(name)) throw std::runtime_error("there is a device " + name);
  }
}

void Meddler::settle(const Daemon& daemon, const std::string& name, Extra& extra, bool is_there) {
  const Doing doing = std::exchange(extra.doing, Doing::nothing);
  if (is_there != extra.exists && doing != Doing::creating && doing != Doing::removing) {
    throw std::runtime_error(name + (is_there ? ": is there again" : ": is lost"));
  }
  if (is_there != extra.exists) extra.model = Model(kSize);
  extra.exists = is_there;
  if (!is_there) return;
  Bytes bytes(kSize);
  const Nbd nbd = connect(daemon.uri(name));
  if (!nbd || !read_all(nbd.get(), 0, bytes)) throw std::runtime_error(name + ": cannot be read");
  (void)nbd_shutdown(nbd.get(), 0);
  const bool is_empty = std::ranges::all_of(bytes, [](std::byte b) { return b == std::byte{}; });
  if (doing == Doing::resetting && is_empty) {
    extra.model = Model(kSize);
  } else if (!extra.model.settle(0, bytes)) {
    throw std::runtime_error(name + ": holds what was never written to it");
  }
}

}  // namespace uzram::kill
