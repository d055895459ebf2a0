/* The template of the vector kernels: reduce_avx2.c and reduce_avx512.c define the primitives (vectors of WIDTH bytes)
 * and DSC_VECTOR_READY, include this once and have all kernels as static functions. Alone it is empty.
 *
 * Two inputs, the case that counts, are read, joined and stored in one loop. More go by blocks that stay in the first
 * level cache: four inputs at a time, then their sums up the tree. */
#if defined(DSC_VECTOR_READY) && !defined(DSC_CCL_REDUCE_VECTOR_H)
#define DSC_CCL_REDUCE_VECTOR_H

#include <string.h>

#include "base/compiler.h"

enum {
  LINE = 64,
  AHEAD = 24 * LINE,
  BLOCK = 16 * LINE, /* of every array at a time; 16-bit floats take twice that in float32 */
  VECTORS = BLOCK / WIDTH,
  LEVELS = 10,   /* of the tree over DSC_REDUCE_MAX_INPUTS / 4 */
  FEW = 4 * LINE /* up to here the loads themselves are all under way at once */
};

/* ---- The end of an array; one number of 4 or 8 bytes is the commonest array that is all end ---- */

ALWAYS_INLINE ints load_rest(const uint8_t *from, size_t bytes) {
  if (bytes == 8) return of_16(_mm_loadl_epi64((const __m128i *)(const void *)from));
  if (bytes == 4) return of_16(_mm_cvtsi32_si128((int32_t)load_word(from, 4)));
  return load_part(from, bytes);
}

ALWAYS_INLINE void store_rest(uint8_t *to, ints v, size_t bytes) {
  if (bytes == 8)
    _mm_storel_epi64((__m128i *)(void *)to, low_16(v));
  else if (bytes == 4)
    store_word(to, (uint32_t)_mm_cvtsi128_si32(low_16(v)), 4);
  else
    store_part(to, v, bytes);
}

/* ---- Arithmetic ---- */

/* In assembly: a compiler may swap the operands of a + b, but of two NaNs the left one must win. */
#define ARITHMETIC(name, type, instruction)                             \
  ALWAYS_INLINE type name(type a, type b) {                             \
    type result;                                                        \
    __asm__(instruction " %2, %1, %0" : "=v"(result) : "v"(a), "v"(b)); \
    return result;                                                      \
  }
ARITHMETIC(ps_plus, floats, "vaddps")
ARITHMETIC(ps_times, floats, "vmulps")
ARITHMETIC(ps_over, floats, "vdivps")
ARITHMETIC(pd_plus, doubles, "vaddpd")
ARITHMETIC(pd_times, doubles, "vmulpd")
ARITHMETIC(pd_over, doubles, "vdivpd")

ALWAYS_INLINE floats ps_least(floats a, floats b) { return f32_extreme(a, b, ps_plus(a, b), 0); }
ALWAYS_INLINE floats ps_most(floats a, floats b) { return f32_extreme(a, b, ps_plus(a, b), 1); }
ALWAYS_INLINE floats ps_share(floats a, int32_t n) { return ps_over(a, VECTOR(set1_ps)((float)n)); }
ALWAYS_INLINE doubles pd_least(doubles a, doubles b) { return f64_extreme(a, b, pd_plus(a, b), 0); }
ALWAYS_INLINE doubles pd_most(doubles a, doubles b) { return f64_extreme(a, b, pd_plus(a, b), 1); }
ALWAYS_INLINE doubles pd_share(doubles a, int32_t n) { return pd_over(a, VECTOR(set1_pd)((double)n)); }

/* Per type: what a vector of it is evaluated in (name_value), to there (name_widen, from memory name_load) and back
 * (name_narrow), and the five operations. */
#define IN_ITSELF(name, type)                                                      \
  typedef type name##_value;                                                       \
  ALWAYS_INLINE type name##_widen(ints v) { return (type)v; }                      \
  ALWAYS_INLINE type name##_load(const uint8_t *from) { return (type)load(from); } \
  ALWAYS_INLINE ints name##_narrow(type v) { return (ints)v; }                     \
  ALWAYS_INLINE type name##_kept(const ints *level) { return (type)*level; }       \
  ALWAYS_INLINE ints *name##_keep(ints *level, type v) {                           \
    *level = (ints)v;                                                              \
    return level + 1;                                                              \
  }

