/* Loading libraries from several threads and without memory. libtvm_ffi.so is the library, since it is there: one
 * without a virtual machine. What TVM compiled is loaded by tests/tvm. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* dladdr */
#endif
#include <dlfcn.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/inject.h"
#include "builtin/vm.h"
#include "disco/value.h"
#include "ffi/error.h"
#include "ffi/value.h"

enum { THREADS = 8 };

static const char *a_library(void) {
  Dl_info info;
  assert_int_not_equal(dladdr((void *)(uintptr_t)TVMFFIFunctionGetGlobal, &info), 0);
  return info.dli_fname;
}

static int load(const char *path, const char *device, TVMFFIAny *ret_module) {
  TVMFFIAny args[2] = {disco_value_none(), disco_value_none()};
  args[0].type_index = args[1].type_index = kTVMFFIRawStr;
  args[0].v_c_str = path;
  args[1].v_c_str = device;
  *ret_module = dsc_none();
  return dsc_builtin_load_vm_module(NULL, args, 2, ret_module);
}

/* Loading fails, with this kind and these words. */
static void assert_refused(const char *path, const char *device, const char *kind, const char *words) {
  TVMFFIAny module;
  dsc_error_parts parts;
  assert_int_equal(load(path, device, &module), -1);
  assert_int_equal(module.type_index, kTVMFFINone);
  TVMFFIObject *error = dsc_error_raised();
  assert_non_null(error);
  dsc_error_parts_of(error, &parts);
  assert_string_equal(parts.kind.data, kind);
  assert_non_null(strstr(parts.message.data, words));
  dsc_object_unref(error);
}

static pthread_barrier_t together;

static void *load_from_thread(void *context) {
  TVMFFIAny *module = context;
  (void)pthread_barrier_wait(&together);
  (void)load(a_library(), "cpu", module);
  return NULL;
}

static void threads_get_one_library(void **state) {
  (void)state;
  pthread_t threads[THREADS];
  TVMFFIAny modules[THREADS];
  assert_int_equal(pthread_barrier_init(&together, NULL, THREADS), 0);
  for (int i = 0; i < THREADS; i++)
    assert_int_equal(pthread_create(&threads[i], NULL, load_from_thread, &modules[i]), 0);
  for (int i = 0; i < THREADS; i++) assert_int_equal(pthread_join(threads[i], NULL), 0);
  assert_int_equal(pthread_barrier_destroy(&together), 0);
  for (int i = 0; i < THREADS; i++) {
    assert_int_equal(modules[i].type_index, kTVMFFIModule);
    assert_ptr_equal(modules[i].v_obj, modules[0].v_obj);
  }
  for (int i = 0; i < THREADS; i++) dsc_value_drop(&modules[i]);
}

static void what_cannot_be_loaded_is_told(void **state) {
  (void)state;
  assert_refused("/nowhere/a.so", "cpu", "RuntimeError", "cannot open /nowhere/a.so: No such file");
  assert_refused("/", "cpu", "ValueError", "runtime.disco.load_vm_module: / is a folder");
  assert_refused("/proc/self/status", "cpu", "RuntimeError", "could not open /proc/self/status: ");
  assert_refused("nothing", "cpu", "RuntimeError", "could not open nothing: ");
  assert_refused("/nowhere/a.so", "abacus", "TypeError", "`abacus` is unknown");
}

static int gives_a_number(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self, (void)args, (void)num_args;
  *result = dsc_int(3);
  return 0;
}

static void a_loader_that_gives_no_module_is_told(void **state) {
  (void)state;
  const TVMFFIByteArray name = {"ffi.Module.load_from_file.number", 32};
  TVMFFIObjectHandle loader = NULL;
  assert_int_equal(TVMFFIFunctionCreate(NULL, gives_a_number, NULL, &loader), 0);
  assert_int_equal(TVMFFIFunctionSetGlobal(&name, loader, 0), 0);
  dsc_object_unref(loader);
  assert_refused("a.number", "cpu", "TypeError", "a.number");
}

static void every_allocation_may_fail(void **state) {
  (void)state;
  char path[512];
  TVMFFIAny module = dsc_none();
  (void)snprintf(path, sizeof(path), "%s", a_library());
  char *slash = strrchr(path, '/');
  assert_non_null(slash);
  memmove(slash + 2, slash, strlen(slash) + 1); /* another name of the same file: not open yet */
  slash[1] = '.';
  int rc = -1;
  for (long n = 1; rc != 0; n++) {
    (void)dsc_inject_fail_allocation(n);
    rc = load(path, "cpu", &module);
    (void)dsc_inject_fail_allocation(0);
    if (rc != 0) dsc_error_drop_raised();
    assert_true(n < 100);
  }
  dsc_value_drop(&module);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(threads_get_one_library),
      cmocka_unit_test(what_cannot_be_loaded_is_told),
      cmocka_unit_test(a_loader_that_gives_no_module_is_told),
      cmocka_unit_test(every_allocation_may_fail),
  };
  alarm(60); /* a lock that is never given back */
  return cmocka_run_group_tests(tests, NULL, NULL);
}
