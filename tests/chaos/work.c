#include "chaos/chaos.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "disco/worker.h"
#include "ffi/value.h"

enum { LONG_MS = 60000, MOST_ARGS = 300, TEXT_BYTES = 20000 };

const char *const chaos_functions[CHAOS_FUNCTIONS] = {"chaos.nothing", "chaos.echo",  "chaos.mix",
                                                      "chaos.fill",    "chaos.raise", "chaos.nap",
                                                      "chaos.arm",     "chaos.close", "runtime.disco.empty"};

/* ---- What may come back ---- */

static void expect_loss(const chaos_run *run, const disco_error_info *error, const char *what) {
  char name[64];
  (void)snprintf(name, sizeof(name), "worker %d is lost", run->target);
  if (!chaos_is_fatal(run)) chaos_fail("%s: nobody was killed, but: %s", what, error->text);
  if (!atomic_load(&run->injected)) chaos_fail("%s: lost before the fault: %s", what, error->text);
  /* Of a process that it did not start the library knows the number when it has answered. */
  bool unknown =
      run->transport >= CHAOS_FOREIGN && error->pid == 0 && strstr(error->text, "had not started yet") != NULL;
  if (error->worker != run->target || (error->pid != run->pid && !unknown) || strstr(error->text, name) == NULL)
    chaos_fail("%s: it was worker %d, process %d, but the error names worker %d, process %lld: %s", what, run->target,
               (int)run->pid, error->worker, (long long)error->pid, error->text);
}

bool chaos_accept(chaos_controller *self, disco_status status, const char *what, bool may_time_out) {
  const chaos_run *run = self->run;
  disco_error_info error = {.struct_size = sizeof(error)};
  self->calls++;
  if (status == DISCO_OK) return true;
  if (disco_last_error(&error) != DISCO_OK) chaos_fail("%s: status %d and no error", what, (int)status);
  switch (status) {
  case DISCO_VALUE: /* a register that a raise left without a value */
    if (run->raises && strstr(error.message, "failed or was skipped after a failure") != NULL) return false;
    break;
  case DISCO_RAISED:
    if (!run->raises || strcmp(error.kind, "ValueError") != 0 || strstr(error.message, "chaos raises") == NULL)
      chaos_fail("%s: nobody raised this: %s", what, error.text);
    return false;
  case DISCO_LOST:
    expect_loss(run, &error, what);
    self->over = true;
    return false;
  case DISCO_CLOSED:
    if (run->fault != FAULT_SHUTDOWN || !atomic_load(&run->injected)) chaos_fail("%s: %s", what, error.text);
    self->over = true;
    return false;
  case DISCO_TIMEOUT:
    if (may_time_out) return false;
    break;
  default: break;
  }
  chaos_fail("%s: status %d: %s", what, (int)status, error.text);
}

bool chaos_post(chaos_controller *self, int function, const TVMFFIAny *args, int32_t count) {
  enum { TRIES = 50 };
  chaos_run *run = self->run;
  for (int i = 0; i < TRIES && !self->over; i++)
    if (chaos_accept(self, BOUNDED(run->session, disco_call(run->session, run->functions[function], args, count, NULL)),
                     chaos_functions[function], false))
      return true;
  return false;
}

/* ---- Values ---- */

static TVMFFIAny make_shape(chaos_random *random) {
  TVMFFIAny numbers[8], result = dsc_none();
  TVMFFIByteArray key = {"ffi.Shape", 9};
  TVMFFIObjectHandle make = NULL;
  int32_t count = (int32_t)chaos_below(random, 8);
  for (int32_t i = 0; i < count; i++) numbers[i] = dsc_int(chaos_below(random, 1000));
  if (TVMFFIFunctionGetGlobal(&key, &make) != 0 || TVMFFIFunctionCall(make, numbers, count, &result) != 0)
    chaos_fail("no shape");
  dsc_object_unref(make);
  return result;
}

/* 1 KiB to 1 MiB, as many small ones as large ones; mostly not a round number of bytes. */
static int64_t tensor_bytes(chaos_random *random) {
  return ((int64_t)1024 << chaos_below(random, 10)) + chaos_below(random, 2) * chaos_below(random, 1000);
}