#define FLOATING(name, type, suffix)                                               \
  IN_ITSELF(name, type)                                                            \
  ALWAYS_INLINE type name##_plus(type a, type b) { return suffix##_plus(a, b); }   \
  ALWAYS_INLINE type name##_times(type a, type b) { return suffix##_times(a, b); } \
  ALWAYS_INLINE type name##_least(type a, type b) { return suffix##_least(a, b); } \
  ALWAYS_INLINE type name##_most(type a, type b) { return suffix##_most(a, b); }   \
  ALWAYS_INLINE type name##_share(type a, int32_t n) { return suffix##_share(a, n); }
FLOATING(f32, floats, ps)
FLOATING(f64, doubles, pd)

/* Quotients lane by lane: there is no division of integers, and no hot path needs one. */
#define LANES(name, element, wide)                                                                 \
  IN_ITSELF(name, ints)                                                                            \
  static NOINLINE ints name##_share(ints a, int32_t n) {                                           \
    element lanes[WIDTH / sizeof(element)];                                                        \
    memcpy(lanes, &a, WIDTH);                                                                      \
    for (size_t i = 0; i < WIDTH / sizeof(element); i++) lanes[i] = (element)(lanes[i] / (wide)n); \
    memcpy(&a, lanes, WIDTH);                                                                      \
    return a;                                                                                      \
  }
/* Without and with sign; sums and products wrap, so they are the same. */
#define INTEGERS(bits, wide_bits)                                                                       \
  typedef uint##bits##_t lanes##bits __attribute__((vector_size(WIDTH)));                               \
  LANES(u##bits, uint##bits##_t, uint##wide_bits##_t)                                                   \
  LANES(i##bits, int##bits##_t, int##wide_bits##_t)                                                     \
  ALWAYS_INLINE ints u##bits##_plus(ints a, ints b) { return (ints)((lanes##bits)a + (lanes##bits)b); } \
  ALWAYS_INLINE ints u##bits##_times(ints a, ints b) { return (ints)((lanes##bits)a * (lanes##bits)b); }
#define EXTREME_INTEGERS(bits)                                                               \
  ALWAYS_INLINE ints u##bits##_least(ints a, ints b) { return VECTOR(min_epu##bits)(a, b); } \
  ALWAYS_INLINE ints u##bits##_most(ints a, ints b) { return VECTOR(max_epu##bits)(a, b); }  \
  ALWAYS_INLINE ints i##bits##_least(ints a, ints b) { return VECTOR(min_epi##bits)(a, b); } \
  ALWAYS_INLINE ints i##bits##_most(ints a, ints b) { return VECTOR(max_epi##bits)(a, b); }
INTEGERS(8, 32)
INTEGERS(16, 32)
INTEGERS(32, 32)
INTEGERS(64, 64)
EXTREME_INTEGERS(8)
EXTREME_INTEGERS(16)
EXTREME_INTEGERS(32)

/* ---- 16-bit floats: two vectors of float32 for one ---- */

typedef struct {
  floats first, second;
} pair;

#define HALF(name)                                                                                         \
  ALWAYS_INLINE pair name##_kept(const ints *level) { return (pair){(floats)level[0], (floats)level[1]}; } \
  ALWAYS_INLINE ints *name##_keep(ints *level, pair v) {                                                   \
    level[0] = (ints)v.first;                                                                              \
    level[1] = (ints)v.second;                                                                             \
    return level + 2;                                                                                      \
  }                                                                                                        \
  typedef pair name##_value;                                                                               \
  ALWAYS_INLINE pair name##_plus(pair a, pair b) {                                                         \
    return (pair){ps_plus(a.first, b.first), ps_plus(a.second, b.second)};                                 \
  }                                                                                                        \
  ALWAYS_INLINE pair name##_times(pair a, pair b) {                                                        \
    return (pair){ps_times(a.first, b.first), ps_times(a.second, b.second)};                               \
  }                                                                                                        \
  ALWAYS_INLINE pair name##_least(pair a, pair b) {                                                        \
    return (pair){ps_least(a.first, b.first), ps_least(a.second, b.second)};                               \
  }                                                                                                        \
  ALWAYS_INLINE pair name##_most(pair a, pair b) {                                                         \
    return (pair){ps_most(a.first, b.first), ps_most(a.second, b.second)};                                 \
  }                                                                                                        \
  ALWAYS_INLINE pair name##_share(pair a, int32_t n) { return (pair){ps_share(a.first, n), ps_share(a.second, n)}; }

