/* Words for types, shapes and sizes; patterns. */
#define _POSIX_C_SOURCE 200809L

#include "weights.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"

void dtype_text(DLDataType dtype, char text[DTYPE_ROOM]) {
  static const struct {
    int code;
    const char *name;
    bool has_bits;
  } names[] = {
      {kDLInt, "int", true},
      {kDLUInt, "uint", true},
      {kDLFloat, "float", true},
      {kDLBfloat, "bfloat", true},
      {kDLComplex, "complex", true},
      {kDLBool, "bool", false},
      {kDLFloat8_e3m4, "float8_e3m4", false},
      {kDLFloat8_e4m3, "float8_e4m3", false},
      {kDLFloat8_e4m3b11fnuz, "float8_e4m3b11fnuz", false},
      {kDLFloat8_e4m3fn, "float8_e4m3fn", false},
      {kDLFloat8_e4m3fnuz, "float8_e4m3fnuz", false},
      {kDLFloat8_e5m2, "float8_e5m2", false},
      {kDLFloat8_e5m2fnuz, "float8_e5m2fnuz", false},
      {kDLFloat8_e8m0fnu, "float8_e8m0fnu", false},
  };
  char bits[8] = "", lanes[8] = "";
  text[0] = 0;
  if (dtype.bits == 0) return;
  if (dtype.lanes != 1) (void)snprintf(lanes, sizeof(lanes), "x%u", (unsigned)dtype.lanes);
  for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
    if (names[i].code != dtype.code) continue;
    if (names[i].has_bits) (void)snprintf(bits, sizeof(bits), "%u", (unsigned)dtype.bits);
    (void)snprintf(text, DTYPE_ROOM, "%s%s%s", names[i].name, bits, lanes);
    return;
  }
  (void)snprintf(text, DTYPE_ROOM, "code%u_%u%s", (unsigned)dtype.code, (unsigned)dtype.bits, lanes);
}

void shape_text(int32_t ndim, const int64_t *shape, char text[SHAPE_ROOM]) {
  int used = snprintf(text, SHAPE_ROOM, "[");
  for (int32_t i = 0; i < ndim; i++)
    used += snprintf(text + used, (size_t)(SHAPE_ROOM - used), i > 0 ? ", %lld" : "%lld", (long long)shape[i]);
  (void)snprintf(text + used, (size_t)(SHAPE_ROOM - used), "]");
}

void size_text(uint64_t bytes, char text[SIZE_ROOM]) {
  static const char *const units[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  double size = (double)bytes / 1024;
  int unit = 0;
  if (bytes < 1024) {
    (void)snprintf(text, SIZE_ROOM, "%d byte%s", (int)bytes, bytes == 1 ? "" : "s");
    return;
  }
  for (; size >= 1024 && unit < 5; unit++) size /= 1024;
  (void)snprintf(text, SIZE_ROOM, "%.1f %s", size, units[unit]);
}

void print_bytes(uint64_t bytes) {
  char size[SIZE_ROOM];
  size_text(bytes, size);
  printf("%llu", (unsigned long long)bytes);
  if (bytes >= 1024) printf(" (%s)", size);
}

disco_status plan_of_pattern(const char *json, size_t size, disco_shard_plan **ret_plan) {
  static const char begin[] = "{\"rules\": [{\"match\": ";
  static const char end[] = ", \"skip\": true}, {\"match\": \"*\", \"replicate\": true}]}";
  const size_t bytes = sizeof(begin) - 1 + size + sizeof(end) - 1;
  char *text = malloc(bytes);
  if (text == NULL) return disco_fail(DISCO_MEMORY, "no memory for a pattern");
  memcpy(text, begin, sizeof(begin) - 1);
  memcpy(text + sizeof(begin) - 1, json, size);
  memcpy(text + sizeof(begin) - 1 + size, end, sizeof(end) - 1);
  disco_status status = disco_shard_plan_parse(text, bytes, ret_plan);
  free(text);
  return status;
}

bool name_matches(const disco_weights *weights, int64_t tensor, const disco_shard_plan *plan) {
  disco_shard shard;
  return disco_shard_of(weights, plan, tensor, 1, 0, &shard) == DISCO_OK && shard.is_skipped;
}

uint64_t saturated_sum(uint64_t a, uint64_t b) { return a > UINT64_MAX - b ? UINT64_MAX : a + b; }

uint64_t num_elements(const disco_weights_tensor *tensor) {
  uint64_t count = 1;
  for (int32_t i = 0; i < tensor->ndim; i++)
    if (tensor->shape[i] == 0) return 0;
  for (int32_t i = 0; i < tensor->ndim; i++) count *= (uint64_t)tensor->shape[i];
  return count;
}

void print_name(const char *name, int width) {
  const int used = print_safe(stdout, name, strlen(name));
  printf("%*s", used < width ? width - used : 0, "");
}

static void widen(int *width, int needed) {
  if (*width < needed) *width = needed;
}

void widen_to_name(const char *name, int *width) {
  const int needed = print_safe(NULL, name, strlen(name));
  widen(width, needed < 64 ? needed : 64);
}

void widen_to_text(const char *text, int *width) { widen(width, (int)strlen(text)); }

void widen_to_number(uint64_t number, int *width) {
  widen(width, snprintf(NULL, 0, "%llu", (unsigned long long)number));
}

void json_text(const char *name, const char *text) {
  printf("\"%s\": ", name);
  print_json_string(stdout, text, strlen(text));
}
