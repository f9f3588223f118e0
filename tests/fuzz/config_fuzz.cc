// The daemon's call: a configuration file of any bytes, or any words on the command line. A call that is refused is
// refused in one line; nothing leaks either way. The first byte chooses. Built by clang with -fsanitize=fuzzer.

#include "cli/config.h"

#include <sys/mman.h>
#include <unistd.h>

#include <string>

#include "tests/fuzz/world.h"

using namespace uzram;

namespace {

std::vector<std::string> from_file(const std::string& text) {
  static const nbd::Fd file(memfd_create("config", MFD_CLOEXEC));
  fuzz::must(ftruncate(file.get(), 0) == 0);
  fuzz::must(pwrite(file.get(), text.data(), text.size(), 0) == static_cast<ssize_t>(text.size()));
  return {"--config", "/proc/self/fd/" + std::to_string(file.get())};
}

// One word a line. What files there are on this machine is not the fuzzer's to read.
std::vector<std::string> from_words(const std::string& text) {
  std::vector<std::string> words;
  for (std::size_t at = 0; at <= text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    words.push_back(text.substr(at, end - at));
    if (words.back().starts_with("--config")) words.pop_back();
    at = end + 1;
  }
  return words;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0 || size > 4096) return 0;
  const std::string text(reinterpret_cast<const char*>(data + 1), size - 1);
  const auto parsed = parse_config((data[0] & 1) != 0 ? from_file(text) : from_words(text));
  if (const auto* exit = std::get_if<Exit>(&parsed)) {
    fuzz::must(!exit->text.empty());
    fuzz::must(exit->code == 0 || exit->text.find('\n') == std::string::npos);
  } else {
    const auto& config = std::get<Config>(parsed);
    fuzz::must(!config.devices.empty());
    for (const DeviceOptions& device : config.devices) fuzz::must(device.size > 0 && device.size <= kMaxDeviceBytes);
  }
  return 0;
}