#ifndef DSC_NO_F16
ALWAYS_INLINE pair f16_widen(ints v) { return (pair){f16_widen_low(v), f16_widen_high(v)}; }
ALWAYS_INLINE ints f16_narrow(pair v) { return f16_narrow_both(v.first, v.second); }
ALWAYS_INLINE pair f16_load(const uint8_t *from) { return (pair){f16_widen_at(from), f16_widen_at(from + WIDTH / 2)}; }
HALF(f16)
#endif

/* The even elements and the odd ones: shifts only, no permutation. */
ALWAYS_INLINE pair bf16_widen(ints v) { return (pair){(floats)((lanes32)v << 16), (floats)((lanes32)v & 0xffff0000)}; }
/* Nearest even: up when what is cut off is more than a half, or a half and the last bit kept is set. A NaN needs no
 * care: it comes from a bfloat16, or from the CPU, so nothing is cut off, and it has been quieted by what joined it. */
ALWAYS_INLINE ints bf16_narrow(pair v) {
  ints first = (ints)v.first, second = (ints)v.second;
  return add_where_over(high_halves(first, second), low_halves(first, second));
}
ALWAYS_INLINE pair bf16_load(const uint8_t *from) { return bf16_widen(load(from)); }
HALF(bf16)

/* ---- Walking ---- */

/* Lines of inputs that another CPU wrote are asked for as soon as they may be, and never past the array's end. */
ALWAYS_INLINE void fetch(const uint8_t *line) { _mm_prefetch((const char *)line, _MM_HINT_T0); }

ALWAYS_INLINE void fetch_lines(const dsc_reduction *what, size_t from, size_t to, size_t end) {
  if (to > end) to = end;
  for (int32_t i = 0; i < what->num_inputs; i++)
    if (i != what->self)
      for (size_t at = from; at < to; at += LINE) fetch((const uint8_t *)what->inputs[i] + at);
}

/* Non-temporal stores need aligned vectors; outputs that are aligned unlike the first one get plain ones. */
static void write_level(const ints *level, const dsc_reduction *what, size_t at, size_t bytes) {
  for (int32_t o = 0; o < what->num_outputs; o++) {
    uint8_t *to = (uint8_t *)what->outputs[o] + at;
    size_t i = 0;
    if (what->past_caches && (uintptr_t)to % WIDTH == 0)
      for (; i + WIDTH <= bytes; i += WIDTH) stream(to + i, level[i / WIDTH]);
    else
      for (; i + WIDTH <= bytes; i += WIDTH) store(to + i, level[i / WIDTH]);
    if (i < bytes) store_part(to + i, level[i / WIDTH], bytes - i);
  }
}

/* Bytes before the first output's first whole line, 0 when its elements do not fall on one. */
static inline size_t head_of(const dsc_reduction *what, size_t bytes, size_t element) {
  size_t head = what->past_caches ? -(uintptr_t)what->outputs[0] % LINE : 0;
  return head % element != 0 || head > bytes ? 0 : head;
}

ALWAYS_INLINE size_t at_most(size_t value, size_t limit) { return value < limit ? value : limit; }

/* What `by_blocks` is made of for one type and kind. A level holds joined inputs of one block, `scale` vectors for each
 * vector of the arrays; `bytes` counts as in the arrays. */
