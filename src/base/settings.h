/* The one table of what the environment can set, and of the defaults of session options. Variables are read when they
 * are asked for and never written. An empty value counts as unset, and all of them do in a set-user-ID program: one of
 * them names a program to start. Any thread (while nobody calls setenv). */
#ifndef DSC_BASE_SETTINGS_H
#define DSC_BASE_SETTINGS_H

#include <stdbool.h>

/* X(NAME, "default", "meaning") is the variable DISCO_NAME. */
#define DSC_SETTING_LIST(X)                                                                                 \
  X(LOG, "off", "off, error, warn or info: which of the library's messages go to stderr")                   \
  X(FFI_GLOBALS, "1", "0: loading libdisco.so does not register the global functions runtime.disco.*")      \
  X(TVM, "1", "0: `import tvm` leaves tvm.runtime.disco as TVM has it, though the Python package is there") \
  X(WORKER, "", "the program that worker processes run; unset: the command disco that comes with it")       \
  X(TRANSPORT, "auto", "auto or pipe: how a worker process gets its commands; pipe: never shared memory")   \
  X(CCL_ALIAS, "", "other=cpu: init_ccl(other) starts cpu where no data plane `other` is registered")       \
  X(CCL_TUNE, "", "name=number,...: thresholds of the data plane cpu; the same for all workers")            \
  X(KERNELS, "best", "scalar, avx2 or avx512: the instructions that reductions use; best: the best here")

typedef enum {
#define DSC_SETTING_ENUM(name, fallback, meaning) DSC_SETTING_##name,
  DSC_SETTING_LIST(DSC_SETTING_ENUM)
#undef DSC_SETTING_ENUM
      DSC_NUM_SETTINGS
} dsc_setting_id;

typedef struct {
  const char *name, *fallback, *meaning;
} dsc_setting_entry;

/* The value, or the default; never NULL. Belongs to the environment: copy what is kept. */
const char *dsc_setting(dsc_setting_id id);
/* Does the value come from the environment? */
bool dsc_setting_is_given(dsc_setting_id id);
/* The row of the table; for 0 <= id < DSC_NUM_SETTINGS. */
const dsc_setting_entry *dsc_setting_row(dsc_setting_id id);

/* X(NAME, field, default, "unit"): a field of disco_session_options whose 0 means the default DSC_DEFAULT_NAME. */
#define DSC_OPTION_LIST(X)                        \
  X(RING_BYTES, ring_bytes, 256 << 10, "bytes")   \
  X(GRACE_MS, grace_ms, 4000, "ms")               \
  X(SLOW_WARNING_MS, slow_warning_ms, 5000, "ms") \
  X(SPIN_US, spin_us, 50, "us")                   \
  X(STOPPED_MS, stopped_ms, 10000, "ms")

enum {
#define DSC_OPTION_ENUM(name, field, value, unit) DSC_DEFAULT_##name = (value),
  DSC_OPTION_LIST(DSC_OPTION_ENUM)
#undef DSC_OPTION_ENUM
};

#endif
