/* The command line of disco perf. */
#include <limits.h>
#include <string.h>

#include "command.h"
#include "perf.h"

static int wrong(const char *option, const char *takes, const char *given) {
  return usage_error("perf", "%s takes %s, not `%.200s`", option, takes, given);
}

/* ---- Values. Each returns EXIT_OK or EXIT_USAGE ---- */

static bool parse_digits(const char **text, uint64_t *ret_number) {
  uint64_t number = 0;
  const char *at = *text;
  for (; *at >= '0' && *at <= '9'; at++) {
    if (number > (INT64_MAX - 9) / 10) return false;
    number = number * 10 + (uint64_t)(*at - '0');
  }
  if (at == *text) return false;
  *text = at;
  *ret_number = number;
  return true;
}

bool perf_parse_size(const char *text, uint64_t *ret_bytes) {
  static const char units[] = "KMGT";
  uint64_t number = 0;
  int shift = 0;
  if (!parse_digits(&text, &number)) return false;
  if (*text != 0) {
    const char *unit = strchr(units, *text >= 'a' ? *text - ('a' - 'A') : *text);
    if (unit == NULL || text[1] != 0) return false;
    shift = 10 * (int)(unit - units + 1);
  }
  if (number > (uint64_t)INT64_MAX >> shift) return false;
  *ret_bytes = number << shift;
  return true;
}

static int size_value(const char *option, const char *text, uint64_t *ret) {
  if (perf_parse_size(text, ret) && *ret > 0) return EXIT_OK;
  return wrong(option, "a number of bytes from 1 on, like 8, 4K or 1M", text);
}

static int number_value(const char *option, const char *text, uint64_t low, uint64_t high, uint64_t *ret) {
  const char *end = text;
  if (parse_digits(&end, ret) && *end == 0 && *ret >= low && *ret <= high) return EXIT_OK;
  return usage_error("perf", "%s takes a number from %llu to %llu, not `%.200s`", option, (unsigned long long)low,
                     (unsigned long long)high, text);
}

static int int_value(const char *option, const char *text, int32_t low, int32_t high, int32_t *ret) {
  uint64_t number = 0;
  int status = number_value(option, text, (uint64_t)low, (uint64_t)high, &number);
  if (status == EXIT_OK) *ret = (int32_t)number;
  return status;
}

static const char *op_name(int i) { return i < PERF_NUM_OPS ? perf_op_names[i] : NULL; }
static const char *type_name(int i) { return i < PERF_NUM_TYPES ? perf_types[i].name : NULL; }
static const char *redop_name(int i) { return i < PERF_NUM_REDOPS ? perf_redop_names[i] : NULL; }
static const char *session_name(int i) { return i == 0 ? "thread" : i == 1 ? "process" : NULL; }

/* One of the names, or `all`, which is PERF_ALL. */
static int name_value(const char *option, const char *text, const char *(*name)(int), bool or_all, int *ret) {
  char known[256];
  size_t used = 0;
  if (or_all && strcmp(text, "all") == 0) {
    *ret = PERF_ALL;
    return EXIT_OK;
  }
  for (int i = 0; name(i) != NULL; i++) {
    if (strcmp(text, name(i)) == 0) {
      *ret = i;
      return EXIT_OK;
    }
    used += (size_t)snprintf(known + used, sizeof(known) - used, "%s%s", i > 0 ? ", " : "", name(i));
  }
  return usage_error("perf", "%s takes one of %s%s, not `%.200s`", option, known, or_all ? ", or all" : "", text);
}

/* ---- Options ---- */

typedef enum {
  OP,
  WORKERS,
  GROUPS,
  IN_GROUP,
  SESSION,
  MIN,
  MAX,
  FACTOR,
  TYPE,
  REDOP,
  ITERS,
  WARMUP,
  CHECK,
  PRIVATE,
  CCL,
  JSON,
  CONTROL,
  NUM_OPTIONS
} option_id;

static const struct {
  const char *name;
  bool has_value;
  bool in_control; /* it means something to --control */
} options[NUM_OPTIONS] = {
    [OP] = {"--op", true, false},           [WORKERS] = {"--workers", true, true},
    [GROUPS] = {"--groups", true, false},   [IN_GROUP] = {"--in-group", false, false},
    [SESSION] = {"--session", true, true},  [MIN] = {"--min", true, false},
    [MAX] = {"--max", true, false},         [FACTOR] = {"--factor", true, false},
    [TYPE] = {"--type", true, false},       [REDOP] = {"--redop", true, false},
    [ITERS] = {"--iters", true, true},      [WARMUP] = {"--warmup", true, true},
    [CHECK] = {"--check", false, false},    [PRIVATE] = {"--private", false, false},
    [CCL] = {"--ccl", true, false},         [JSON] = {"--json", false, true},
    [CONTROL] = {"--control", false, true},
};

