/* JSON by jansson, with limits: what all readers and the plan share. */
#ifndef DSC_WEIGHTS_JSON_H
#define DSC_WEIGHTS_JSON_H

#include <jansson.h>

#include "weights/model.h"

/* Parse. DISCO_VALUE with `what` (a path, "shard plan"), line and column: broken JSON, a name twice in an object,
 * deeper than DSC_WEIGHTS_MAX_JSON_DEPTH, longer than DSC_WEIGHTS_MAX_HEADER, something behind the value, a NUL in a
 * string. The caller drops *ret_json with json_decref(). The depth is checked before jansson sees the text. */
disco_status dsc_json_parse(const char *what, const char *text, size_t bytes, json_t **ret_json);
/* The whole source as JSON; sources over the limit are refused before they are read. */
disco_status dsc_json_read(const dsc_source *source, json_t **ret_json);
/* The same of the file at `path`, which is opened and closed. */
disco_status dsc_json_open(const char *path, json_t **ret_json);

/* Members of an object by type; DISCO_VALUE that names `what` (a tensor, a rule), the member, and what was there. */
disco_status dsc_json_string(const char *what, const json_t *object, const char *name, const char **ret_value);
/* 0 <= value <= limit */
disco_status dsc_json_count(const char *what, const json_t *object, const char *name, uint64_t limit,
                            uint64_t *ret_value);
/* An array of 0 to `room` integers, each >= 0. */
disco_status dsc_json_counts(const char *what, const json_t *object, const char *name, int32_t room,
                             int64_t *ret_values, int32_t *ret_count);
/* DISCO_VALUE for the first member that is none of the words (NULL behind the last), with the nearest and all of them.
 */
disco_status dsc_json_words(const char *what, json_t *object, const char *const *words);
/* false when it is absent. */
disco_status dsc_json_flag(const char *what, const json_t *object, const char *name, bool *ret_value);

/* Metadata whose value is this JSON. DISCO_VALUE as dsc_model_add_metadata() says. */
disco_status dsc_json_metadata(disco_weights *model, const char *path, const char *key, const json_t *value);

/* Readers of JSON that names other files: siblings of source->path. Sizes are compared with what it says; headers of
 * the safetensors files that an index names are read, and every tensor must be where the index says. `json` is what the
 * source has; nothing of it is kept. */
disco_status dsc_safetensors_index_fill(const dsc_source *source, const json_t *json, disco_weights *model);
disco_status dsc_tensor_cache_fill(const dsc_source *source, const json_t *json, disco_weights *model);

#endif
