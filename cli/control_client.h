#pragma once
// Calls a daemon's control endpoint.
//
// Threads: belongs to one thread.

#include <cstddef>
#include <string>
#include <string_view>

#include "blockdev/types.h"

namespace uzram {

// The longest body that the endpoint takes, bytes.
inline constexpr std::size_t kMaxControlBody = 64 * 1024;
inline constexpr const char* kBodyTooLong = "the request's body is longer than 64 KiB";

class ControlClient {
 public:
  // `socket` is the endpoint's path.
  explicit ControlClient(std::string socket) : socket_(std::move(socket)) {}

  // The body of the answer. An error carries the daemon's own words and an errno value that goes with them, or says
  // that no daemon answers (ECONNREFUSED).
  [[nodiscard]] Result<std::string> get(const std::string& target) const;
  [[nodiscard]] Result<std::string> put(const std::string& target, const std::string& body) const;
  [[nodiscard]] Result<std::string> post(const std::string& target, const std::string& body) const;
  [[nodiscard]] Result<std::string> remove(const std::string& target) const;

 private:
  [[nodiscard]] Result<std::string> call(const char* method, const std::string& target, const std::string& body) const;

  std::string socket_;
};

// "/v1/devices/NAME" with every part of it escaped: device_target("a/b", "mm_stat") is /v1/devices/a%2Fb/mm_stat.
[[nodiscard]] std::string device_target(std::string_view device, std::string_view attribute = {});

}  // namespace uzram
