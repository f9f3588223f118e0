// witness PID...: watches a machine that swaps to the processes given, and tells the console where everything stands
// when nothing has been swapped and no page has been written for ten seconds. It holds all it needs beforehand: when it
// has something to say, there may be no memory to be had. Ends with a signal.

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { kQuietSeconds = 10, kReports = 3 };

static int kmsg, vmstat, meminfo, sysrq;
static char text[65536];

static void say(const char* line) {
  char message[900];
  const int n = snprintf(message, sizeof message, "<1>witness: %.800s", line);
  if (write(kmsg, message, n) < 0) _exit(1);
}

// The file's text, which an open descriptor gives without a search for its path.
static char* read_all(int fd) {
  const ssize_t n = pread(fd, text, sizeof text - 1, 0);
  text[n > 0 ? n : 0] = 0;
  return text;
}

static unsigned long long figure(const char* all, const char* name) {
  const char* at = strstr(all, name);
  return at ? strtoull(at + strlen(name), NULL, 10) : 0;
}

static void say_lines(const char* label, char* lines) {
  char line[850];
  for (char* at = strtok(lines, "\n"); at; at = strtok(NULL, "\n")) {
    snprintf(line, sizeof line, "%s %s", label, at);
    say(line);
  }
}

static void say_file(const char* path) {
  const int fd = open(path, O_RDONLY);
  if (fd < 0) return say(path);
  say_lines(path, read_all(fd));
  close(fd);
}

static void report(int count, char** pids) {
  say("nothing moves");
  say_lines("meminfo", read_all(meminfo));
  say_lines("vmstat", read_all(vmstat));
  if (write(sysrq, "w", 1) < 0 || write(sysrq, "m", 1) < 0) say("no sysrq");
  for (int i = 0; i < count; i++) {
    char path[400];
    snprintf(path, sizeof path, "/proc/%s/task", pids[i]);
    DIR* tasks = opendir(path);
    for (struct dirent* task; tasks && (task = readdir(tasks));) {
      if (task->d_name[0] == '.') continue;
      static const char* const kFiles[] = {"wchan", "stack", "stat", "syscall", "status"};
      for (int f = 0; f < 5; f++) {
        snprintf(path, sizeof path, "/proc/%s/task/%s/%s", pids[i], task->d_name, kFiles[f]);
        say_file(path);
      }
    }
    if (tasks) closedir(tasks);
  }
  if (write(sysrq, "t", 1) < 0) say("no sysrq");
}

int main(int argc, char** argv) {
  kmsg = open("/dev/kmsg", O_WRONLY);
  vmstat = open("/proc/vmstat", O_RDONLY);
  meminfo = open("/proc/meminfo", O_RDONLY);
  sysrq = open("/proc/sysrq-trigger", O_WRONLY);
  if (argc < 2 || kmsg < 0 || vmstat < 0 || meminfo < 0 || sysrq < 0) return 2;
  if (mlockall(MCL_CURRENT | MCL_FUTURE) != 0) return perror("mlockall"), 1;
  unsigned long long last = 0;
  for (int quiet = 0, said = 0; said < kReports; sleep(1)) {
    const char* now = read_all(vmstat);
    const unsigned long long moved = figure(now, "\npswpin ") + figure(now, "\npswpout ") + figure(now, "\npgfault ");
    quiet = moved == last ? quiet + 1 : 0;
    last = moved;
    if (quiet == 0 || quiet % kQuietSeconds != 0) continue;
    report(argc - 1, argv + 1);
    said++;
  }
  return 0;
}
