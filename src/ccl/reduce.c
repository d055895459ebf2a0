#include "ccl/reduce.h"

#include <string.h>
#ifdef __x86_64__
#include <cpuid.h>
#endif

#include "base/atomics.h"
#include "base/compiler.h"
#include "base/settings.h"
#include "ccl/reduce_kernels.h"
#include "os/copy.h"

/* From the slowest to the fastest. */
static const dsc_kernels *const all[] = {
    &dsc_kernels_scalar,
#ifdef DSC_KERNELS_X86
    &dsc_kernels_avx2,
    &dsc_kernels_avx512,
#endif
};
enum { NUM_KERNELS = sizeof(all) / sizeof(all[0]) };

static const dsc_kernels *_Atomic in_use; /* NULL until somebody asks */

const char *dsc_reduce_kind_name(dsc_reduce_kind kind) {
  static const char *const names[DSC_NUM_REDUCES] = {
#define NAME(name, value, text) [value] = text,
      DSC_REDUCE_LIST(NAME)
#undef NAME
  };
  return names[kind];
}

size_t dsc_dtype_bytes(dsc_dtype dtype) {
  static const uint8_t sizes[DSC_NUM_DTYPES] = {
#define SIZE(name, text, bytes) bytes,
      DSC_DTYPE_LIST(SIZE)
#undef SIZE
  };
  return sizes[dtype];
}

bool dsc_dtype_of(DLDataType dtype, dsc_dtype *ret_dtype) {
  static const struct {
    uint8_t code, bits;
  } table[DSC_NUM_DTYPES] = {
      [DSC_DTYPE_I8] = {kDLInt, 8},       [DSC_DTYPE_U8] = {kDLUInt, 8},    [DSC_DTYPE_I16] = {kDLInt, 16},
      [DSC_DTYPE_U16] = {kDLUInt, 16},    [DSC_DTYPE_I32] = {kDLInt, 32},   [DSC_DTYPE_U32] = {kDLUInt, 32},
      [DSC_DTYPE_I64] = {kDLInt, 64},     [DSC_DTYPE_U64] = {kDLUInt, 64},  [DSC_DTYPE_F16] = {kDLFloat, 16},
      [DSC_DTYPE_BF16] = {kDLBfloat, 16}, [DSC_DTYPE_F32] = {kDLFloat, 32}, [DSC_DTYPE_F64] = {kDLFloat, 64},
  };
  for (int i = 0; i < DSC_NUM_DTYPES; i++)
    if (table[i].code == dtype.code && table[i].bits == dtype.bits) {
      *ret_dtype = (dsc_dtype)i;
      return true;
    }
  return false;
}

static bool usable(const dsc_kernels *kernels) {
#ifdef DSC_KERNELS_X86
  __builtin_cpu_init();
  /* clang 14 cannot ask for F16C by name. */
  unsigned eax, ebx, ecx = 0, edx;
  bool avx2 = __builtin_cpu_supports("avx2") && __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & bit_F16C) != 0;
  if (kernels == &dsc_kernels_avx2) return avx2;
  if (kernels == &dsc_kernels_avx512)
    return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
#endif
  return kernels == &dsc_kernels_scalar;
}

static const dsc_kernels *find(const char *name) {
  for (int i = 0; i < NUM_KERNELS; i++)
    if (strcmp(all[i]->name, name) == 0) return all[i];
  return NULL;
}

/* Threads that come here together find the same. */
static DSC_COLD const dsc_kernels *choose(void) {
  const dsc_kernels *chosen = find(dsc_setting(DSC_SETTING_KERNELS));
  if (chosen == NULL || !usable(chosen))
    for (int i = 0; i < NUM_KERNELS; i++)
      if (usable(all[i])) chosen = all[i];
  dsc_store_relaxed(&in_use, chosen);
  return chosen;
}

static inline const dsc_kernels *kernels(void) {
  const dsc_kernels *chosen = dsc_load_relaxed(&in_use); /* constant data: nothing to acquire */
  return DSC_LIKELY(chosen != NULL) ? chosen : choose();
}

/* One input: its bytes, whatever they are. */
static DSC_COLD void copy_input(dsc_dtype dtype, const dsc_reduction *what) {
  for (int32_t i = 0; i < what->num_outputs; i++) {
    if (what->outputs[i] == what->inputs[0]) continue;
    (what->past_caches ? dsc_copy_past_caches : dsc_copy_from_peer)(what->outputs[i], what->inputs[0],
                                                                    what->count * dsc_dtype_bytes(dtype));
  }
}

static inline void reduce_with(const dsc_kernels *set, dsc_reduce_kind kind, dsc_dtype dtype,
                               const dsc_reduction *what) {
  if (DSC_UNLIKELY(what->num_inputs == 1))
    copy_input(dtype, what);
  else if (DSC_LIKELY(what->count != 0))
    set->functions[kind][dtype](what);
}

void dsc_reduce(dsc_reduce_kind kind, dsc_dtype dtype, const dsc_reduction *what) {
  reduce_with(kernels(), kind, dtype, what);
}

void dsc_reduce_scalar(dsc_reduce_kind kind, dsc_dtype dtype, const dsc_reduction *what) {
  reduce_with(&dsc_kernels_scalar, kind, dtype, what);
}

const char *dsc_kernels_name(void) { return kernels()->name; }

disco_status dsc_kernels_use(const char *name) {
  const dsc_kernels *named = find(name);
  if (named == NULL)
    return dsc_fail(DISCO_VALUE,
                    "there are no kernels \"%s\"; there are scalar, avx2 and avx512 on x86, scalar elsewhere", name);
  if (!usable(named)) return dsc_fail(DISCO_VALUE, "this CPU does not have what the kernels \"%s\" need", name);
  dsc_store_relaxed(&in_use, named);
  return DISCO_OK;
}

const char *dsc_kernels_at(int index, bool *ret_usable) {
  if (index < 0 || index >= NUM_KERNELS) return NULL;
  *ret_usable = usable(all[index]);
  return all[index]->name;
}
