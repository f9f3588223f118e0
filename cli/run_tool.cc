#include "cli/run_tool.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <memory>

#include "cli/run_command.h"

namespace uzram {
namespace {

std::string find_tool(const std::string& name) {
  const char* const path = std::getenv("PATH");
  std::string folders = (path != nullptr ? path : "") + std::string(":/usr/sbin:/usr/bin:/sbin:/bin");
  for (std::size_t begin = 0, end = 0; begin <= folders.size(); begin = end + 1) {
    end = std::min(folders.find(':', begin), folders.size());
    std::string candidate = folders.substr(begin, end - begin) + "/" + name;
    if (end > begin && access(candidate.c_str(), X_OK) == 0) return candidate;
  }
  return {};
}

std::string contents(std::FILE* file) {
  std::rewind(file);
  std::string text(65536, '\0');
  text.resize(std::fread(text.data(), 1, text.size(), file));
  return text;
}

// Tools say first what is wrong, and then how they are used or where to read more.
std::string first_complaint(std::string text) {
  text.erase(0, std::min(text.find_first_not_of(" \t\r\n"), text.size()));
  text.resize(std::min(text.find_first_of("\r\n"), text.size()));
  return text;
}

int spawn(pid_t& child, const std::string& program, std::vector<char*>& arguments, int out, int err) {
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, err, STDERR_FILENO);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t none;
  sigemptyset(&none);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
  std::string locale = "LC_ALL=C";
  std::string path = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";
  char* environment[] = {locale.data(), path.data(), nullptr};
  const int error = posix_spawn(&child, program.c_str(), &actions, &attributes, arguments.data(), environment);
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
  return error;
}

}  // namespace

Result<ToolResult> run_tool(const std::vector<std::string>& words) {
  const std::string program = find_tool(words.front());
  if (program.empty()) return fail(ENOENT, words.front() + " is not installed");
  using File = std::unique_ptr<std::FILE, int (*)(std::FILE*)>;
  const File out(std::tmpfile(), std::fclose);
  const File err(std::tmpfile(), std::fclose);
  if (!out || !err) return fail_errno("a temporary file");
  std::vector<std::string> copies = words;
  std::vector<char*> arguments;
  for (std::string& copy : copies) arguments.push_back(copy.data());
  arguments.push_back(nullptr);
  pid_t child = 0;
  if (const int error = spawn(child, program, arguments, fileno(out.get()), fileno(err.get())); error != 0) {
    return fail_errno(program, error);
  }
  int status = 0;
  while (waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) return fail_errno(program);
  }
  return ToolResult{shell_status(status), contents(out.get()), contents(err.get())};
}

Result<void> must_run(const std::vector<std::string>& words) {
  auto result = run_tool(words);
  if (!result) return tl::unexpected(result.error());
  if (result->status == 0) return {};
  std::string why = first_complaint(result->error);
  if (why.empty()) why = "exit status " + std::to_string(result->status);
  if (!why.starts_with(words.front())) why.insert(0, words.front() + ": ");
  return fail(EIO, why);
}

}  // namespace uzram
