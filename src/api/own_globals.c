/* Global functions that TVM's client does not know: what the C API can do more, for programs that have only the
 * registry (the Python package, C++ without a link against libdisco). Named libdisco.*. */
#include <stdlib.h>
#include <string.h>

#include "api/call.h"
#include "api/session_api.h"
#include "base/memory.h"
#include "disco/disco.h"
#include "ffi/args.h"
#include "ffi/error.h"
#include "ffi/python.h"
#include "os/library.h"
#include "session/session.h"

/* ---- Options of a session: name, value, name, value, ... ---- */

/* What the options point to, until the session is made. */
typedef struct held {
  struct held *next;
  _Alignas(16) char bytes[];
} held;

typedef struct {
  const dsc_call *call;
  disco_session_options options;
  held *memory;
} reader;

static void *hold(reader *self, size_t bytes) {
  held *block = dsc_alloc(sizeof(held) + bytes, "session options");
  if (block == NULL) return NULL;
  block->next = self->memory;
  self->memory = block;
  return block->bytes;
}

static void let_go(reader *self) {
  while (self->memory != NULL) {
    held *next = self->memory->next;
    free(self->memory);
    self->memory = next;
  }
}

typedef enum { U32, U64, TEXT, TEXTS, CPUS, TRANSPORT } kind;
static const char *const kind_names[] = {"number",        "number",          "text",
                                         "list of texts", "list of numbers", "\"auto\" or \"pipe\""};

