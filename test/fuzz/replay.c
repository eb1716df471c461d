/* SPDX-License-Identifier: GPL-3.0-or-later */
/* replay.c - play the corpora of the targets without clang.
   replay CORPUS: each file of CORPUS/NAME goes to the target NAME, and so does
   each of its beginnings, as far as they are few.  */
#include "fuzz.h"

#include <dirent.h>

#define BEGINNINGS 300 /* of a file */

#define TARGET(name) int fuzz_##name(const uint8_t *octets, size_t len);
#include "targets.h"
#undef TARGET

static const struct {
  const char *name;
  int (*run)(const uint8_t *octets, size_t len);
} targets[] = {
#define TARGET(name) {#name, fuzz_##name},
#include "targets.h"
};

static unsigned played;

/* A copy of its own, so that a sanitizer sees its borders.  */
static void play(int (*run)(const uint8_t *octets, size_t len),
                 const uint8_t *octets, size_t len) {
  uint8_t *copy = malloc(len ? len : 1);
  memcpy(copy, octets, len);
  (void)run(copy, len);
  free(copy);
  played++;
}

static void play_file(int (*run)(const uint8_t *octets, size_t len),
                      const char *name) {
  static uint8_t octets[1 << 20];
  FILE *in = fopen(name, "r");
  REQUIRE(in);
  size_t len = fread(octets, 1, sizeof octets, in);
  fclose(in);
  for (size_t i = 0; i < len; i += 1 + len / BEGINNINGS)
    play(run, octets, i);
  play(run, octets, len);
}

static void play_folder(const char *corpus, size_t target) {
  char name[1024];
  struct dirent *entry;
  unsigned files = 0;
  snprintf(name, sizeof name, "%s/%s", corpus, targets[target].name);
  DIR *dir = opendir(name);
  REQUIRE(dir);
  while ((entry = readdir(dir)))
    if (entry->d_name[0] != '.') {
      snprintf(name, sizeof name, "%s/%s/%s", corpus, targets[target].name,
               entry->d_name);
      play_file(targets[target].run, name);
      files++;
    }
  closedir(dir);
  REQUIRE(files > 0);
}

int main(int argc, char **argv) {
  REQUIRE(argc == 2);
  for (size_t i = 0; i < sizeof targets / sizeof *targets; i++)
    play_folder(argv[1], i);
  printf("test-replay: %u passed, 0 failed\n", played);
  return 0;
}
