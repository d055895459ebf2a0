#include "base/log.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <strings.h>
#include <unistd.h>

#include "base/settings.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards the three below */
static dsc_log_fn current_fn;
static void *current_context;
static int current_level = DSC_LOG_WARN;

void dsc_log_set(dsc_log_fn fn, void *context, int level) {
  pthread_mutex_lock(&lock);
  current_fn = fn;
  current_context = context;
  current_level = level;
  pthread_mutex_unlock(&lock);
}

void dsc_log(int level, const char *format, ...) {
  pthread_mutex_lock(&lock);
  dsc_log_fn fn = level <= current_level ? current_fn : NULL;
  void *context = current_context;
  pthread_mutex_unlock(&lock);
  if (fn == NULL) return;
  char line[1024];
  va_list args;
  va_start(args, format);
  (void)vsnprintf(line, sizeof(line), format, args);
  va_end(args);
  fn(context, level, line); /* without the lock: it may wait for the interpreter's, or fork */
}

static void to_stderr(void *context, int level, const char *message) {
  (void)context;
  static const char *const names[] = {"error", "warning", "info"};
  char line[1200];
  int size = snprintf(line, sizeof(line), "libdisco %s: %s\n", names[level], message);
  if (size > 0 && write(STDERR_FILENO, line, (size_t)size) < 0) return; /* nowhere to say so */
}

static void before_fork(void) { pthread_mutex_lock(&lock); }
static void after_fork(void) { pthread_mutex_unlock(&lock); }

void dsc_log_install(void) {
  (void)pthread_atfork(before_fork, after_fork, after_fork); /* a child could never take a lock that was held */
  static const struct {
    const char *name;
    int level;
  } levels[] = {{"error", DSC_LOG_ERROR}, {"warn", DSC_LOG_WARN}, {"info", DSC_LOG_INFO}};
  const char *wish = dsc_setting(DSC_SETTING_LOG);
  for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++)
    if (strcasecmp(wish, levels[i].name) == 0) dsc_log_set(to_stderr, NULL, levels[i].level);
}
