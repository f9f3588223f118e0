// fill FILE MEGABYTES: fills that much memory with the pages of FILE, over and over, each marked with its number, and
// reads all of it back twice, in other orders; ends with 0 if every page is as it was written. Prints each MiB as it is
// reached, so that it can be told where it was killed. The file is read in pieces that it takes out of the page cache
// again: the memory in use is that which it fills.

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { kPage = 4096, kBatch = 256 };  // a batch is a MiB

static int file;
static uint64_t file_batches;
static unsigned char wanted[kBatch * kPage];

// What the pages of this batch hold.
static int make_batch(uint64_t batch) {
  const off_t at = (off_t)(batch % file_batches * sizeof wanted);
  if (pread(file, wanted, sizeof wanted, at) != (ssize_t)sizeof wanted) return perror("fill: read"), 0;
  posix_fadvise(file, at, sizeof wanted, POSIX_FADV_DONTNEED);
  for (uint64_t i = 0; i < kBatch; i++) {
    const uint64_t page = batch * kBatch + i;
    memcpy(wanted + i * kPage, &page, sizeof page);
  }
  return 1;
}

static int is_right(const unsigned char* memory, uint64_t batch) {
  if (!make_batch(batch)) return 0;
  for (uint64_t i = 0; i < kBatch; i++) {
    if (memcmp(memory + (batch * kBatch + i) * kPage, wanted + i * kPage, kPage) == 0) continue;
    fprintf(stderr, "fill: page %llu is not what was written\n", (unsigned long long)(batch * kBatch + i));
    return 0;
  }
  return 1;
}

int main(int argc, char** argv) {
  struct stat info;
  if (argc != 3) return 2;
  file = open(argv[1], O_RDONLY);
  if (file < 0 || fstat(file, &info) != 0) return perror(argv[1]), 1;
  file_batches = (uint64_t)info.st_size / sizeof wanted;
  const uint64_t batches = strtoull(argv[2], NULL, 10);
  unsigned char* memory =
      mmap(NULL, batches * sizeof wanted, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (file_batches == 0 || memory == MAP_FAILED) return fprintf(stderr, "fill: nothing to fill\n"), 1;
  for (uint64_t batch = 0; batch < batches; batch++) {
    if (!make_batch(batch)) return 1;
    memcpy(memory + batch * sizeof wanted, wanted, sizeof wanted);
    printf("%llu\n", (unsigned long long)batch + 1), fflush(stdout);
  }
  for (uint64_t batch = batches; batch-- > 0;) {
    if (!is_right(memory, batch)) return 1;
  }
  for (uint64_t batch = 0; batch < batches; batch += 7) {
    if (!is_right(memory, batch)) return 1;
  }
  puts("every page is right");
  return 0;
}
