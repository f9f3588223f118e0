#include "cli/mounts.h"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <iterator>
#include <sstream>

namespace uzram {
namespace {

namespace fs = std::filesystem;

// The kernel writes blanks and backslashes in paths as \ooo.
std::string unescape(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    unsigned code = 0;
    if (text[i] == '\\' && i + 3 < text.size() &&
        std::from_chars(text.data() + i + 1, text.data() + i + 4, code, 8).ptr == text.data() + i + 4) {
      out += static_cast<char>(code);
      i += 3;
    } else {
      out += text[i];
    }
  }
  return out;
}

std::vector<std::string> words(const std::string& line) {
  std::istringstream stream(line);
  return {std::istream_iterator<std::string>(stream), {}};
}

std::string first_line(std::string text) {
  if (const auto end = text.find('\n'); end != std::string::npos) text.resize(end);
  return text;
}

}  // namespace

std::string file_text(const fs::path& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();  // where an iterator over the buffer would throw at a failing read
  return std::move(text).str();
}

std::string NbdUse::describe() const {
  std::string text = path();
  if (swap_priority) text += " [SWAP]";
  for (const std::string& mount : mounts) text += " " + mount;
  return text;
}

Result<unsigned> nbd_number(std::string_view path) {
  constexpr std::string_view kPrefix = "/dev/nbd";
  unsigned number = 0;
  const std::string_view digits = path.substr(std::min(path.size(), kPrefix.size()));
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
  const bool canonical = path.starts_with(kPrefix) && error == std::errc{} && std::to_string(number) == digits;
  // The driver's minor numbers are 20 bits, 5 of which are for partitions.
  if (!canonical || number >= 1U << 15) return fail(EINVAL, std::string(path) + " is not of the form /dev/nbdN");
  return number;
}

std::vector<MountLine> parse_mountinfo(std::string_view text) {
  std::vector<MountLine> lines;
  std::istringstream stream{std::string(text)};
  for (std::string line; std::getline(stream, line);) {
    // id parent major:minor root folder options [optional...] - type source options
    const auto fields = words(line);
    const auto dash = std::find(fields.begin(), fields.end(), "-");
    if (dash - fields.begin() < 6 || fields.end() - dash < 3) continue;
    lines.push_back({unescape(fields[4]), unescape(dash[2])});
  }
  return lines;
}

std::optional<int> parse_swap_priority(std::string_view proc_swaps, std::string_view path) {
  std::istringstream stream{std::string(proc_swaps)};
  for (std::string line; std::getline(stream, line);) {
    // Filename Type Size Used Priority
    const auto fields = words(line);
    if (fields.size() < 5 || unescape(fields[0]) != path) continue;
    int priority = 0;
    std::from_chars(fields[4].data(), fields[4].data() + fields[4].size(), priority);
    return priority;
  }
  return std::nullopt;
}

std::optional<NbdUse> nbd_use(unsigned number) {
  const fs::path folder = "/sys/block/nbd" + std::to_string(number);
  std::error_code ignored;
  if (!fs::exists(folder / "pid", ignored)) return std::nullopt;
  NbdUse use;
  use.number = number;
  use.backend = first_line(file_text(folder / "backend"));
  for (const MountLine& mount : parse_mountinfo(file_text("/proc/self/mountinfo"))) {
    if (mount.source == use.path()) use.mounts.push_back(mount.folder);
  }
  use.swap_priority = parse_swap_priority(file_text("/proc/swaps"), use.path());
  return use;
}

std::vector<NbdUse> nbd_uses() {
  std::vector<NbdUse> uses;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator("/sys/block", ignored)) {
    const auto number = nbd_number("/dev/" + entry.path().filename().string());
    if (!number) continue;
    if (auto use = nbd_use(*number)) uses.push_back(std::move(*use));
  }
  std::sort(uses.begin(), uses.end(), [](const NbdUse& a, const NbdUse& b) { return a.number < b.number; });
  return uses;
}

bool is_mount_point(const std::string& folder) {
  std::error_code error;
  const std::string whole = fs::canonical(folder, error).string();
  if (whole == "/") return true;
  const auto mounts = parse_mountinfo(file_text("/proc/self/mountinfo"));
  return !error && std::any_of(mounts.begin(), mounts.end(), [&](const MountLine& m) { return m.folder == whole; });
}

}  // namespace uzram
