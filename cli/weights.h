/* What `disco inspect` and `disco shard` share: words for types, shapes and sizes, and sums over tensors. */
#ifndef DISCO_CLI_WEIGHTS_H
#define DISCO_CLI_WEIGHTS_H

#include "disco/weights.h"

enum { DTYPE_ROOM = 32, SHAPE_ROOM = 24 * DISCO_WEIGHTS_MAX_NDIM, SIZE_ROOM = 32 };

/* "float32", "bfloat16", "uint8"; "" for the dtype with 0 bits: what cannot be read. */
void dtype_text(DLDataType dtype, char text[DTYPE_ROOM]);
/* "[64, 128]": also JSON. */
void shape_text(int32_t ndim, const int64_t *shape, char text[SHAPE_ROOM]);
/* "131.6 MiB"; "17 bytes" below a KiB. */
void size_text(uint64_t bytes, char text[SIZE_ROOM]);
/* "138000000 (131.6 MiB)", without a second number where it would be the same. */
void print_bytes(uint64_t bytes);
/* Patterns are those of shard plans, so it is a plan that matches them: nobody gets what matches `json`, a JSON string
 * of `size` bytes. Errors of disco_shard_plan_parse(). */
disco_status plan_of_pattern(const char *json, size_t size, disco_shard_plan **ret_plan);
/* Whether the name of a tensor matches the pattern of such a plan. */
bool name_matches(const disco_weights *weights, int64_t tensor, const disco_shard_plan *plan);
/* The sum, or the largest number there is. */
uint64_t saturated_sum(uint64_t a, uint64_t b);
/* The product of the shape; what the file says can be large only where a dimension is 0. */
uint64_t num_elements(const disco_weights_tensor *tensor);

/* `name`, at least `width` characters wide with what follows. */
void print_name(const char *name, int width);
/* Widths of a table: the larger of what it is and what the text needs; names that are longer than 64 stick out. */
void widen_to_name(const char *name, int *width);
void widen_to_text(const char *text, int *width);
void widen_to_number(uint64_t number, int *width);
/* "name": text, as a member of a JSON object. */
void json_text(const char *name, const char *text);

#endif