#define FIELD(kind, field) \
  { #field, kind, offsetof(disco_session_options, field) }
static const struct {
  const char *name;
  kind kind;
  size_t offset;
} fields[] = {
    FIELD(U32, ring_bytes),
    FIELD(U32, grace_ms),
    FIELD(U32, slow_warning_ms),
    FIELD(U32, spin_us),
    FIELD(U32, stopped_ms),
    FIELD(TRANSPORT, transport),
    FIELD(U64, arena_bytes),
    FIELD(TEXT, program),
    FIELD(TEXTS, program_arguments),
    FIELD(TEXTS, environment),
    FIELD(TEXT, working_directory),
    FIELD(TEXTS, libraries),
    FIELD(CPUS, cpus),
    FIELD(TEXT, pool_creator),
    FIELD(TEXT, entrypoint),
    FIELD(U32, collective_timeout_ms),
    FIELD(TEXT, ccl_alias),
};
enum { NUM_FIELDS = sizeof(fields) / sizeof(fields[0]) };

static disco_status wrong_option(const reader *self, int field, const TVMFFIAny *value) {
  return dsc_fail(DISCO_TYPE, "%s: option %s: a %s is needed, not `%s`", self->call->name, fields[field].name,
                  kind_names[fields[field].kind], dsc_value_type_name(value));
}

static disco_status read_text(reader *self, int field, const TVMFFIAny *value, const char **ret_text) {
  TVMFFIByteArray text;
  if (!dsc_value_string(value, &text)) return wrong_option(self, field, value);
  if (text.size > 0 && memchr(text.data, 0, text.size) != NULL)
    return dsc_fail(DISCO_VALUE, "%s: option %s has a NUL character in it", self->call->name, fields[field].name);
  char *copy = hold(self, text.size + 1);
  if (copy == NULL) return DISCO_MEMORY;
  if (text.size > 0) memcpy(copy, text.data, text.size);
  copy[text.size] = 0;
  *ret_text = copy;
  return DISCO_OK;
}

static disco_status read_number(const reader *self, int field, const TVMFFIAny *value, uint64_t most,
                                uint64_t *ret_number) {
  int64_t number;
  if (!dsc_value_as_int(value, &number)) return wrong_option(self, field, value);
  if (number < 0 || (uint64_t)number > most)
    return dsc_fail(DISCO_VALUE, "%s: option %s is %lld; it is at least 0 and at most %llu", self->call->name,
                    fields[field].name, (long long)number, (unsigned long long)most);
  *ret_number = (uint64_t)number;
  return DISCO_OK;
}

static disco_status read_texts(reader *self, int field, const TVMFFIAny *value, const char ***ret_texts) {
  if (value->type_index != kTVMFFIArray && value->type_index != kTVMFFIList) return wrong_option(self, field, value);
  const TVMFFISeqCell *cell = (const TVMFFISeqCell *)(value->v_obj + 1);
  const char **texts = hold(self, ((size_t)cell->size + 1) * sizeof(char *));
  disco_status status = texts != NULL ? DISCO_OK : DISCO_MEMORY;
  for (int64_t i = 0; status == DISCO_OK && i < cell->size; i++)
    status = read_text(self, field, (const TVMFFIAny *)cell->data + i, &texts[i]);
  if (status != DISCO_OK) return status;
  texts[cell->size] = NULL;
  *ret_texts = texts;
  return DISCO_OK;
}

static disco_status read_cpus(reader *self, int field, const TVMFFIAny *value, const int32_t **ret_cpus) {
  const int64_t *numbers = NULL;
  int64_t room[1024];
  size_t count = 0;
  if (!dsc_value_as_shape(value, room, sizeof(room) / sizeof(room[0]), &numbers, &count))
    return wrong_option(self, field, value);
  if (count != (size_t)self->options.num_workers)
    return dsc_fail(DISCO_VALUE, "%s: option cpus lists %zu CPUs for %d workers; give one for each, -1 for anywhere",
                    self->call->name, count, self->options.num_workers);
  int32_t *cpus = hold(self, count * sizeof(*cpus));
  if (cpus == NULL) return DISCO_MEMORY;
  for (size_t i = 0; i < count; i++) {
    if (numbers[i] < -1 || numbers[i] > INT32_MAX)
      return dsc_fail(DISCO_VALUE, "%s: option cpus: %lld is no CPU", self->call->name, (long long)numbers[i]);
    cpus[i] = (int32_t)numbers[i];
  }
  *ret_cpus = cpus;
  return DISCO_OK;
}

static disco_status read_transport(const reader *self, int field, const TVMFFIAny *value, uint32_t *ret_transport) {
  TVMFFIByteArray text;
  if (!dsc_value_string(value, &text)) return wrong_option(self, field, value);
  bool is_auto = text.size == 4 && memcmp(text.data, "auto", 4) == 0;
  if (!is_auto && (text.size != 4 || memcmp(text.data, "pipe", 4) != 0))
    return dsc_fail(DISCO_VALUE, "%s: option transport: %s is needed, not \"%.*s\"", self->call->name,
                    kind_names[TRANSPORT], text.size < 64 ? (int)text.size : 64, text.data);
  *ret_transport = is_auto ? DISCO_TRANSPORT_AUTO : DISCO_TRANSPORT_PIPE;
  return DISCO_OK;
}

static disco_status read_field(reader *self, int field, const TVMFFIAny *value) {
  void *to = (char *)&self->options + fields[field].offset;
  uint64_t number = 0;
  disco_status status = DISCO_OK;
  switch (fields[field].kind) {
  case U32:
    status = read_number(self, field, value, UINT32_MAX, &number);
    if (status == DISCO_OK) *(uint32_t *)to = (uint32_t)number;
    return status;
  case U64: return read_number(self, field, value, INT64_MAX, to);
  case TEXT: return read_text(self, field, value, to);
  case TEXTS: return read_texts(self, field, value, to);
  case CPUS: return read_cpus(self, field, value, to);
  default: return read_transport(self, field, value, to);
  }
}

static disco_status unknown_option(const reader *self, const TVMFFIByteArray *name) {
  char known[512] = "";
  for (int i = 0; i < NUM_FIELDS; i++) {
    strcat(known, i == 0 ? "" : ", ");
    strcat(known, fields[i].name);
  }
  return dsc_fail(DISCO_VALUE, "%s: there is no option %.*s; there are: %s", self->call->name,
                  name->size < 64 ? (int)name->size : 64, name->data, known);
}

static disco_status read_options(reader *self, int32_t first) {
  const dsc_call *c = self->call;
  disco_status status = DISCO_OK;
  if ((c->count - first) % 2 != 0) return dsc_fail(DISCO_TYPE, "%s: an option has no value", c->name);
  for (int32_t i = first; status == DISCO_OK && i < c->count; i += 2) {
    TVMFFIByteArray name;
    int field = 0;
    if (!dsc_value_string(&c->args[i], &name)) return dsc_args_mismatch(c->name, i, "str", &c->args[i]);
    while (field < NUM_FIELDS &&
           (strlen(fields[field].name) != name.size || memcmp(fields[field].name, name.data, name.size) != 0))
      field++;
    status = field < NUM_FIELDS ? read_field(self, field, &c->args[i + 1]) : unknown_option(self, &name);
  }
  return status;
}

/* (processes: bool, workers: int, groups: int, option: str, value, ...) -> Session */
static disco_status open_session(const dsc_call *c) {
  bool processes = false;
  int32_t workers = 0, groups = 0;
  disco_session *session = NULL;
  if (c->count < 3) return dsc_fail(DISCO_TYPE, "%s takes processes, workers, groups, and options", c->name);
  if (!dsc_value_as_bool(&c->args[0], &processes)) return dsc_args_mismatch(c->name, 0, "bool", &c->args[0]);
  disco_status status = dsc_call_int32(c, 1, INT32_MIN, INT32_MAX, &workers);
  if (status == DISCO_OK) status = dsc_call_int32(c, 2, INT32_MIN, INT32_MAX, &groups);
  if (status != DISCO_OK) return status;
  reader self = {.call = c, .options = DISCO_SESSION_OPTIONS_INIT(workers, groups)};
  status = read_options(&self, 3);
  if (status == DISCO_OK)
    status = processes ? dsc_create_process(&self.options, NULL, &session)
                       : dsc_create_threaded(&self.options, NULL, &session);
  let_go(&self);
  if (status == DISCO_OK) *c->result = dsc_object_value(session);
  return status;
}

/* ---- Sessions ---- */

/* (S, worker: int or -1 for all, timeout in ms or -1) */
static disco_status sync(const dsc_call *c) {
  disco_session *session;
  int32_t worker = 0;
  int64_t timeout_ms = 0;
  disco_status status = dsc_call_session(c, 0, &session);
  if (status == DISCO_OK) status = dsc_call_int32(c, 1, -1, INT32_MAX, &worker);
  if (status == DISCO_OK) status = dsc_call_int(c, 2, -1, INT64_MAX, &timeout_ms);
  return status == DISCO_OK ? disco_session_sync(session, worker, timeout_ms) : status;
}

/* (S) -> int */
static disco_status num_groups(const dsc_call *c) {
  disco_session *session;
  disco_status status = dsc_call_session(c, 0, &session);
  if (status == DISCO_OK) *c->result = dsc_int(disco_session_num_groups(session));
  return status;
}

static disco_status answer_text(const dsc_call *c, const char *text) {
  return dsc_value_from_string(text, strlen(text), c->result);
}

/* (S) -> "running", "lost" or "closed" */
static disco_status state(const dsc_call *c) {
  disco_session *session;
  disco_status status = dsc_call_session(c, 0, &session);
  if (status != DISCO_OK) return status;
  if (dsc_load_relaxed(&session->engine->state) != DSC_READY) return answer_text(c, "closed");
  return answer_text(c, dsc_load_relaxed(&session->engine->segment.header->fault) != 0 ? "lost" : "running");
}

/* (S): shut down in the background; not waited for */
static disco_status begin_shutdown(const dsc_call *c) {
  disco_session *session;
  disco_status status = dsc_call_session(c, 0, &session);
  if (status == DISCO_OK) status = dsc_enter_fork(session->engine, "shutdown");
  if (status == DISCO_OK) dsc_reaper_submit(session->engine, false);
  return status;
}

/* (S) -> str: what every worker does now */
static disco_status dump(const dsc_call *c) {
  disco_session *session;
  char *text = NULL;
  disco_status status = dsc_call_session(c, 0, &session);
  if (status == DISCO_OK) status = disco_session_dump(session, &text);
  if (status == DISCO_OK) status = answer_text(c, text);
  disco_text_free(text);
  return status;
}

/* (S, value) -> DRef */
static disco_status put(const dsc_call *c) {
  disco_session *session;
  disco_dref *dref = NULL;
  disco_status status = dsc_call_session(c, 0, &session);
  if (status == DISCO_OK) status = disco_session_put(session, &c->args[1], &dref);
  if (status == DISCO_OK) *c->result = dsc_object_value(dref);
  return status;
}

/* (S, register: int) */
static disco_status dealloc_reg(const dsc_call *c) {
  disco_session *session;
  int64_t reg = 0;
  disco_status status = dsc_call_session(c, 0, &session);
  if (status == DISCO_OK) status = dsc_call_int(c, 1, 0, INT64_MAX, &reg);
  return status == DISCO_OK ? disco_session_dealloc_reg(session, reg) : status;
}

/* (S, register: int, worker: int) -> the value */
static disco_status debug_get(const dsc_call *c) {
  disco_session *session;
  int64_t reg = 0;
  int32_t worker = 0;
  disco_status status = dsc_call_session(c, 0, &session);
  if (status == DISCO_OK) status = dsc_call_int(c, 1, 0, INT64_MAX, &reg);
  if (status == DISCO_OK) status = dsc_call_int32(c, 2, 0, INT32_MAX, &worker);
  return status == DISCO_OK ? disco_session_debug_get(session, reg, worker, DISCO_FOREVER, c->result) : status;
}

/* (S, register: int, value, worker: int) */
static disco_status debug_set(const dsc_call *c) {
  disco_session *session;
  int64_t reg = 0;
  int32_t worker = 0;
  disco_status status = dsc_call_session(c, 0, &session);
  if (status == DISCO_OK) status = dsc_call_int(c, 1, 0, INT64_MAX, &reg);
  if (status == DISCO_OK) status = dsc_call_int32(c, 3, 0, INT32_MAX, &worker);
  return status == DISCO_OK ? disco_session_debug_set(session, reg, worker, &c->args[2], DISCO_FOREVER) : status;
}

/* (D, worker: int, timeout in ms or -1) -> the value */
static disco_status dref_get(const dsc_call *c) {
  dsc_dref *dref = NULL;
  int32_t worker = 0;
  int64_t timeout_ms = 0;
  disco_status status = dsc_call_dref(c, 0, &dref);
  if (status == DISCO_OK) status = dsc_call_int32(c, 1, 0, INT32_MAX, &worker);
  if (status == DISCO_OK) status = dsc_call_int(c, 2, -1, INT64_MAX, &timeout_ms);
  return status == DISCO_OK ? disco_debug_get(dref, worker, timeout_ms, c->result) : status;
}

/* (D, worker: int or -1 for all, value) */
static disco_status dref_set(const dsc_call *c) {
  dsc_dref *dref = NULL;
  int32_t worker = 0;
  disco_status status = dsc_call_dref(c, 0, &dref);
  if (status == DISCO_OK) status = dsc_call_int32(c, 1, -1, INT32_MAX, &worker);
  return status == DISCO_OK ? disco_debug_set(dref, worker, &c->args[2], DISCO_FOREVER) : status;
}

/* (D) -> D: another handle of it, for a language whose handles move */
static disco_status dref_same(const dsc_call *c) {
  dsc_dref *dref = NULL;
  disco_status status = dsc_call_dref(c, 0, &dref);
  if (status == DISCO_OK) *c->result = dsc_value_copy(&c->args[0]);
  return status;
}

/* ---- The library ---- */

static disco_status describe(const dsc_call *c) {
  char *text = NULL;
  disco_status status = disco_describe(&text);
  if (status == DISCO_OK) status = answer_text(c, text);
  disco_text_free(text);
  return status;
}

static disco_status version(const dsc_call *c) { return answer_text(c, disco_version()); }

/* TVM's library ends the process when it comes later and the names are taken. */
static disco_status publish(const dsc_call *c) {
  if (dsc_library_count("libtvm_runtime.so", NULL, 0) == 0 && dsc_library_count("libtvm.so", NULL, 0) == 0)
    return dsc_fail(DISCO_RUNTIME, "%s: TVM is not in this process; import it first, or use the names libdisco.*",
                    c->name);
  return disco_publish();
}

/* (f: any function that Python gave): workers that look up a function of that sort keep Python's thread state. */
static disco_status keep_python_state(const dsc_call *c) {
  if (c->args[0].type_index != kTVMFFIFunction) return dsc_args_mismatch(c->name, 0, "ffi.Function", &c->args[0]);
  dsc_python_learn(c->args[0].v_obj);
  return DISCO_OK;
}

const dsc_call_entry dsc_own_entries[] = {
    {"libdisco.SessionOpen", -1, open_session},
    {"libdisco.SessionSync", 3, sync},
    {"libdisco.SessionGetNumGroups", 1, num_groups},
    {"libdisco.SessionState", 1, state},
    {"libdisco.SessionBeginShutdown", 1, begin_shutdown},
    {"libdisco.SessionDump", 1, dump},
    {"libdisco.SessionPut", 2, put},
    {"libdisco.SessionDeallocReg", 2, dealloc_reg},
    {"libdisco.SessionDebugGetFromRemote", 3, debug_get},
    {"libdisco.SessionDebugSetRegister", 4, debug_set},
    {"libdisco.DRefGet", 3, dref_get},
    {"libdisco.DRefSet", 3, dref_set},
    {"libdisco.DRefSame", 1, dref_same},
    {"libdisco.describe", 0, describe},
    {"libdisco.version", 0, version},
    {"libdisco.publish", 0, publish},
    {"libdisco.keep_python_state", 1, keep_python_state},
};

const int dsc_own_entry_count = sizeof(dsc_own_entries) / sizeof(dsc_own_entries[0]);