static int take(option_id id, const char *text, perf_options *ret) {
  const char *name = options[id].name;
  int session = 0, status = EXIT_OK;
  switch (id) {
  case OP: return name_value(name, text, op_name, true, &ret->op);
  case WORKERS: return int_value(name, text, 1, PERF_MAX_WORKERS, &ret->workers);
  case GROUPS: return int_value(name, text, 1, PERF_MAX_WORKERS, &ret->groups);
  case IN_GROUP: ret->in_group = true; break;
  case SESSION:
    status = name_value(name, text, session_name, false, &session);
    ret->processes = session == 1;
    break;
  case MIN: return size_value(name, text, &ret->min_bytes);
  case MAX: return size_value(name, text, &ret->max_bytes);
  case FACTOR: return number_value(name, text, 2, 1 << 20, &ret->factor);
  case TYPE: return name_value(name, text, type_name, true, &ret->type);
  case REDOP: return name_value(name, text, redop_name, false, &ret->redop);
  case ITERS: return int_value(name, text, 1, PERF_MAX_ITERATIONS, &ret->iterations);
  case WARMUP: return int_value(name, text, 0, PERF_MAX_ITERATIONS, &ret->warmup);
  case CHECK: ret->check = true; break;
  case PRIVATE: ret->is_private = true; break;
  case CCL: ret->ccl = text; break;
  case JSON: ret->json = true; break;
  default: ret->control = true; break;
  }
  return status;
}

static option_id find_option(const char *text) {
  int i = 0;
  while (i < NUM_OPTIONS && strcmp(options[i].name, text) != 0) i++;
  return (option_id)i;
}

int32_t perf_ranks(const perf_options *given) {
  return given->in_group ? given->workers / given->groups : given->workers;
}

/* What no single option can tell. `seen`: by option_id. */
static int check_together(const perf_options *given, const bool *seen) {
  for (int i = 0; given->control && i < NUM_OPTIONS; i++)
    if (seen[i] && !options[i].in_control)
      return usage_error("perf", "%s says nothing to --control, which runs no collective", options[i].name);
  if (given->workers % given->groups != 0)
    return usage_error("perf", "--groups %d does not divide the %d workers evenly", given->groups, given->workers);
  if (given->min_bytes > given->max_bytes)
    return usage_error("perf", "--min is larger than --max: %llu and %llu bytes", (unsigned long long)given->min_bytes,
                       (unsigned long long)given->max_bytes);
  if (given->op == PERF_SENDRECV && perf_ranks(given) < 2)
    return usage_error("perf", "--op sendrecv needs two workers%s to send to each other",
                       given->in_group ? " in a group" : "");
  return EXIT_OK;
}

int perf_parse(int argc, char **argv, perf_options *ret) {
  bool seen[NUM_OPTIONS] = {false};
  *ret = (perf_options){.op = PERF_ALLREDUCE,
                        .redop = DISCO_SUM,
                        .workers = 2,
                        .groups = 1,
                        .warmup = 10,
                        .min_bytes = 8,
                        .max_bytes = 4 << 20,
                        .factor = 2,
                        .ccl = "cpu"};
  while (strcmp(perf_types[ret->type].name, "f32") != 0) ret->type++;
  for (int i = 1; i < argc; i++) {
    option_id id = find_option(argv[i]);
    if (id == NUM_OPTIONS)
      return usage_error("perf", "%s `%.200s`", argv[i][0] == '-' ? "unknown option" : "unexpected argument", argv[i]);
    if (options[id].has_value && i + 1 == argc) return usage_error("perf", "%s needs a value", argv[i]);
    seen[id] = true;
    if (options[id].has_value) i++;
    int status = take(id, argv[i], ret);
    if (status != EXIT_OK) return status;
  }
  if (seen[MIN] && !seen[MAX] && ret->min_bytes > ret->max_bytes) ret->max_bytes = ret->min_bytes;
  if (seen[MAX] && !seen[MIN] && ret->max_bytes < ret->min_bytes) ret->min_bytes = ret->max_bytes;
  if (ret->iterations == 0) ret->iterations = ret->control ? 2000 : 100;
  return check_together(ret, seen);
}
