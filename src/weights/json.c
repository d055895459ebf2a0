#include "weights/json.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/inject.h"
#include "base/memory.h"
#include "base/text.h"
#include "os/cgroup.h"
#include "weights/names.h"
#include "weights/source.h"

/* ---- Parsing ---- */

/* What a parsed value costs is a multiple of the text only if the text does not consist of empty arrays. No file of the
 * formats comes near these. */
enum { SMALL = 4096, BYTES_PER_VALUE = 3, BYTES_PER_CONTAINER = 12 };
/* What jansson takes for them, rounded up; from WORTH_A_LOOK on the control group's limit is asked first. */
enum { VALUE_TAKES = 40, CONTAINER_TAKES = 230, WORTH_A_LOOK = 16 << 20 };

/* Behind the string that begins at `at` with its quote. */
static const char *skip_string(const char *at, const char *end) {
  for (at++; at < end && *at != '"'; at++)
    if (*at == '\\') at++;
  return at < end ? at + 1 : end;
}

/* Depth, and how many values there are: without a stack, and whether or not it is JSON. */
static disco_status scan(const char *what, const char *text, size_t bytes) {
  const char *end = text + bytes;
  size_t values = 1, containers = 0;
  int64_t depth = 0;
  for (const char *at = text; at < end;) {
    const char c = *at;
    if (c == '"') {
      at = skip_string(at, end);
      continue;
    }
    at++;
    if (c == '[' || c == '{') {
      containers++;
      if (++depth > DSC_WEIGHTS_MAX_JSON_DEPTH)
        return dsc_fail(DISCO_VALUE, "%s: JSON nested deeper than %d at its byte %zu", what, DSC_WEIGHTS_MAX_JSON_DEPTH,
                        (size_t)(at - 1 - text));
    } else if (c == ']' || c == '}') {
      depth--;
    } else if (c == ',' || c == ':') {
      values++;
    }
  }
  if (values > SMALL + bytes / BYTES_PER_VALUE || containers > SMALL + bytes / BYTES_PER_CONTAINER)
    return dsc_fail(DISCO_VALUE,
                    "%s: %zu values, %zu of them arrays or objects, in %zu bytes of JSON; at most one in %d and one in "
                    "%d bytes are taken",
                    what, values, containers, bytes, BYTES_PER_VALUE, BYTES_PER_CONTAINER);
  const uint64_t takes = bytes + (uint64_t)values * VALUE_TAKES + (uint64_t)containers * CONTAINER_TAKES;
  return takes < WORTH_A_LOOK ? DISCO_OK : dsc_memory_check(takes, what);
}

/* jansson's words quote the text, which is a stranger's. */
static disco_status refuse_json(const char *what, const json_error_t *error) {
  char words[DSC_NAME_PRINT_BYTES];
  if (json_error_code(error) == json_error_out_of_memory) return dsc_fail(DISCO_MEMORY, "no memory to parse %s", what);
  (void)dsc_name_print(error->text, words);
  words[strlen(words) - 1] = '\0';
  return dsc_fail(DISCO_VALUE, "%s: not the JSON that is expected, line %d, column %d: %s", what, error->line,
                  error->column, words + 1);
}

static disco_status check_size(const char *what, uint64_t bytes) {
  if (bytes <= DSC_WEIGHTS_MAX_HEADER) return DISCO_OK;
  return dsc_fail(DISCO_VALUE, "%s: %llu bytes of JSON, the limit is %d", what, (unsigned long long)bytes,
                  DSC_WEIGHTS_MAX_HEADER);
}

disco_status dsc_json_parse(const char *what, const char *text, size_t bytes, json_t **ret_json) {
  disco_status status = check_size(what, bytes);
  if (status == DISCO_OK) status = scan(what, text, bytes);
  if (status != DISCO_OK) return status;
  if (DSC_ALLOCATION_FAILS()) return dsc_fail(DISCO_MEMORY, "no memory to parse %s", what);
  json_error_t error;
  json_t *json = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &error);
  if (json == NULL) return refuse_json(what, &error);
  *ret_json = json;
  return DISCO_OK;
}

disco_status dsc_json_read(const dsc_source *source, json_t **ret_json) {
  disco_status status = check_size(source->path, source->bytes);
  if (status != DISCO_OK) return status;
  char *text = dsc_alloc(source->bytes + 1, "a JSON file");
  if (text == NULL) return DISCO_MEMORY;
  status = source->read(source->context, 0, text, source->bytes);
  if (status == DISCO_OK) status = dsc_json_parse(source->path, text, source->bytes, ret_json);
  free(text);
  return status;
}

disco_status dsc_json_open(const char *path, json_t **ret_json) {
  dsc_file_source file;
  disco_status status = dsc_file_source_open(path, &file);
  if (status != DISCO_OK) return status;
  status = dsc_json_read(&file.source, ret_json);
  dsc_file_source_close(&file);
  return status;
}

/* ---- Members ---- */

