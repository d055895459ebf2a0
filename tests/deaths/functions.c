/* The functions that workers run in this suite. */
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "deaths/functions.h"
#include "deaths/support.h"
#include "ffi/tensor.h"

static _Atomic int64_t count_here;

int64_t counted_here(void) { return atomic_load(&count_here); }

int32_t my_id(void) {
  disco_worker_info info = {.struct_size = sizeof(info)};
  return disco_worker_get_info(&info) == DISCO_OK ? info.worker_id : -1;
}

static bool is_me(const TVMFFIAny *worker) { return worker->v_int64 == -1 || worker->v_int64 == my_id(); }

static int id(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  (void)args;
  (void)num_args;
  *result = dsc_int(my_id());
  return 0;
}

static int pid(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  (void)args;
  (void)num_args;
  *result = dsc_int(getpid());
  return 0;
}

static int echo(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  *result = num_args == 1 ? dsc_value_copy(&args[0]) : dsc_none();
  return 0;
}

static int size_of(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  TVMFFIByteArray text = {NULL, 0};
  if (num_args != 1) return disco_raise("TypeError", "d.size(x)");
  const DLTensor *tensor = dsc_tensor_of(&args[0]);
  if (tensor != NULL)
    text = (TVMFFIByteArray){(char *)tensor->data + tensor->byte_offset, (size_t)tensor->shape[0]};
  else if (!dsc_value_string(&args[0], &text))
    return disco_raise("TypeError", "d.size wants a string or a tensor");
  int64_t ends = text.size > 0 ? (unsigned char)text.data[0] + (unsigned char)text.data[text.size - 1] : 0;
  *result = dsc_int((int64_t)text.size + ends);
  return 0;
}

static int big(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  size_t size = num_args == 1 ? (size_t)args[0].v_int64 : 0;
  char *data = calloc(1, size + 1);
  if (data == NULL) return disco_raise("MemoryError", "d.big");
  TVMFFIByteArray bytes = {data, size};
  int rc = TVMFFIBytesFromByteArray(&bytes, result);
  free(data);
  return rc;
}

static int count(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  (void)args;
  (void)num_args;
  *result = dsc_int(atomic_fetch_add(&count_here, 1) + 1);
  return 0;
}

static int raise_on(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  TVMFFIByteArray kind, message;
  if (num_args != 3 || !dsc_value_string(&args[1], &kind) || !dsc_value_string(&args[2], &message))
    return disco_raise("TypeError", "d.raise(worker, kind, message)");
  *result = dsc_int(my_id());
  if (!is_me(&args[0])) return 0;
  char name[64];
  (void)snprintf(name, sizeof(name), "%.*s", (int)kind.size, kind.data);
  return disco_raise(name, "%.*s", (int)message.size, message.data);
}

static int nap(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  (void)num_args;
  *result = dsc_none();
  if (is_me(&args[0])) sleep_ms((int)args[1].v_int64);
  return 0;
}

static int hang(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  (void)num_args;
  *result = dsc_none();
  while (is_me(&args[0])) sleep_ms(1000);
  return 0;
}

static void end_by(int how) {
  if (how >= BY_QUICK_EXIT) _exit(how - BY_QUICK_EXIT);
  if (how >= BY_EXIT) exit(how - BY_EXIT);
  (void)signal(how, SIG_DFL); /* sanitizers catch some */
  (void)kill(getpid(), how);
}

static int die(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  *result = dsc_none();
  if (num_args != 4) return disco_raise("TypeError", "d.die(worker, ms, how, others_ms)");
  if (!is_me(&args[0])) {
    sleep_ms((int)args[3].v_int64);
    return 0;
  }
  sleep_ms((int)args[1].v_int64);
  for (int i = 0; i < DEATHS_LINES; i++) (void)fprintf(stderr, "line %d of the last words\n", i);
  (void)fflush(stderr);
  end_by((int)args[2].v_int64);
  return disco_raise("RuntimeError", "it lives");
}

void register_function(const char *name, TVMFFISafeCallType function) {
  if (disco_register_function(name, function, NULL, NULL, false) == DISCO_OK) return;
  (void)fprintf(stderr, "cannot register %s: %s\n", name, disco_last_error_text());
  exit(2);
}

void register_functions(void) {
  register_function("d.id", id);
  register_function("d.pid", pid);
  register_function("d.echo", echo);
  register_function("d.size", size_of);
  register_function("d.big", big);
  register_function("d.count", count);
  register_function("d.raise", raise_on);
  register_function("d.nap", nap);
  register_function("d.hang", hang);
  register_function("d.die", die);
}
