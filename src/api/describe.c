/* disco_describe(): everything that a bug report needs, as text. */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/startup.h"
#include "base/inject.h"
#include "base/settings.h"
#include "base/text.h"
#include "ccl/alias.h"
#include "ccl/backend.h"
#include "disco/channel.h"
#include "disco/disco.h"
#include "ffi/function.h"
#include "ffi/value.h"
#include "os/cgroup.h"
#include "os/cpu.h"
#include "os/library.h"
#include "wire/limits.h"

static void heading(dsc_text *text, const char *name) {
  dsc_text_add(text, "%s[%s]\n", text->size == 0 ? "" : "\n", name);
}

/* A path or a variable may hold anything; here it stays on its line. */
static void add_foreign(dsc_text *text, const char *value) {
  size_t from = text->size;
  dsc_text_add(text, "%s", value);
  for (size_t i = from; i < text->size; i++)
    if ((unsigned char)text->data[i] < 0x20 || text->data[i] == 0x7f) text->data[i] = '?';
}

static void add_path(dsc_text *text, const char *name, const char *value) {
  dsc_text_add(text, "%s: ", name);
  add_foreign(text, value[0] != 0 ? value : "unknown");
  dsc_text_add(text, "\n");
}

/* "1.5 GiB (1610612736 bytes)": nobody reads eleven digits, and no program reads GiB. */
static void add_bytes(dsc_text *text, const char *name, uint64_t bytes) {
  static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  double value = (double)bytes;
  int unit = 0;
  for (; value >= 1024 && unit < 6; unit++) value /= 1024;
  if (unit == 0)
    dsc_text_add(text, "%s: %" PRIu64 " bytes\n", name, bytes);
  else
    dsc_text_add(text, "%s: %.4g %s (%" PRIu64 " bytes)\n", name, value, units[unit], bytes);
}

static void add_limit_of_group(dsc_text *text, const char *name, int64_t bytes) {
  if (bytes == INT64_MAX)
    dsc_text_add(text, "%s: none\n", name);
  else
    add_bytes(text, name, bytes > 0 ? (uint64_t)bytes : 0);
}

static void describe_version(dsc_text *text) {
  TVMFFIVersion here = {0};
  TVMFFIGetVersion(&here);
  heading(text, "version");
  dsc_text_add(text, "libdisco: %s\n", disco_version());
  dsc_text_add(text, "TVM-FFI built with: %d.%d.%d\n", TVM_FFI_VERSION_MAJOR, TVM_FFI_VERSION_MINOR,
               TVM_FFI_VERSION_PATCH);
  dsc_text_add(text, "TVM-FFI running with: %d.%d.%d\n", (int)here.major, (int)here.minor, (int)here.patch);
  add_path(text, "library", dsc_library_path());
#if defined(__clang__)
  dsc_text_add(text, "compiler: %s\n", __VERSION__); /* names itself */
#else
  dsc_text_add(text, "compiler: gcc %s\n", __VERSION__);
#endif
}

static void describe_machine(dsc_text *text) {
  int64_t limit = INT64_MAX, room = dsc_memory_available(&limit);
  double quota = dsc_cgroup_cpu_quota();
  heading(text, "machine");
  dsc_text_add(text, "CPUs online: %d\n", dsc_cpu_online());
  dsc_text_add(text, "CPUs allowed by affinity: %d\n", dsc_cpu_affinity());
  if (quota > 0)
    dsc_text_add(text, "CPU quota: %.4g\n", quota);
  else
    dsc_text_add(text, "CPU quota: none\n");
  dsc_text_add(text, "CPUs used by libdisco: %d\n", dsc_cpu_allowed());
  add_bytes(text, "physical memory", dsc_memory_physical());
  add_limit_of_group(text, "memory limit of the control group", limit);
  add_limit_of_group(text, "memory left below that limit", room);
  add_bytes(text, "page size", (uint64_t)sysconf(_SC_PAGESIZE));
}

static void describe_limits(dsc_text *text) {
  heading(text, "limits");
  dsc_text_add(text, "workers of a session: %d\n", DSC_MAX_WORKERS);
  dsc_text_add(text, "arguments of a call: %d\n", DSC_MAX_ARGUMENTS);
  add_bytes(text, "name of a function", DSC_MAX_NAME_BYTES);
  add_bytes(text, "string or bytes argument", DSC_STRING_MAX);
  dsc_text_add(text, "registers released by one record: %d\n", DSC_MAX_RELEASES);
  add_bytes(text, "smallest command ring", DSC_MIN_RING_BYTES);
  add_bytes(text, "largest command ring", DSC_MAX_RING_BYTES);
  add_bytes(text, "text of a worker's error", DSC_ERROR_SLOT_BYTES);
  add_bytes(text, "reply ring of a worker", DSC_REPLY_RING_BYTES);
  add_bytes(text, "reply that stands in the reply ring", DSC_REPLY_INLINE_BYTES);
  add_bytes(text, "argument with memory of its own from", DSC_SIDE_THRESHOLD);
  dsc_text_add(text, "arguments with memory of their own at once: %d\n", DSC_MAX_SIDE_FILES);
  add_bytes(text, "frame of a channel", DISCO_CHANNEL_MAX_FRAME);
}

