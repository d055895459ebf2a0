/* What the tensors of disco perf hold. An element is a function of the worker that sends it and of its place, so every
 * worker knows what it must receive without asking: moved bytes are a hash; reduced ones are small whole numbers, of
 * which a reduction in any order is exact until its one rounding. */
#include <string.h>

#include "perf.h"

/* splitmix64's finisher. */
static uint64_t hash(int32_t worker, int64_t index) {
  uint64_t x = ((uint64_t)worker + 1) * 0x9e3779b97f4a7c15u + (uint64_t)index;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

/* Products stay small, the others fit the narrowest type. */
static uint64_t small(int32_t redop, int32_t worker, int64_t index) {
  uint64_t h = hash(worker, index);
  if (redop == DISCO_PROD) return 1 + (h & 1);
  return redop == DISCO_SUM || redop == DISCO_AVG ? h % 32 : h % 100;
}

/* ---- Numbers as elements ---- */

/* Of what is not negative, and zero or normal as a float16, which all values here are. To nearest even. */
static uint16_t half_of(float number) {
  uint32_t bits;
  memcpy(&bits, &number, sizeof(bits));
  if (bits == 0) return 0;
  if (number >= 65520.0f) return 0x7c00;
  uint32_t kept = (bits >> 13) - (112u << 10), rest = bits & 0x1fff;
  return (uint16_t)(kept + (rest > 0x1000 || (rest == 0x1000 && (kept & 1) != 0)));
}

static uint16_t bfloat_of(float number) {
  uint32_t bits;
  memcpy(&bits, &number, sizeof(bits));
  return (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

static bool is_real(int32_t type) {
  return perf_types[type].dtype.code == kDLFloat || perf_types[type].dtype.code == kDLBfloat;
}

/* The low bytes of a whole number, on machines that store these first; the library runs on no others. */
static void store_whole(int32_t type, uint64_t number, void *element) {
  memcpy(element, &number, (size_t)perf_types[type].bytes);
}

static void store_real(int32_t type, double number, void *element) {
  uint16_t sixteen;
  float single = (float)number;
  if (perf_types[type].bytes == 8) {
    memcpy(element, &number, sizeof(number));
  } else if (perf_types[type].bytes == 4) {
    memcpy(element, &single, sizeof(single));
  } else {
    sixteen = perf_types[type].dtype.code == kDLBfloat ? bfloat_of(single) : half_of(single);
    memcpy(element, &sixteen, sizeof(sixteen));
  }
}

/* ---- Reductions ---- */

static uint64_t combine(int32_t redop, uint64_t a, uint64_t b) {
  switch (redop) {
  case DISCO_PROD: return a * b;
  case DISCO_MIN: return a < b ? a : b;
  case DISCO_MAX: return a > b ? a : b;
  default: return a + b;
  }
}

static double combine_real(int32_t redop, double a, double b) {
  switch (redop) {
  case DISCO_PROD: return a * b;
  case DISCO_MIN: return a < b ? a : b;
  case DISCO_MAX: return a > b ? a : b;
  default: return a + b;
  }
}

/* The mean of integers: of the sum as the type holds it, toward zero. */
static uint64_t mean_whole(int32_t type, uint64_t sum, int32_t ranks) {
  int spare = 64 - 8 * perf_types[type].bytes;
  if (perf_types[type].dtype.code == kDLUInt) return (sum << spare >> spare) / (uint64_t)ranks;
  return (uint64_t)((int64_t)(sum << spare) / ((int64_t)1 << spare) / ranks);
}

static void reduce_whole(const perf_values *values, int64_t index, void *element) {
  uint64_t total = small(values->redop, values->first, index);
  for (int32_t r = 1; r < values->ranks; r++)
    total = combine(values->redop, total, small(values->redop, values->first + r, index));
  if (values->redop == DISCO_AVG) total = mean_whole(values->type, total, values->ranks);
  store_whole(values->type, total, element);
}

static void reduce_real(const perf_values *values, int64_t index, void *element) {
  double total = (double)small(values->redop, values->first, index);
  for (int32_t r = 1; r < values->ranks; r++)
    total = combine_real(values->redop, total, (double)small(values->redop, values->first + r, index));
  if (values->redop == DISCO_AVG) { /* in float64 for itself, in float32 for the rest */
    if (perf_types[values->type].bytes == 8)
      total /= values->ranks;
    else
      total = (double)((float)total / (float)values->ranks);
  }
  store_real(values->type, total, element);
}

/* ---- Elements of a tensor ---- */

static void sent(const perf_values *values, int64_t index, void *element) {
  int32_t worker = values->first + values->rank;
  if (values->op != PERF_ALLREDUCE)
    store_whole(values->type, hash(worker, index), element);
  else if (is_real(values->type))
    store_real(values->type, (double)small(values->redop, worker, index), element);
  else
    store_whole(values->type, small(values->redop, worker, index), element);
}

/* An operation that moves: whose element, and which of them, comes to `index`. */
static uint64_t moved(const perf_values *values, int64_t index) {
  switch ((perf_op)values->op) {
  case PERF_BROADCAST: return hash(values->first, index);
  case PERF_SCATTER: return hash(values->first, values->rank * values->count + index);
  case PERF_SENDRECV: return hash(values->first + (values->rank + values->ranks - 1) % values->ranks, index);
  default: return hash(values->first + (int32_t)(index / values->count), index % values->count);
  }
}

static void expected(const perf_values *values, int64_t index, void *element) {
  if (values->op != PERF_ALLREDUCE)
    store_whole(values->type, moved(values, index), element);
  else if (is_real(values->type))
    reduce_real(values, index, element);
  else
    reduce_whole(values, index, element);
}

void perf_fill_send(const perf_values *values, void *data) {
  int64_t count = perf_sent((perf_op)values->op, values->rank, values->ranks, values->count);
  char *at = data;
  for (int64_t i = 0; i < count; i++, at += perf_types[values->type].bytes) sent(values, i, at);
}

void perf_fill_expected(const perf_values *values, void *data) {
  int64_t count = perf_received((perf_op)values->op, values->rank, values->ranks, values->count);
  char *at = data;
  for (int64_t i = 0; i < count; i++, at += perf_types[values->type].bytes) expected(values, i, at);
}

void perf_fill_wrong(const perf_values *values, void *data) {
  int64_t count = perf_received((perf_op)values->op, values->rank, values->ranks, values->count);
  unsigned char *at = data;
  perf_fill_expected(values, data);
  for (int64_t i = 0; i < count * perf_types[values->type].bytes; i++) at[i] = (unsigned char)~at[i];
}

int64_t perf_count_wrong(const perf_values *values, const void *data) {
  int64_t count = perf_received((perf_op)values->op, values->rank, values->ranks, values->count), wrong = 0;
  size_t bytes = (size_t)perf_types[values->type].bytes;
  const char *at = data;
  for (int64_t i = 0; i < count; i++, at += bytes) {
    unsigned char element[8];
    expected(values, i, element);
    wrong += memcmp(element, at, bytes) != 0;
  }
  return wrong;
}
