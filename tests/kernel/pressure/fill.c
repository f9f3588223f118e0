// fill MEGABYTES: writes that much memory, a page after the other, and reads it back twice, in other orders; ends with
// 0 if every page is as it was written. Prints each 10 MiB as it is reached, so that it can be told where it was
// killed. The pages are like a heap's: a quarter of each is noise, the rest are pointers to few places; no two pages
// are alike.

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { kPage = 4096, kWords = kPage / 8, kPagesPerMiB = 256 };

static uint64_t mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

static uint64_t word(uint64_t page, unsigned i) {
  if (i % 32 < 8) return mix(page * kWords + i);
  return 0x00007f0000000000u + (mix(page) & 0xfff000u) + (i % 16) * 64;
}

static int is_right(const uint64_t* memory, uint64_t page) {
  for (unsigned i = 0; i < kWords; i++) {
    if (memory[page * kWords + i] == word(page, i)) continue;
    fprintf(stderr, "page %llu is not what was written\n", (unsigned long long)page);
    return 0;
  }
  return 1;
}

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  const uint64_t pages = strtoull(argv[1], NULL, 10) * kPagesPerMiB;
  uint64_t* memory =
      mmap(NULL, pages * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return perror("mmap"), 1;
  for (uint64_t page = 0; page < pages; page++) {
    for (unsigned i = 0; i < kWords; i++) memory[page * kWords + i] = word(page, i);
    if (page % (10 * kPagesPerMiB) == 0) printf("%llu\n", (unsigned long long)page / kPagesPerMiB), fflush(stdout);
  }
  for (uint64_t page = pages; page-- > 0;) {
    if (!is_right(memory, page)) return 1;
  }
  for (uint64_t page = 0; page < pages; page += 7) {
    if (!is_right(memory, page)) return 1;
  }
  puts("every page is right");
  return 0;
}