static void describe_settings(dsc_text *text) {
  heading(text, "settings");
  for (int i = 0; i < DSC_NUM_SETTINGS; i++) {
    const dsc_setting_entry *row = dsc_setting_row((dsc_setting_id)i);
    const char *value = dsc_setting((dsc_setting_id)i);
    dsc_text_add(text, "%s: ", row->name);
    add_foreign(text, value[0] != 0 ? value : "unset");
    dsc_text_add(text, " (%s)\n", dsc_setting_is_given((dsc_setting_id)i) ? "environment" : "default");
  }
#define OPTION(name, field, value, unit) \
  dsc_text_add(text, "option " #field ": %d %s (default)\n", DSC_DEFAULT_##name, unit);
  DSC_OPTION_LIST(OPTION)
#undef OPTION
  dsc_text_add(text, "option transport: auto (default)\n");
  dsc_text_add(text, "option collective_timeout_ms: none (default)\n");
  dsc_text_add(text, "option ccl_alias: DISCO_CCL_ALIAS (default)\n");
  dsc_text_add(text, "option arena_bytes: the machine's memory (default)\n");
}

/* ---- Data planes ---- */

#define PLUGIN_PREFIX "libdisco_ccl_"
#define PLUGIN_SUFFIX ".so"

typedef struct {
  dsc_text *text;
  const char *folder;
  int count;
} finds;

static void add_plugin(void *context, const char *name) {
  finds *self = context;
  size_t size = strlen(name) - strlen(PLUGIN_PREFIX) - strlen(PLUGIN_SUFFIX);
  self->count++;
  dsc_text_add(self->text, "plugin ");
  size_t from = self->text->size;
  add_foreign(self->text, name + strlen(PLUGIN_PREFIX));
  if (self->text->size >= from + size) self->text->size = from + size; /* without its suffix */
  dsc_text_add(self->text, ": ");
  add_foreign(self->text, self->folder);
  dsc_text_add(self->text, "/");
  add_foreign(self->text, name);
  dsc_text_add(self->text, "\n");
}

static void add_registered(void *context, const char *name) {
  finds *self = context;
  size_t size = strlen(name), tail = strlen(".init_ccl");
  if (size <= tail || strcmp(name + size - tail, ".init_ccl") != 0) return;
  dsc_text_add(self->text, self->count++ == 0 ? "" : ", ");
  add_foreign(self->text, name);
}

static void describe_own_data_planes(dsc_text *text) {
  char alias[DSC_CCL_ALIAS_MAX] = "";
  bool usable = false;
  dsc_text_add(text, "kernels: %s (of", dsc_kernels_name());
  for (int i = 0; dsc_kernels_at(i, &usable) != NULL; i++)
    dsc_text_add(text, " %s%s", dsc_kernels_at(i, &usable), usable ? "" : " (not on this CPU)");
  dsc_text_add(text, ")\n");
  if (dsc_ccl_alias_read(NULL, alias) != DISCO_OK)
    dsc_text_add(text, "alias: refused: %s\n", disco_last_error_text());
  else
    dsc_text_add(text, "alias: %s\n", alias[0] != 0 ? alias : "none");
#define TUNABLE(name, value, meaning) dsc_text_add(text, "threshold " #name ": %d (%s)\n", value, meaning);
  DSC_TUNING_LIST(TUNABLE)
#undef TUNABLE
}

static disco_status describe_data_planes(dsc_text *text) {
  heading(text, "data planes");
  bool known = dsc_library_path()[0] != 0;
  char *folder = known ? dsc_library_beside("/disco") : NULL;
  if (known && folder == NULL) return DISCO_MEMORY;
  finds plugins = {text, folder, 0};
  if (folder != NULL) dsc_library_each_file(folder, PLUGIN_PREFIX, PLUGIN_SUFFIX, add_plugin, &plugins);
  free(folder);
  if (plugins.count == 0) dsc_text_add(text, "plugins: none\n");
  finds registered = {text, NULL, 0};
  dsc_text_add(text, "registered: ");
  disco_status status = dsc_function_each_name("runtime.disco.", add_registered, &registered);
  dsc_text_add(text, "%s\n", registered.count == 0 ? "none" : "");
  describe_own_data_planes(text);
  return status;
}

static disco_status describe_paths(dsc_text *text) {
  char *program = dsc_worker_program();
  if (program == NULL) return DISCO_MEMORY;
  heading(text, "paths");
  add_path(text, "program of worker processes", program);
  free(program);
  return DISCO_OK;
}

static void describe_names(dsc_text *text) {
  heading(text, "global functions");
  dsc_text_add(text, "runtime.disco.*: %s\n", dsc_startup_names());
  dsc_text_add(text, "libdisco.*: libdisco\n");
}

disco_status disco_describe(char **ret_text) {
  if (ret_text == NULL) return dsc_fail(DISCO_VALUE, "disco_describe: ret_text is NULL");
  dsc_text text = DSC_TEXT_INIT;
  describe_version(&text);
  describe_machine(&text);
  describe_limits(&text);
  describe_settings(&text);
  disco_status status = describe_data_planes(&text);
  describe_names(&text);
  if (status == DISCO_OK) status = describe_paths(&text);
  if (status == DISCO_OK && text.data == NULL) status = dsc_fail(DISCO_MEMORY, "no memory for the description");
  if (status == DISCO_OK) *ret_text = dsc_text_take(&text);
  dsc_text_fini(&text);
  return status;
}