typedef struct {
  size_t element, scale;
  void (*fill_two)(ints *level, const void *const *inputs, size_t at, size_t bytes);
  void (*fill_four)(ints *level, const void *const *inputs, size_t at, size_t bytes); /* NULL: by twos */
  void (*fold)(ints *level, const void *const *inputs, size_t at, size_t bytes);      /* level, joined with one input */
  void (*join)(ints *left, const ints *right, size_t vectors);
  void (*finish)(ints *level, int32_t n, size_t bytes); /* to what is stored, in place; NULL: it is that already */
} steps;

/* The block's n joined inputs in levels[0]. What is not yet joined are subtrees, each larger than the next; those of
 * one size join, at the end all do, from the right. A last odd input joins what is left of it. */
static inline void join_all(const steps *use, ints (*levels)[2 * VECTORS], const dsc_reduction *what, size_t at,
                            size_t bytes) {
  int32_t sizes[LEVELS], n = what->num_inputs;
  int top = 0;
  for (int32_t k = 0; k < n;) {
    const void *const *inputs = what->inputs + k;
    if (k + 1 == n) {
      use->fold(levels[top - 1], inputs, at, bytes);
      k++;
    } else {
      sizes[top] = n - k >= 4 && use->fill_four != NULL ? 4 : 2;
      (sizes[top] == 4 ? use->fill_four : use->fill_two)(levels[top], inputs, at, bytes);
      k += sizes[top++];
    }
    for (; top > 1 && (k == n || (sizes[top - 2] == sizes[top - 1])); top--) {
      use->join(levels[top - 2], levels[top - 1], (bytes + WIDTH - 1) / WIDTH * use->scale);
      sizes[top - 2] += sizes[top - 1];
    }
  }
}

static void by_blocks(const dsc_reduction *what, const steps *use) {
  ints levels[LEVELS][2 * VECTORS];
  size_t end = what->count * use->element, bytes = head_of(what, end, use->element);
  if (end > FEW) fetch_lines(what, 0, AHEAD, end);
  if (bytes == 0) bytes = at_most(end, BLOCK);
  for (size_t at = 0; at < end; at += bytes, bytes = at_most(end - at, BLOCK)) {
    if (at + AHEAD < end) fetch_lines(what, at + AHEAD, at + AHEAD + bytes, end);
    join_all(use, levels, what, at, bytes);
    if (use->finish != NULL) use->finish(levels[0], what->num_inputs, bytes);
    write_level(levels[0], what, at, bytes);
  }
  if (what->past_caches) _mm_sfence();
}

/* ---- The steps' loops: vector after vector, the last one perhaps a part ---- */

#define INPUT(name, i, bytes)                                      \
  ((bytes) == WIDTH ? name##_load((const uint8_t *)inputs[i] + at) \
                    : name##_widen(load_rest((const uint8_t *)inputs[i] + at, bytes)))

#define FILL(name, function, value)                                                                           \
  static void function(ints *level, const void *const *inputs, size_t at, size_t bytes) {                     \
    for (; bytes >= WIDTH; bytes -= WIDTH, at += WIDTH) level = name##_keep(level, value(inputs, at, WIDTH)); \
    if (bytes != 0) name##_keep(level, value(inputs, at, bytes));                                             \
  }
#define FILL_TWO(name, kind, plus)                                                                     \
  ALWAYS_INLINE name##_value name##_##kind##_two(const void *const *inputs, size_t at, size_t bytes) { \
    return plus(INPUT(name, 0, bytes), INPUT(name, 1, bytes));                                         \
  }                                                                                                    \
  FILL(name, name##_##kind##_fill_two, name##_##kind##_two)
#define FILL_FOUR(name, kind, plus)                                                                     \
  ALWAYS_INLINE name##_value name##_##kind##_four(const void *const *inputs, size_t at, size_t bytes) { \
    return plus(name##_##kind##_two(inputs, at, bytes), name##_##kind##_two(inputs + 2, at, bytes));    \
  }                                                                                                     \
  FILL(name, name##_##kind##_fill_four, name##_##kind##_four)

#define FOLD(name, kind, plus)                                                                        \
  static void name##_##kind##_fold(ints *level, const void *const *inputs, size_t at, size_t bytes) { \
    for (; bytes >= WIDTH; bytes -= WIDTH, at += WIDTH)                                               \
      level = name##_keep(level, plus(name##_kept(level), INPUT(name, 0, WIDTH)));                    \
    if (bytes != 0) name##_keep(level, plus(name##_kept(level), INPUT(name, 0, bytes)));              \
  }
#define JOIN(name, kind, plus)                                                                                         \
  static void name##_##kind##_join(ints *left, const ints *right, size_t vectors) {                                    \
    for (size_t i = 0; i < vectors; i++) left[i] = name##_narrow(plus(name##_widen(left[i]), name##_widen(right[i]))); \
  }

