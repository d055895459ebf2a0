/* Values of a model's metadata, checked: when one is not what it should be, the sentence names its key. */
#ifndef LLAMA_TOKENIZER_METADATA_H
#define LLAMA_TOKENIZER_METADATA_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/failure.h"
#include "disco/weights.h"

/* A value of any kind, to be given to json_decref(). False: it is no JSON, or no memory. NULL in *ret_value: there is
 * none of that name. */
bool metadata_value(const disco_weights *model, const char *key, json_t **ret_value);

/* The same, but it must be there, and be a string. */
bool metadata_string(const disco_weights *model, const char *key, json_t **ret_value);

/* The same, but it must be a list, and each element of `kind`, JSON_STRING or JSON_INTEGER. */
bool metadata_list(const disco_weights *model, const char *key, json_type kind, json_t **ret_value);

/* The id of a token, 0 to count - 1; -1 when there is none of that name. */
bool metadata_id(const disco_weights *model, const char *key, int32_t count, int32_t *ret_id);

/* True or false; false when there is none of that name. */
bool metadata_flag(const disco_weights *model, const char *key, bool *ret_flag);

#endif