static TVMFFIAny make_tensor(chaos_random *random) {
  TVMFFIObjectHandle tensor = NULL;
  int64_t bytes = tensor_bytes(random);
  if (disco_tensor_create(1, &bytes, (DLDataType){kDLUInt, 8, 1}, (DLDevice){kDLCPU, 0}, &tensor) != DISCO_OK)
    chaos_fail("no tensor: %s", disco_last_error_text());
  TVMFFIAny value = dsc_object_value(tensor);
  const DLTensor *view = (const DLTensor *)(value.v_obj + 1);
  chaos_fill((char *)view->data + view->byte_offset, (size_t)bytes, chaos_next(random));
  return value;
}

/* Owned; what is borrowed lies in `self`, or in *bytes. */
static TVMFFIAny make_value(chaos_controller *self, bool tensors, TVMFFIByteArray *bytes) {
  chaos_random *random = &self->random;
  TVMFFIAny value = dsc_none();
  int64_t size = chaos_chance(random, 70) ? chaos_below(random, 40) : chaos_below(random, TEXT_BYTES);
  switch (chaos_below(random, tensors ? 7 : 6)) {
  case 0: return dsc_int((int64_t)chaos_next(random) >> 8);
  case 1:
    value.type_index = kTVMFFIFloat;
    value.v_float64 = (double)chaos_below(random, 1 << 20) / 3;
    return value;
  case 2:
    value.type_index = kTVMFFIBool;
    value.v_int64 = chaos_below(random, 2);
    return value;
  case 3:
    value.type_index = kTVMFFIRawStr;
    value.v_c_str = self->text + TEXT_BYTES - size;
    return value;
  case 4:
    *bytes = (TVMFFIByteArray){self->text + chaos_below(random, TEXT_BYTES - size + 1), (size_t)size};
    value.type_index = kTVMFFIByteArrayPtr;
    value.v_ptr = bytes;
    return value;
  case 5: return make_shape(random);
  default: return make_tensor(random);
  }
}

/* ---- Registers ---- */

static chaos_register_model *pick(chaos_controller *self, bool free) {
  int64_t start = chaos_below(&self->random, CHAOS_REGISTERS);
  for (int64_t i = 0; i < CHAOS_REGISTERS; i++) {
    chaos_register_model *reg = &self->registers[(start + i) % CHAOS_REGISTERS];
    if ((reg->dref == NULL) == free) return reg;
  }
  return NULL;
}

static void drop(chaos_register_model *reg) {
  disco_dref_unref(reg->dref);
  *reg = (chaos_register_model){0};
}

/* A place for a new register. */
static chaos_register_model *place(chaos_controller *self) {
  chaos_register_model *reg = pick(self, true);
  if (reg != NULL) return reg;
  reg = pick(self, false);
  drop(reg);
  return reg;
}

static void set_all(chaos_register_model *reg, disco_dref *dref, uint64_t digest, bool tensor) {
  *reg = (chaos_register_model){.dref = dref, .known = true, .tensor = tensor};
  for (int32_t w = 0; w < CHAOS_WORKERS; w++) reg->digest[w] = digest;
}

static void expect_value(chaos_controller *self, const chaos_register_model *reg, int32_t worker, TVMFFIAny *value) {
  uint64_t digest = chaos_digest(value);
  if (reg->known && digest != reg->digest[worker])
    chaos_fail("a register of worker %d holds a value of type %d with digest %llx, not %llx", worker,
               (int)value->type_index, (unsigned long long)digest, (unsigned long long)reg->digest[worker]);
  self->checked++;
  dsc_value_drop(value);
}

/* ---- What a thread does: each returns when the library has taken it or refused it ---- */

static void do_nothing(chaos_controller *self) { (void)chaos_post(self, CHAOS_NOTHING, NULL, 0); }

/* Ints, other values and registers, up to hundreds; the result says whether all arrived. */
static void do_mix(chaos_controller *self) {
  static const int most[] = {4, 12, MOST_ARGS};
  chaos_run *run = self->run;
  TVMFFIAny args[MOST_ARGS];
  TVMFFIByteArray bytes[MOST_ARGS];
  const chaos_register_model *from[MOST_ARGS];
  uint64_t digests[MOST_ARGS];
  int32_t count = (int32_t)chaos_below(&self->random, most[chaos_below(&self->random, 3)]);
  bool many = count > 12, known = true;
  int tensors = 0;
  for (int32_t i = 0; i < count; i++) {
    from[i] = chaos_chance(&self->random, many ? 80 : 40) ? pick(self, false) : NULL;
    if (from[i] != NULL) {
      args[i] = dsc_object_value(from[i]->dref);
      known = known && from[i]->known;
      continue;
    }
    args[i] = many ? dsc_int(chaos_below(&self->random, 100)) : make_value(self, tensors < 2, &bytes[i]);
    tensors += args[i].type_index == kTVMFFITensor;
    digests[i] = chaos_digest(&args[i]);
  }
  disco_dref *result = NULL;
  bool posted = chaos_accept(
      self, BOUNDED(run->session, disco_call(run->session, run->functions[CHAOS_MIX], args, count, &result)),
      "chaos.mix", false);
  chaos_register_model made = {.dref = result, .known = known};
  for (int32_t w = 0; posted && w < run->workers; w++) {
    for (int32_t i = 0; i < count; i++)
      if (from[i] != NULL) digests[i] = from[i]->digest[w];
    made.digest[w] = (uint64_t)chaos_mix(digests, count, w);
  }
  for (int32_t i = 0; i < count; i++)
    if (from[i] == NULL) dsc_value_drop(&args[i]);
  if (posted) *place(self) = made;
}

