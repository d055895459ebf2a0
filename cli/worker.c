/* disco worker: what the controller starts, once for each worker process. */
#include "disco/worker.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "perf.h"

enum { NUM_NUMBERS = 5 };
static const char *const number_names[NUM_NUMBERS] = {"ID", "WORKERS", "GROUPS", "READ_FD", "WRITE_FD"};

typedef struct {
  int numbers[NUM_NUMBERS];
  int cpu; /* -1: any */
  int argc;
  char **argv; /* where the --load options are: they are few, and read once more */
} assignment;

/* Digits only, no sign, no space, at most INT_MAX. */
static bool parse_number(const char *text, int *ret_number) {
  long long number = 0;
  if (text[0] == 0) return false;
  for (; *text != 0; text++) {
    if (*text < '0' || *text > '9') return false;
    number = number * 10 + (*text - '0');
    if (number > INT_MAX) return false;
  }
  *ret_number = (int)number;
  return true;
}

static int parse(int argc, char **argv, assignment *ret) {
  int count = 0;
  *ret = (assignment){.cpu = -1, .argc = argc, .argv = argv};
  for (int i = 1; i < argc; i++) {
    bool is_load = strcmp(argv[i], "--load") == 0, is_cpu = strcmp(argv[i], "--cpu") == 0;
    if ((is_load || is_cpu) && i + 1 == argc) return usage_error("worker", "%s needs a value", argv[i]);
    if (is_load) {
      i++;
    } else if (is_cpu) {
      if (!parse_number(argv[++i], &ret->cpu))
        return usage_error("worker", "--cpu takes the number of a CPU, not `%.200s`", argv[i]);
    } else if (argv[i][0] == '-' && count == NUM_NUMBERS) {
      return usage_error("worker", "unknown option `%.200s`", argv[i]);
    } else if (count == NUM_NUMBERS) {
      return usage_error("worker", "unexpected argument `%.200s`", argv[i]);
    } else if (!parse_number(argv[i], &ret->numbers[count])) {
      return usage_error("worker", "%s is a number, not `%.200s`", number_names[count], argv[i]);
    } else {
      count++;
    }
  }
  return count == NUM_NUMBERS ? EXIT_OK : usage_error("worker", "%s is missing", number_names[count]);
}

static int fail(void) {
  fprintf(stderr, "disco worker: %s\n", disco_last_error_text());
  return EXIT_FAILED;
}

/* Their constructors register functions; libraries stay for the life of the process. */
static int load_libraries(const assignment *work) {
  for (int i = 1; i + 1 < work->argc; i++) {
    const char *option = work->argv[i], *value = work->argv[i + 1];
    if (strncmp(option, "--", 2) != 0) continue;
    i++; /* every option has a value */
    if (strcmp(option, "--load") != 0 || dlopen(value, RTLD_NOW | RTLD_GLOBAL) != NULL) continue;
    const char *reason = dlerror();
    fprintf(stderr, "disco worker: cannot load %s: %s\n", value, reason != NULL ? reason : "no reason given");
    return EXIT_FAILED;
  }
  return EXIT_OK;
}

static int run(int argc, char **argv) {
  assignment work;
  int status = parse(argc, argv, &work);
  if (status != EXIT_OK) return status;
  /* Before the libraries: the threads that they may start inherit it. */
  if (work.cpu >= 0 && disco_bind_cpu(work.cpu) != DISCO_OK) return fail();
  status = load_libraries(&work);
  if (status != EXIT_OK) return status;
  if (perf_register() != DISCO_OK) return fail();
  const int *n = work.numbers;
  return disco_worker_process(n[0], n[1], n[2], n[3], n[4]) == DISCO_OK ? EXIT_OK : fail();
}

const command worker_command = {
    "worker", "(internal) be one worker process of a session", run,
    "Usage:\n"
    "  disco worker ID WORKERS GROUPS READ_FD WRITE_FD [--load LIBRARY]... [--cpu N]\n"
    "\n"
    "Internal: the controller of a session starts it, with two open descriptors, and ends it.\n"
    "\n"
    "Arguments:\n"
    "  ID         number of this worker, from 0\n"
    "  WORKERS    workers of the session\n"
    "  GROUPS     groups that they form\n"
    "  READ_FD    descriptor that commands come from\n"
    "  WRITE_FD   descriptor that answers go to\n"
    "\n"
    "Options:\n"
    "  --load LIBRARY   load a shared library first, whose constructor registers functions; they are loaded in order\n"
    "  --cpu N          run on CPU N alone\n"
    "\n"
    "Exit status: 0 after shutdown; 1 when the CPU, a library or the controller is not what it should be; 2 for wrong\n"
    "arguments. When its controller is gone it ends within a second.\n"};
