#include "faults/functions.h"

#include <stdatomic.h>
#include <stdio.h>

#include "faults/support.h"
#include "ffi/error.h"
#include "ffi/function.h"
#include "ffi/tensor.h"
#include "ffi/value.h"

enum { MAX_WORKERS = 64 };

static int32_t my_id(void) {
  disco_worker_info me = {.struct_size = sizeof(me)};
  return disco_worker_get_info(&me) == DISCO_OK ? me.worker_id : -1;
}

static bool in_mask(const TVMFFIAny *mask) {
  return mask->v_int64 == FAULTS_ALL || (mask->v_int64 >> my_id() & 1) != 0;
}

/* A string argument as text (cut at `room`). */
static const char *text_of(const TVMFFIAny *value, char *room, size_t size) {
  TVMFFIByteArray bytes = {"", 0};
  (void)dsc_value_string(value, &bytes);
  (void)snprintf(room, size, "%.*s", (int)bytes.size, bytes.data);
  return room;
}

#define FUNCTION(name) static int name(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result)
#define TAKES(n) \
  (void)self;    \
  (void)args;    \
  if (num_args != (n)) return disco_raise("TypeError", "%d arguments, not %d", num_args, (n))

FUNCTION(add) {
  TAKES(2);
  if (args[0].type_index != kTVMFFIInt || args[1].type_index != kTVMFFIInt)
    return disco_raise("TypeError", "faults.add takes ints");
  *result = dsc_int(args[0].v_int64 + args[1].v_int64);
  return 0;
}

FUNCTION(id) {
  TAKES(0);
  *result = dsc_int(my_id());
  return 0;
}

static _Atomic int64_t counts[MAX_WORKERS];

int64_t faults_counted(int32_t worker) { return atomic_load(&counts[worker]); }

void faults_count_reset(void) {
  for (int i = 0; i < MAX_WORKERS; i++) atomic_store(&counts[i], 0);
}

FUNCTION(count) {
  TAKES(0);
  *result = dsc_int(atomic_fetch_add(&counts[my_id()], 1) + 1);
  return 0;
}

FUNCTION(raise_error) {
  TAKES(4);
  TVMFFIByteArray message = {"", 0};
  char kind[256], trace[1024];
  *result = dsc_int(my_id());
  if (!in_mask(&args[0])) return 0;
  *result = dsc_none();
  (void)dsc_value_string(&args[2], &message);
  return dsc_error_raise(text_of(&args[1], kind, sizeof(kind)), message.data, message.size,
                         text_of(&args[3], trace, sizeof(trace)));
}

FUNCTION(silent) {
  TAKES(1);
  *result = dsc_int(my_id());
  if (!in_mask(&args[0])) return 0;
  *result = dsc_none();
  return -1;
}

/* ---- Gates ---- */

static struct {
  pthread_mutex_t lock;
  pthread_cond_t changed;
  bool closed;
  int inside;
} gates[FAULTS_GATES];

void faults_gate_close(int gate) {
  pthread_mutex_lock(&gates[gate].lock);
  gates[gate].closed = true;
  pthread_mutex_unlock(&gates[gate].lock);
}

void faults_gate_open(int gate) {
  pthread_mutex_lock(&gates[gate].lock);
  gates[gate].closed = false;
  pthread_cond_broadcast(&gates[gate].changed);
  pthread_mutex_unlock(&gates[gate].lock);
}

static void pass_gate(int64_t gate) {
  pthread_mutex_lock(&gates[gate].lock);
  gates[gate].inside++;
  while (gates[gate].closed) pthread_cond_wait(&gates[gate].changed, &gates[gate].lock);
  gates[gate].inside--;
  pthread_mutex_unlock(&gates[gate].lock);
}

typedef struct {
  int gate, n;
} inside_wish;

static bool are_inside(void *context) {
  const inside_wish *wish = context;
  pthread_mutex_lock(&gates[wish->gate].lock);
  bool there = gates[wish->gate].inside >= wish->n;
  pthread_mutex_unlock(&gates[wish->gate].lock);
  return there;
}