static void do_echo_or_put(chaos_controller *self) {
  chaos_run *run = self->run;
  TVMFFIByteArray bytes;
  TVMFFIAny value = make_value(self, true, &bytes);
  uint64_t digest = chaos_digest(&value);
  bool tensor = value.type_index == kTVMFFITensor;
  disco_dref *dref = NULL;
  disco_status status =
      chaos_chance(&self->random, 50)
          ? BOUNDED(run->session, disco_session_put(run->session, &value, &dref))
          : BOUNDED(run->session, disco_call(run->session, run->functions[CHAOS_ECHO], &value, 1, &dref));
  if (chaos_accept(self, status, "put or chaos.echo", false)) set_all(place(self), dref, digest, tensor);
  dsc_value_drop(&value);
}

/* A tensor in the arena. */
static void do_empty(chaos_controller *self) {
  chaos_run *run = self->run;
  int64_t bytes = tensor_bytes(&self->random);
  TVMFFIAny args[5] = {dsc_none(), dsc_none(), dsc_none(), dsc_none(), dsc_none()}, number = dsc_int(bytes);
  TVMFFIByteArray key = {"ffi.Shape", 9};
  TVMFFIObjectHandle make = NULL;
  disco_dref *empty = NULL, *filled = NULL;
  uint64_t seed = chaos_next(&self->random) >> 1;
  if (TVMFFIFunctionGetGlobal(&key, &make) != 0 || TVMFFIFunctionCall(make, &number, 1, &args[0]) != 0)
    chaos_fail("no shape");
  dsc_object_unref(make);
  args[1].type_index = kTVMFFIDataType;
  args[1].v_dtype = (DLDataType){kDLUInt, 8, 1};
  args[3].type_index = args[4].type_index = kTVMFFIBool;
  if (chaos_accept(self, BOUNDED(run->session, disco_call(run->session, run->functions[CHAOS_EMPTY], args, 5, &empty)),
                   "runtime.disco.empty", false)) {
    TVMFFIAny more[2] = {dsc_object_value(empty), dsc_int((int64_t)seed)};
    if (chaos_accept(self,
                     BOUNDED(run->session, disco_call(run->session, run->functions[CHAOS_FILL], more, 2, &filled)),
                     "chaos.fill", false)) {
      char *copy = malloc((size_t)bytes);
      if (copy == NULL) chaos_fail("no memory");
      chaos_fill(copy, (size_t)bytes, seed);
      TVMFFIByteArray raw = {copy, (size_t)bytes};
      TVMFFIAny same = dsc_none();
      same.type_index = kTVMFFIByteArrayPtr;
      same.v_ptr = &raw;
      set_all(place(self), filled, chaos_digest(&same), true);
      free(copy);
    }
    disco_dref_unref(empty);
  }
  dsc_value_drop(&args[0]);
}

static void read_one(chaos_controller *self, chaos_register_model *reg, int32_t worker, int64_t timeout_ms) {
  TVMFFIAny value = dsc_none();
  if (chaos_accept(self, BOUNDED(self->run->session, disco_debug_get(reg->dref, worker, timeout_ms, &value)),
                   "disco_debug_get", timeout_ms < LONG_MS))
    expect_value(self, reg, worker, &value);
}

static void read_all(chaos_controller *self, chaos_register_model *reg) {
  TVMFFIAny values[CHAOS_WORKERS];
  if (!chaos_accept(self, BOUNDED(self->run->session, disco_debug_get_all(reg->dref, LONG_MS, CHAOS_WORKERS, values)),
                    "disco_debug_get_all", false))
    return;
  for (int32_t w = 0; w < self->run->workers; w++) expect_value(self, reg, w, &values[w]);
}