/* What was there, as the end of a sentence. */
static const char *describe(const json_t *value, char *to, size_t room) {
  char print[DSC_NAME_PRINT_BYTES];
  switch (json_typeof(value)) {
  case JSON_OBJECT: (void)snprintf(to, room, "an object"); break;
  case JSON_ARRAY: (void)snprintf(to, room, "an array of %zu values", json_array_size(value)); break;
  case JSON_STRING: (void)snprintf(to, room, "%s", dsc_name_print(json_string_value(value), print)); break;
  case JSON_INTEGER: (void)snprintf(to, room, "%lld", (long long)json_integer_value(value)); break;
  case JSON_REAL: (void)snprintf(to, room, "%.17g, which is no integer", json_real_value(value)); break;
  case JSON_TRUE: (void)snprintf(to, room, "true"); break;
  case JSON_FALSE: (void)snprintf(to, room, "false"); break;
  default: (void)snprintf(to, room, "null"); break;
  }
  return to;
}

static disco_status refuse(const char *what, const char *name, const json_t *value, const char *expected) {
  char is[DSC_NAME_PRINT_BYTES];
  if (value == NULL) return dsc_fail(DISCO_VALUE, "%s has no \"%s\"; it must be %s", what, name, expected);
  return dsc_fail(DISCO_VALUE, "\"%s\" of %s must be %s, not %s", name, what, expected,
                  describe(value, is, sizeof(is)));
}

disco_status dsc_json_string(const char *what, const json_t *object, const char *name, const char **ret_value) {
  const json_t *value = json_object_get(object, name);
  if (!json_is_string(value)) return refuse(what, name, value, "a string");
  *ret_value = json_string_value(value);
  return DISCO_OK;
}

disco_status dsc_json_count(const char *what, const json_t *object, const char *name, uint64_t limit,
                            uint64_t *ret_value) {
  const json_t *value = json_object_get(object, name);
  const json_int_t number = json_integer_value(value);
  if (json_is_integer(value) && number >= 0 && (uint64_t)number <= limit) {
    *ret_value = (uint64_t)number;
    return DISCO_OK;
  }
  char expected[64];
  if (limit > INT64_MAX) limit = INT64_MAX;
  (void)snprintf(expected, sizeof(expected), "an integer from 0 to %llu", (unsigned long long)limit);
  return refuse(what, name, value, expected);
}

disco_status dsc_json_counts(const char *what, const json_t *object, const char *name, int32_t room,
                             int64_t *ret_values, int32_t *ret_count) {
  const json_t *array = json_object_get(object, name);
  char expected[64];
  (void)snprintf(expected, sizeof(expected), "an array of at most %d integers", room);
  if (!json_is_array(array) || json_array_size(array) > (size_t)room) return refuse(what, name, array, expected);
  const size_t count = json_array_size(array);
  for (size_t i = 0; i < count; i++) {
    const json_t *value = json_array_get(array, i);
    if (!json_is_integer(value) || json_integer_value(value) < 0) {
      char is[DSC_NAME_PRINT_BYTES];
      return dsc_fail(DISCO_VALUE, "value %zu of \"%s\" of %s must be an integer of at least 0, not %s", i, name, what,
                      describe(value, is, sizeof(is)));
    }
    ret_values[i] = json_integer_value(value);
  }
  *ret_count = (int32_t)count;
  return DISCO_OK;
}

disco_status dsc_json_flag(const char *what, const json_t *object, const char *name, bool *ret_value) {
  const json_t *value = json_object_get(object, name);
  if (value != NULL && !json_is_boolean(value)) return refuse(what, name, value, "true or false");
  *ret_value = json_is_true(value);
  return DISCO_OK;
}

disco_status dsc_json_words(const char *what, json_t *object, const char *const *words) {
  const char *name;
  char print[DSC_NAME_PRINT_BYTES];
  json_t *value;
  json_object_foreach(object, name, value) {
    const char *const *word = words;
    while (*word != NULL && strcmp(*word, name) != 0) word++;
    if (*word != NULL) continue;
    dsc_nearest nearest;
    dsc_text hint = DSC_TEXT_INIT, known = DSC_TEXT_INIT;
    dsc_nearest_init(&nearest, name);
    for (word = words; *word != NULL; word++) {
      dsc_nearest_offer(&nearest, *word);
      dsc_text_add(&known, "%s%s", word == words ? "" : ", ", *word);
    }
    dsc_nearest_print(&nearest, &hint);
    disco_status status =
        dsc_fail(DISCO_VALUE, "%s has an unknown word %s%s (known: %s)", what, dsc_name_print(name, print),
                 hint.data != NULL ? hint.data : "", known.data != NULL ? known.data : "");
    dsc_text_fini(&hint);
    dsc_text_fini(&known);
    return status;
  }
  return DISCO_OK;
}

disco_status dsc_json_metadata(disco_weights *model, const char *path, const char *key, const json_t *value) {
  char *text = DSC_ALLOCATION_FAILS() ? NULL : json_dumps(value, JSON_ENCODE_ANY);
  if (text == NULL) return dsc_fail(DISCO_MEMORY, "no memory for the metadata of %s", path);
  disco_status status = dsc_model_add_metadata(model, path, key, text);
  free(text);
  return status;
}
