/* Runs a fuzz target on the files of a directory, and on every beginning of the short ones: the seeds, and each input
 * that once found a fault, stay tests wherever there is no fuzzer.
 *
 *     PROGRAM [DIRECTORY]        the default is the target's own corpus */
#include <dirent.h>
#include <string.h>

#include "fuzz.h"

enum { MAX_FILE = 1 << 20, MAX_CUT = 1024 };

static int run_file(const char *path) {
  static uint8_t bytes[MAX_FILE];
  FILE *file = fopen(path, "rb");
  if (file == NULL) {
    (void)fprintf(stderr, "cannot open %s\n", path);
    return 1;
  }
  size_t size = fread(bytes, 1, sizeof(bytes), file);
  (void)fclose(file);
  (void)fprintf(stderr, "%s (%zu bytes)\n", path, size); /* known when it crashes */
  (void)LLVMFuzzerTestOneInput(bytes, size);
  for (size_t cut = 0; size <= MAX_CUT && cut < size; cut++) (void)LLVMFuzzerTestOneInput(bytes, cut);
  return 0;
}

int main(int argc, char **argv) {
  const char *directory = argc > 1 ? argv[1] : FUZZ_CORPUS;
  int files = 0, failures = 0;
  DIR *corpus = opendir(directory);
  if (corpus == NULL) {
    (void)fprintf(stderr, "cannot open the corpus %s\n", directory);
    return 1;
  }
  for (const struct dirent *entry = readdir(corpus); entry != NULL; entry = readdir(corpus)) {
    char path[4096];
    if (entry->d_name[0] == '.') continue;
    if (snprintf(path, sizeof(path), "%s/%s", directory, entry->d_name) >= (int)sizeof(path)) continue;
    failures += run_file(path);
    files++;
  }
  (void)closedir(corpus);
  (void)printf("%d files of %s\n", files, directory);
  if (files == 0) (void)fprintf(stderr, "the corpus %s is empty\n", directory);
  return files == 0 || failures > 0;
}