void faults_gate_wait_inside(int gate, int n) {
  inside_wish wish = {gate, n};
  assert_true(faults_until(are_inside, &wish));
}

FUNCTION(hold) {
  TAKES(3);
  if (in_mask(&args[1])) pass_gate(args[0].v_int64);
  *result = dsc_value_copy(&args[2]);
  return 0;
}

FUNCTION(hold_raise) {
  TAKES(3);
  char message[256];
  *result = dsc_int(my_id());
  if (!in_mask(&args[1])) return 0;
  *result = dsc_none();
  pass_gate(args[0].v_int64);
  return disco_raise("ValueError", "%s", text_of(&args[2], message, sizeof(message)));
}

FUNCTION(nap) {
  TAKES(1);
  faults_sleep_ms((int)args[0].v_int64);
  *result = dsc_none();
  return 0;
}

/* ---- Objects ---- */

static _Atomic int64_t made, dead;

int64_t faults_objects_made(void) { return atomic_load(&made); }
int64_t faults_objects_dead(void) { return atomic_load(&dead); }

static void count_death(void *self) {
  (void)self;
  atomic_fetch_add(&dead, 1);
}

static void raise_in_deleter(void *self) {
  (void)self;
  (void)disco_raise("ValueError", "raised by a deleter");
  atomic_fetch_add(&dead, 1);
}

static int new_object(void (*deleter)(void *), TVMFFIAny *ret_object) {
  TVMFFIObjectHandle object = NULL;
  if (TVMFFIFunctionCreate(NULL, id, deleter, &object) != 0) return -1;
  atomic_fetch_add(&made, 1);
  *ret_object = dsc_object_value(object);
  return 0;
}

TVMFFIAny faults_object(void) {
  TVMFFIAny object = dsc_none();
  assert_int_equal(new_object(count_death, &object), 0);
  return object;
}

FUNCTION(object) {
  TAKES(0);
  return new_object(count_death, result);
}

FUNCTION(raise_at_end) {
  TAKES(0);
  return new_object(raise_in_deleter, result);
}

FUNCTION(error_value) {
  TAKES(0);
  TVMFFIByteArray kind = {"ValueError", 10}, message = {"only a value", 12}, trace = {"", 0};
  TVMFFIObjectHandle error = NULL;
  if (TVMFFIErrorCreate(&kind, &message, &trace, &error) != 0) return -1;
  *result = dsc_object_value(error);
  return 0;
}

FUNCTION(fill) {
  TAKES(2);
  const DLTensor *tensor = dsc_tensor_of(&args[0]);
  uint64_t bytes = 0;
  if (tensor == NULL || !dsc_tensor_bytes(tensor, &bytes))
    return disco_raise("TypeError", "faults.fill takes a tensor");
  memset(tensor->data, (int)args[1].v_int64, bytes);
  *result = dsc_none();
  return 0;
}

void faults_register_functions(void) {
  static const struct {
    const char *name;
    TVMFFISafeCallType function;
  } functions[] = {
      {"faults.add", add},
      {"faults.id", id},
      {"faults.count", count},
      {"faults.raise", raise_error},
      {"faults.silent", silent},
      {"faults.hold", hold},
      {"faults.hold_raise", hold_raise},
      {"faults.nap", nap},
      {"faults.object", object},
      {"faults.raise_at_end", raise_at_end},
      {"faults.error_value", error_value},
      {"faults.fill", fill},
  };
  for (int i = 0; i < FAULTS_GATES; i++) {
    pthread_mutex_init(&gates[i].lock, NULL);
    pthread_cond_init(&gates[i].changed, NULL);
  }
  for (size_t i = 0; i < sizeof(functions) / sizeof(functions[0]); i++)
    OK(disco_register_function(functions[i].name, functions[i].function, NULL, NULL, true));
}
