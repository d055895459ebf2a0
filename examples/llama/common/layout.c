#include "common/layout.h"

#include <stdio.h>
#include <stdlib.h>

enum { COLUMNS_UNIT = 32 /* what GGUF quantises together */, VOCABULARY_UNIT = 16, PLAN_BYTES = 2048 };

/* Runs are multiples of a unit where the size allows it: blocks stay whole, and rows come in vectors. */
static int32_t unit_of(int32_t size, int32_t unit) { return size % unit == 0 ? unit : 1; }

static int32_t least(int32_t a, int32_t b) { return a < b ? a : b; }

/* "1, 2 (unevenly) or 3": the numbers from 1 to `most` that share `heads` runs of heads. */
static void list_numbers(int32_t most, int32_t heads, size_t size, char *to) {
  enum { LISTED = 8 };
  int length = 0;
  for (int32_t n = 1; n <= most && n <= LISTED; n++)
    length += snprintf(to + length, size - (size_t)length, "%s%d%s",
                       n == 1      ? ""
                       : n == most ? " or "
                                   : ", ",
                       n, heads % n != 0 ? " (unevenly)" : "");
  if (most > LISTED) (void)snprintf(to + length, size - (size_t)length, ", ... %d", most);
}

bool layout_check(const dims *d, int32_t workers) {
  const int32_t columns = d->hidden / unit_of(d->hidden, COLUMNS_UNIT), heads = d->kv_heads / d->head_unit;
  const int32_t rows = d->vocabulary / unit_of(d->vocabulary, VOCABULARY_UNIT);
  const int32_t most = least(heads, least(columns, rows));
  if (workers >= 1 && workers <= most) return true;
  char numbers[128], together[96] = "";
  list_numbers(most, heads, sizeof(numbers), numbers);
  if (d->head_unit > 1)
    (void)snprintf(together, sizeof(together), " in groups of %d (a block of attn_output covers so many)",
                   d->head_unit);
  return refuse(
      DISCO_VALUE,
      "%d workers cannot share this model: it has %d key-value heads%s, %d groups of feed-forward columns and %d "
      "of the vocabulary, and every worker needs at least one of each. Use %s worker%s",
      workers, d->kv_heads, together, columns, rows, numbers, most == 1 ? "" : "s");
}

char *layout_plan(const dims *d, bool is_decoded) {
  char *plan = malloc(PLAN_BYTES);
  if (plan == NULL) return NULL;
  const char *decode = is_decoded ? ", \"decode\": true" : "";
  const int32_t keys = d->head_unit * d->head_width, queries = d->heads / d->kv_heads * keys;
  const int32_t columns = unit_of(d->hidden, COLUMNS_UNIT), rows = unit_of(d->vocabulary, VOCABULARY_UNIT);
  (void)snprintf(plan, PLAN_BYTES,
                 "{\"rules\": ["
                 "{\"match\": \"*.attn_q.weight\", \"axis\": 0, \"unit\": %d, \"uneven\": true%s}, "
                 "{\"match\": \"*.attn_[kv].weight\", \"axis\": 0, \"unit\": %d, \"uneven\": true%s}, "
                 "{\"match\": \"*.attn_output.weight\", \"axis\": 1, \"unit\": %d, \"uneven\": true%s}, "
                 "{\"match\": \"*.ffn_gate.weight\", \"axis\": 0, \"unit\": %d, \"uneven\": true%s}, "
                 "{\"match\": \"*.ffn_up.weight\", \"axis\": 0, \"unit\": %d, \"uneven\": true%s}, "
                 "{\"match\": \"*.ffn_down.weight\", \"axis\": 1, \"unit\": %d, \"uneven\": true%s}, "
                 "{\"match\": \"token_embd.weight\", \"axis\": 0, \"unit\": %d, \"uneven\": true%s}, "
                 "{\"match\": \"output.weight\", \"axis\": 0, \"unit\": %d, \"uneven\": true%s}, "
                 "{\"match\": \"*\", \"replicate\": true, \"decode\": true}]}",
                 queries, decode, keys, decode, queries, decode, columns, decode, columns, decode, columns, decode,
                 rows, decode, rows, decode);
  return plan;
}
