#define _GNU_SOURCE
#include "client.h"

#include <dlfcn.h>
#include <link.h>
#include <stdio.h>

#include "pool.h"

int bench_fail(const char *what) {
  TVMFFIObjectHandle error = NULL;
  TVMFFIErrorMoveFromRaised(&error);
  if (!error) {
    fprintf(stderr, "%s: failed without an error\n", what);
    return -1;
  }
  const TVMFFIErrorCell *cell = (const TVMFFIErrorCell *)((const char *)error + sizeof(TVMFFIObject));
  fprintf(stderr, "%s: %.*s: %.*s\n", what, (int)cell->kind.size, cell->kind.data, (int)cell->message.size,
          cell->message.data);
  TVMFFIObjectDecRef(error);
  return -1;
}

typedef struct {
  int copies;
  char path[1024];
} ffi_copies;

static int count_ffi_copies(struct dl_phdr_info *info, size_t size, void *arg) {
  (void)size;
  ffi_copies *found = arg;
  const char *base = strrchr(info->dlpi_name, '/');
  if (strncmp(base ? base + 1 : info->dlpi_name, "libtvm_ffi.so", strlen("libtvm_ffi.so")) == 0) {
    if (found->copies++ == 0) snprintf(found->path, sizeof found->path, "%s", info->dlpi_name);
  }
  return 0;
}

static ffi_copies ffi_found;

const char *bench_ffi_path(void) { return ffi_found.path; }

int bench_load(char *const *paths, int num_paths) {
  for (int i = 0; i < num_paths; i++) {
    if (!dlopen(paths[i], RTLD_NOW | RTLD_GLOBAL)) {
      fprintf(stderr, "cannot load %s\n", dlerror());
      return -1;
    }
  }
  ffi_found.copies = 0;
  dl_iterate_phdr(count_ffi_copies, &ffi_found);
  if (ffi_found.copies > 1) {
    fprintf(stderr,
            "%d copies of libtvm_ffi were loaded: the libraries were built against another one than this program\n",
            ffi_found.copies);
    return -1;
  }
  return 0;
}

int bench_lookup(const char *name, bool optional, TVMFFIObjectHandle *ret_function) {
  TVMFFIByteArray key = {name, strlen(name)};
  *ret_function = NULL;
  if (TVMFFIFunctionGetGlobal(&key, ret_function) != 0) return bench_fail(name);
  if (*ret_function) return 0;
  if (!optional) fprintf(stderr, "%s is not registered: the library loaded does not have it\n", name);
  return -1;
}

static void fini(bench_client *client) {
  TVMFFIObjectHandle *handles[] = {&client->get_global_func, &client->call_packed, &client->sync_worker,
                                   &client->shutdown};
  for (size_t i = 0; i < sizeof handles / sizeof handles[0]; i++) {
    if (*handles[i]) TVMFFIObjectDecRef(*handles[i]);
  }
  bench_drop(&client->session);
  memset(client, 0, sizeof *client);
}

static TVMFFIAny raw_string(const char *text) {
  TVMFFIAny any;
  memset(&any, 0, sizeof any);
  any.type_index = kTVMFFIRawStr;
  any.v_c_str = text;
  return any;
}

int bench_open(bench_client *client, int num_workers, bool processes) {
  const char *constructor_name = processes ? "runtime.disco.SessionProcess" : "runtime.disco.SessionThreaded";
  TVMFFIObjectHandle constructor = NULL;
  memset(client, 0, sizeof *client);
  client->num_workers = num_workers;
  if (bench_lookup("runtime.disco.SessionGetGlobalFunc", false, &client->get_global_func) != 0) goto fail;
  if (bench_lookup("runtime.disco.SessionCallPacked", false, &client->call_packed) != 0) goto fail;
  if (bench_lookup("runtime.disco.SessionSyncWorker", false, &client->sync_worker) != 0) goto fail;
  if (bench_lookup("runtime.disco.SessionShutdown", false, &client->shutdown) != 0) goto fail;
  if (bench_lookup(constructor_name, false, &constructor) != 0) goto fail;

  TVMFFIAny args[4] = {bench_int(num_workers), bench_int(1), raw_string(BENCH_POOL_NAME), raw_string("bench")};
  if (TVMFFIFunctionCall(constructor, args, processes ? 4 : 2, &client->session) != 0) {
    bench_fail(constructor_name);
    goto fail;
  }
  TVMFFIObjectDecRef(constructor);
  return 0;

fail:
  if (constructor) TVMFFIObjectDecRef(constructor);
  fini(client);
  return -1;
}

int bench_close(bench_client *client) {
  TVMFFIAny result;
  memset(&result, 0, sizeof result);
  int rc = TVMFFIFunctionCall(client->shutdown, &client->session, 1, &result);
  if (rc != 0) bench_fail("runtime.disco.SessionShutdown");
  fini(client);
  return rc;
}

void bench_drop(TVMFFIAny *dref) {
  if (dref->type_index >= kTVMFFIStaticObjectBegin) TVMFFIObjectDecRef(dref->v_obj);
  memset(dref, 0, sizeof *dref);
}

int bench_function(const bench_client *client, const char *name, TVMFFIAny *ret_dref) {
  TVMFFIAny args[2] = {client->session, raw_string(name)};
  memset(ret_dref, 0, sizeof *ret_dref);
  if (TVMFFIFunctionCall(client->get_global_func, args, 2, ret_dref) != 0)
    return bench_fail("runtime.disco.SessionGetGlobalFunc");
  return 0;
}

int bench_call_kept(const bench_client *client, const TVMFFIAny *func, const TVMFFIAny *args, int num_args,
                    TVMFFIAny *ret_dref) {
  TVMFFIAny packed[8] = {client->session, bench_int(0), bench_int(0), *func};
  if (num_args > 4) return -1;
  for (int i = 0; i < num_args; i++) packed[4 + i] = args[i];
  memset(ret_dref, 0, sizeof *ret_dref);
  if (TVMFFIFunctionCall(client->call_packed, packed, 4 + num_args, ret_dref) != 0)
    return bench_fail("runtime.disco.SessionCallPacked");
  return 0;
}

int bench_sync_all(const bench_client *client) {
  TVMFFIAny args[2] = {client->session, bench_int(0)};
  TVMFFIAny result;
  memset(&result, 0, sizeof result);
  for (int i = 0; i < client->num_workers; i++) {
    args[1].v_int64 = i;
    if (TVMFFIFunctionCall(client->sync_worker, args, 2, &result) != 0)
      return bench_fail("runtime.disco.SessionSyncWorker");
  }
  return 0;
}
