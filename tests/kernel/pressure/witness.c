// witness: watches a machine that swaps, and tells the console where every thread stands when nothing has been swapped
// and no page touched for ten seconds. It holds all it needs beforehand, and a realtime thread is given the kernel's
// last pages: when it has something to say, there may be no memory to be had. Ends with a signal, or after three
// reports.

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { kQuietSeconds = 10, kReports = 3 };

static int kmsg, vmstat, meminfo;
static char text[65536];

static void say(const char* what, const char* line) {
  char message[900];
  const int n = snprintf(message, sizeof message, "<1>witness: %.200s %.600s", what, line);
  if (write(kmsg, message, n) < 0) _exit(1);
}

static char* read_all(int fd) {
  const ssize_t n = pread(fd, text, sizeof text - 1, 0);
  text[n > 0 ? n : 0] = 0;
  return text;
}

static unsigned long long figure(const char* all, const char* name) {
  const char* at = strstr(all, name);
  return at ? strtoull(at + strlen(name), NULL, 10) : 0;
}

static void say_lines(const char* what, char* lines) {
  for (char* at = strtok(lines, "\n"); at; at = strtok(NULL, "\n")) say(what, at);
}

// `path` is a thread's folder; a descriptor of it was opened as long as there was memory.
static void say_thread(const char* pid, const char* thread) {
  static const char* const kFiles[] = {"stat", "stack"};
  for (int i = 0; i < 2; i++) {
    char path[100];
    snprintf(path, sizeof path, "/proc/%s/task/%s/%s", pid, thread, kFiles[i]);
    const int fd = open(path, O_RDONLY);
    if (fd < 0) continue;
    say_lines(thread, read_all(fd));
    close(fd);
  }
}

static int is_number(const char* name) { return *name >= '0' && *name <= '9'; }

static void report(void) {
  say("nothing", "moves");
  say_lines("meminfo", read_all(meminfo));
  say_lines("vmstat", read_all(vmstat));
  DIR* processes = opendir("/proc");
  for (struct dirent* process; processes && (process = readdir(processes));) {
    if (!is_number(process->d_name)) continue;
    char path[100];
    snprintf(path, sizeof path, "/proc/%.20s/task", process->d_name);
    DIR* threads = opendir(path);
    for (struct dirent* thread; threads && (thread = readdir(threads));) {
      if (is_number(thread->d_name)) say_thread(process->d_name, thread->d_name);
    }
    if (threads) closedir(threads);
  }
  if (processes) closedir(processes);
  say("end", "of the report");
}

int main(void) {
  kmsg = open("/dev/kmsg", O_WRONLY);
  vmstat = open("/proc/vmstat", O_RDONLY);
  meminfo = open("/proc/meminfo", O_RDONLY);
  if (kmsg < 0 || vmstat < 0 || meminfo < 0) return perror("witness"), 1;
  const struct sched_param first = {.sched_priority = 2};
  if (sched_setscheduler(0, SCHED_FIFO, &first) != 0) return perror("witness: SCHED_FIFO"), 1;
  if (mlockall(MCL_CURRENT | MCL_FUTURE) != 0) return perror("witness: mlockall"), 1;
  unsigned long long last = 0;
  for (int quiet = 0, said = 0; said < kReports; sleep(1)) {
    const char* now = read_all(vmstat);
    const unsigned long long moved = figure(now, "\npswpin ") + figure(now, "\npswpout ") + figure(now, "\npgfault ");
    quiet = moved == last ? quiet + 1 : 0;
    last = moved;
    if (quiet == 0 || quiet % kQuietSeconds != 0) continue;
    report();
    said++;
  }
  return 0;
}