#define SHARE(name, v, n) name##_share(v, n)
#define WHOLE(name, v, n) (v)
#define FINISH(name, function, share)                                                \
  static void function(ints *level, int32_t n, size_t bytes) {                       \
    (void)n;                                                                         \
    ints *to = level;                                                                \
    for (size_t i = 0; i < bytes; i += WIDTH, level += sizeof(name##_value) / WIDTH) \
      *to++ = name##_narrow(share(name, name##_kept(level), n));                     \
  }

/* Two inputs and one or two outputs in one loop: what allreduce between two ranks is made of. */
#define DIRECT(name, kind, value, share)                                                          \
  ALWAYS_INLINE void name##_##kind##_direct(const dsc_reduction *what, size_t end, int outputs) { \
    const void *const inputs[2] = {what->inputs[0], what->inputs[1]};                             \
    uint8_t *x = what->outputs[0], *y = what->outputs[outputs - 1];                               \
    size_t at = 0;                                                                                \
    bool fetch_first = what->self != 0, fetch_second = what->self != 1;                           \
    if (end > FEW) fetch_lines(what, 0, AHEAD, end);                                              \
    for (; at + LINE <= end; at += LINE) {                                                        \
      if (at + AHEAD < end) {                                                                     \
        if (fetch_first) fetch((const uint8_t *)inputs[0] + at + AHEAD);                          \
        if (fetch_second) fetch((const uint8_t *)inputs[1] + at + AHEAD);                         \
      }                                                                                           \
      for (size_t i = at; i < at + LINE; i += WIDTH) {                                            \
        ints v = name##_narrow(share(name, value(inputs, i, WIDTH), 2));                          \
        store(x + i, v);                                                                          \
        if (outputs == 2) store(y + i, v);                                                        \
      }                                                                                           \
    }                                                                                             \
    for (; at < end; at += WIDTH) {                                                               \
      size_t bytes = at_most(end - at, WIDTH);                                                    \
      ints v = name##_narrow(share(name, value(inputs, at, bytes), 2));                           \
      store_rest(x + at, v, bytes);                                                               \
      if (outputs == 2) store_rest(y + at, v, bytes);                                             \
    }                                                                                             \
  }

/* ---- Kernels: `joined` names the functions that join (an average's are the sum's) ---- */

#define STEPS(name, kind, bytes, joined, four, join, finish) \
  static const steps name##_##kind##_steps = {               \
      bytes, sizeof(name##_value) / WIDTH, joined##_fill_two, four, joined##_fold, join, finish};
#define BY_BLOCKS(name, kind, bytes, joined, four, join, finish) \
  STEPS(name, kind, bytes, joined, four, join, finish)           \
  static void name##_##kind(const dsc_reduction *what) { by_blocks(what, &name##_##kind##_steps); }
#define DIRECT_OR_BY_BLOCKS(name, kind, bytes, joined, join, finish, share)                \
  STEPS(name, kind, bytes, joined, joined##_fill_four, join, finish)                       \
  DIRECT(name, kind, joined##_two, share)                                                  \
  static void name##_##kind(const dsc_reduction *what) {                                   \
    if (DSC_UNLIKELY(what->num_inputs != 2 || what->num_outputs > 2 || what->past_caches)) \
      by_blocks(what, &name##_##kind##_steps);                                             \
    else if (what->num_outputs == 1)                                                       \
      name##_##kind##_direct(what, what->count *(bytes), 1);                               \
    else                                                                                   \
      name##_##kind##_direct(what, what->count *(bytes), 2);                               \
  }

#define FILLS(name, kind, plus) \
  FILL_TWO(name, kind, plus)    \
  FOLD(name, kind, plus)
#define PLAIN_KERNEL(name, kind, bytes, plus) \
  FILLS(name, kind, plus)                     \
  JOIN(name, kind, plus)                      \
  BY_BLOCKS(name, kind, bytes, name##_##kind, NULL, name##_##kind##_join, NULL)
#define SUM_KERNEL(name, bytes)     \
  FILLS(name, sum, name##_plus)     \
  FILL_FOUR(name, sum, name##_plus) \
  JOIN(name, sum, name##_plus)      \
  DIRECT_OR_BY_BLOCKS(name, sum, bytes, name##_sum, name##_sum_join, NULL, WHOLE)
#define EXTREME_KERNELS(name, bytes)           \
  PLAIN_KERNEL(name, min, bytes, name##_least) \
  PLAIN_KERNEL(name, max, bytes, name##_most)

#define AVERAGE_KERNEL(name, bytes, sum)     \
  FINISH(name, name##_finish_average, SHARE) \
  BY_BLOCKS(name, avg, bytes, sum, sum##_fill_four, sum##_join, name##_finish_average)
#define INTEGER_KERNELS(bits, bytes)                  \
  SUM_KERNEL(u##bits, bytes)                          \
  PLAIN_KERNEL(u##bits, prod, bytes, u##bits##_times) \
  EXTREME_KERNELS(u##bits, bytes)                     \
  EXTREME_KERNELS(i##bits, bytes)                     \
  AVERAGE_KERNEL(u##bits, bytes, u##bits##_sum)       \
  AVERAGE_KERNEL(i##bits, bytes, u##bits##_sum)

#define FLOATING_KERNELS(name, bytes)           \
  SUM_KERNEL(name, bytes)                       \
  PLAIN_KERNEL(name, prod, bytes, name##_times) \
  EXTREME_KERNELS(name, bytes)                  \
  FINISH(name, name##_finish_average, SHARE)    \
  DIRECT_OR_BY_BLOCKS(name, avg, bytes, name##_sum, name##_sum_join, name##_finish_average, SHARE)

/* Levels are float32: those of f32 join. */
#define HALF_KERNEL(name, kind, plus) \
  FILLS(name, kind, plus)             \
  BY_BLOCKS(name, kind, 2, name##_##kind, NULL, f32_##kind##_join, name##_finish)
#define HALF_KERNELS(name)                                                                  \
  FINISH(name, name##_finish, WHOLE)                                                        \
  FINISH(name, name##_finish_average, SHARE)                                                \
  FILLS(name, sum, name##_plus)                                                             \
  FILL_FOUR(name, sum, name##_plus)                                                         \
  DIRECT_OR_BY_BLOCKS(name, sum, 2, name##_sum, f32_sum_join, name##_finish, WHOLE)         \
  DIRECT_OR_BY_BLOCKS(name, avg, 2, name##_sum, f32_sum_join, name##_finish_average, SHARE) \
  HALF_KERNEL(name, prod, name##_times)                                                     \
  HALF_KERNEL(name, min, name##_least)                                                      \
  HALF_KERNEL(name, max, name##_most)

INTEGER_KERNELS(8, 1)
INTEGER_KERNELS(16, 2)
INTEGER_KERNELS(32, 4)
INTEGER_KERNELS(64, 8)
FLOATING_KERNELS(f32, 4)
FLOATING_KERNELS(f64, 8)
#ifndef DSC_NO_F16
HALF_KERNELS(f16)
#endif
HALF_KERNELS(bf16)

#endif