static void do_get(chaos_controller *self) {
  chaos_register_model *reg = pick(self, false);
  int64_t choice = chaos_below(&self->random, 4), worker = chaos_below(&self->random, self->run->workers);
  if (reg == NULL) return;
  if (choice == 0)
    read_all(self, reg);
  else
    read_one(self, reg, (int32_t)worker, choice == 1 ? chaos_below(&self->random, 3) : LONG_MS);
}

static void do_set(chaos_controller *self) {
  chaos_register_model *reg = pick(self, false);
  if (reg == NULL) return;
  TVMFFIByteArray bytes;
  TVMFFIAny value = make_value(self, !reg->tensor, &bytes); /* into a tensor goes only one of its size */
  uint64_t digest = chaos_digest(&value);
  bool tensor = value.type_index == kTVMFFITensor;
  int32_t worker = (int32_t)chaos_below(&self->random, self->run->workers + 1) - 1;
  int64_t timeout_ms = chaos_chance(&self->random, 20) ? chaos_below(&self->random, 3) : LONG_MS;
  if (chaos_accept(self, BOUNDED(self->run->session, disco_debug_set(reg->dref, worker, &value, timeout_ms)),
                   "disco_debug_set", timeout_ms < LONG_MS)) {
    for (int32_t w = 0; w < self->run->workers; w++)
      if (worker == DISCO_ALL_WORKERS || w == worker) reg->digest[w] = digest;
    reg->tensor = reg->tensor || tensor;
  } else {
    drop(reg); /* it may have been set, or not */
  }
  dsc_value_drop(&value);
}

static void do_drop(chaos_controller *self) {
  chaos_register_model *reg = pick(self, false);
  if (reg == NULL) return;
  if (chaos_chance(&self->random, 30))
    (void)chaos_accept(
        self, BOUNDED(self->run->session, disco_session_dealloc_reg(self->run->session, disco_dref_reg_id(reg->dref))),
        "disco_session_dealloc_reg", false);
  drop(reg);
}

static void do_sync(chaos_controller *self) {
  chaos_random *random = &self->random;
  disco_session *session = self->run->session;
  int32_t worker = chaos_chance(random, 60) ? DISCO_ALL_WORKERS : (int32_t)chaos_below(random, self->run->workers);
  bool brief = chaos_chance(random, 40);
  int64_t timeout_ms = brief ? chaos_below(random, 4) : chaos_chance(random, 50) ? LONG_MS : DISCO_FOREVER;
  (void)chaos_accept(self, BOUNDED(session, disco_session_sync(session, worker, timeout_ms)), "disco_session_sync",
                     brief);
}

static void do_raise(chaos_controller *self) {
  TVMFFIAny args[2] = {dsc_int(chaos_below(&self->random, self->run->workers)),
                       dsc_int(chaos_below(&self->random, 1000000))};
  if (self->run->raises) (void)chaos_post(self, CHAOS_RAISE, args, 2);
}

static void do_nap(chaos_controller *self) {
  TVMFFIAny args[2] = {dsc_int(chaos_below(&self->random, self->run->workers)),
                       dsc_int(chaos_below(&self->random, 1000))};
  (void)chaos_post(self, CHAOS_NAP, args, 2);
}

void chaos_work(chaos_controller *self, int64_t count) {
  static void (*const all[])(chaos_controller *) = {do_nothing,     do_nothing,     do_mix, do_mix,   do_mix,  do_mix,
                                                    do_echo_or_put, do_echo_or_put, do_get, do_get,   do_set,  do_drop,
                                                    do_sync,        do_sync,        do_nap, do_raise, do_empty};
  memset(self->text, 'c', TEXT_BYTES);
  for (int i = 0; i < TEXT_BYTES; i += 37) self->text[i] = (char)('a' + chaos_below(&self->random, 26));
  for (int64_t i = 0; i < count && !self->over; i++)
    all[chaos_below(&self->random, (int64_t)(sizeof(all) / sizeof(all[0])))](self);
}

void chaos_check_registers(chaos_controller *self) {
  for (int i = 0; i < CHAOS_REGISTERS && !self->over; i++)
    if (self->registers[i].dref != NULL) read_all(self, &self->registers[i]);
}

void chaos_drop_registers(chaos_controller *self) {
  for (int i = 0; i < CHAOS_REGISTERS; i++)
    if (self->registers[i].dref != NULL) drop(&self->registers[i]);
}
