/* A client of any Disco library, by the names in TVM-FFI's registry alone: it links libtvm_ffi, loads the library it is
 * told to, and knows nothing else of it. So the same binary drives two libraries, and what it measures is theirs.
 *
 * Functions return 0, or -1 after saying on stderr what failed.
 */
#ifndef BENCH_CLIENT_H
#define BENCH_CLIENT_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <tvm/ffi/c_api.h>

enum { BENCH_MAX_LIBRARIES = 8 };

typedef struct {
  TVMFFIObjectHandle get_global_func;
  TVMFFIObjectHandle call_packed;
  TVMFFIObjectHandle sync_worker;
  TVMFFIObjectHandle shutdown;
  TVMFFIAny session; /* owned */
  int num_workers;
} bench_client;

/* Load the libraries in this order, each for all to see. Refuses a second copy of libtvm_ffi: it would split the
 * registry. */
int bench_load(char *const *paths, int num_paths);

/* The file that libtvm_ffi was loaded from. */
const char *bench_ffi_path(void);

/* Open a session whose workers are threads, or worker processes started from this program (pool.h). */
int bench_open(bench_client *client, int num_workers, bool processes);

/* Shut the session down and drop it. */
int bench_close(bench_client *client);

/* *ret_dref = a DRef to the global function `name` on every worker; owned. */
int bench_function(const bench_client *client, const char *name, TVMFFIAny *ret_dref);

/* Call func(args...) and keep the result: a DRef, owned. */
int bench_call_kept(const bench_client *client, const TVMFFIAny *func, const TVMFFIAny *args, int num_args,
                    TVMFFIAny *ret_dref);

void bench_drop(TVMFFIAny *dref);

/* Wait for every worker, one after another: the registry has no name for all at once. */
int bench_sync_all(const bench_client *client);

/* Look up a global function; owned. Silent when it is missing and `optional`. */
int bench_lookup(const char *name, bool optional, TVMFFIObjectHandle *ret_function);

/* Print the raised TVM-FFI error behind `what`; returns -1. */
int bench_fail(const char *what);

static inline TVMFFIAny bench_int(int64_t value) {
  TVMFFIAny any;
  memset(&any, 0, sizeof any);
  any.type_index = kTVMFFIInt;
  any.v_int64 = value;
  return any;
}

/* Issue one call and drop its result at once. packed = {session, 0, 0, function, arguments...}. The path that is
 * measured: says nothing, the error stays raised. A callee may scribble on slots 1 to 3 (TVM's puts the action and
 * register ids there): they are written anew each time. */
static inline int bench_call(const bench_client *client, const TVMFFIAny *func, TVMFFIAny *packed, int32_t num_packed) {
  TVMFFIAny result;
  packed[1] = packed[2] = bench_int(0);
  packed[3] = *func;
  memset(&result, 0, sizeof result);
  if (TVMFFIFunctionCall(client->call_packed, packed, num_packed, &result) != 0) return -1;
  return TVMFFIObjectDecRef(result.v_obj);
}

#endif
