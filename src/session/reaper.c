/* Sessions die on any thread, also inside a garbage collector: their engines are handed to one background thread, which
 * stops and frees them. The list of live engines lets the exit hook stop what was never shut down. */
#include <dlfcn.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "ffi/python.h"
#include "os/thread.h"
#include "session/engine.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards everything here */
static pthread_cond_t work = PTHREAD_COND_INITIALIZER, idle = PTHREAD_COND_INITIALIZER;
static dsc_list live = {&live, &live};
static dsc_engine *jobs, **last_job = &jobs; /* linked by next_job; the queue holds a reference to each */
static bool running, busy, exiting, hooked;
static bool python_ends; /* its hook was called: what lives on would call into an interpreter that is gone */
static int backlog;      /* engines submitted and not yet reaped */
static uint32_t fork_generation;

/* A fork must not find the lock in the middle of something: the child could never take it. */
static void before_fork(void) { pthread_mutex_lock(&lock); }
static void after_fork(void) { pthread_mutex_unlock(&lock); }

/* lock held. A forked child starts afresh: the engines on the lists are its parent's. */
static void notice_fork(void) {
  if (fork_generation == dsc_fork_generation()) return;
  fork_generation = dsc_fork_generation();
  dsc_list_init(&live);
  jobs = NULL;
  last_job = &jobs;
  running = busy = exiting = python_ends = false;
  backlog = 0;
  work = (pthread_cond_t)PTHREAD_COND_INITIALIZER; /* the parent's reaper was waiting on it */
  idle = (pthread_cond_t)PTHREAD_COND_INITIALIZER;
}

static void *reap(void *argument) {
  (void)argument;
  pthread_mutex_lock(&lock);
  for (;;) {
    while (jobs == NULL) {
      busy = false;
      pthread_cond_broadcast(&idle);
      pthread_cond_wait(&work, &lock);
    }
    busy = true;
    dsc_engine *engine = jobs;
    jobs = engine->next_job;
    if (jobs == NULL) last_job = &jobs;
    engine->next_job = NULL;
    engine->queued = false;
    pthread_mutex_unlock(&lock);
    (void)dsc_engine_stop(engine, false);
    if (dsc_load_acquire(&engine->object_dead)) dsc_pool_finish(engine);
    dsc_engine_unref(engine);
    pthread_mutex_lock(&lock);
    backlog--;
  }
  return NULL;
}

void dsc_reaper_submit(dsc_engine *engine, bool drop) {
  /* In a forked child its threads are not here, and its memory is the parent's copy. */
  if (engine->fork_generation != dsc_fork_generation()) return;
  if (drop) dsc_store_release(&engine->object_dead, true);
  bool pool_waits =
      drop && dsc_load_acquire(&engine->pool) != NULL; /* f(0) comes after the object's death, and may run for long */
  if (dsc_load_acquire(&engine->state) != DSC_CLOSED || pool_waits) {
    pthread_mutex_lock(&lock);
    if (!engine->queued) { /* a worker may ask for the shutdown, and the last reference go later */
      engine->queued = true;
      dsc_engine_ref(engine);
      *last_job = engine;
      last_job = &engine->next_job;
      backlog++;
      pthread_cond_signal(&work);
    }
    pthread_mutex_unlock(&lock);
  }
  if (drop) dsc_engine_unref(engine); /* stopped, or the queue holds one until it is */
}

/* One more reference, unless the last one is gone: then its owner is about to forget the engine. */
static bool try_ref(dsc_engine *engine) {
  uint32_t refs = dsc_load_relaxed(&engine->refs);
  while (refs != 0 && !dsc_cas(&engine->refs, &refs, refs + 1)) continue;
  return refs != 0;
}

static void warn_leaked(const dsc_engine *engine) {
  Dl_info site = {.dli_sname = "runtime.disco.SessionThreaded", .dli_fname = "a program that knows the registry"};
  if (engine->creation_site != NULL) {
    site = (Dl_info){0};
    (void)dladdr(engine->creation_site, &site);
  }
  dsc_log(DSC_LOG_WARN, "a session of %d workers made in %s (%s) was not shut down before the process ended",
          engine->settings.num_workers, site.dli_sname != NULL ? site.dli_sname : "an unnamed function",
          site.dli_fname != NULL ? site.dli_fname : "?");
}

/* Stop every session, in bounded time: each has its grace. */
static void stop_all(void) {
  pthread_mutex_lock(&lock);
  notice_fork();
  while (busy || jobs != NULL) pthread_cond_wait(&idle, &lock);
  while (!dsc_list_is_empty(&live)) {
    dsc_engine *engine = dsc_list_entry(live.next, dsc_engine, link);
    dsc_list_remove(&engine->link);
    if (!try_ref(engine)) continue;
    pthread_mutex_unlock(&lock);
    if (dsc_load_relaxed(&engine->state) == DSC_READY) warn_leaked(engine);
    (void)dsc_engine_stop(engine, false);
    dsc_pool_finish(engine);
    dsc_engine_unref(engine);
    pthread_mutex_lock(&lock);
  }
  while (busy || jobs != NULL) pthread_cond_wait(&idle, &lock); /* what a deleter handed over meanwhile */
  pthread_mutex_unlock(&lock);
}

static void at_python_exit(void) {
  pthread_mutex_lock(&lock);
  notice_fork();
  python_ends = true;
  pthread_mutex_unlock(&lock);
  stop_all();
}

static void at_exit(void) {
  pthread_mutex_lock(&lock);
  notice_fork();
  exiting = true;
  pthread_mutex_unlock(&lock);
  stop_all();
}

/* lock held. A program that drops sessions faster than they can end makes new ones at the pace of the reaper. Bounded:
 * what the reaper waits for may need something that the caller holds. */
static void keep_pace(void) {
  enum { MAX_BACKLOG = 32, LONGEST_MS = 1000 };
  const struct timespec pause = {0, 1000000};
  int64_t end = dsc_clock_deadline_ns(LONGEST_MS);
  while (backlog > MAX_BACKLOG && dsc_clock_now_ns() < end) {
    pthread_mutex_unlock(&lock);
    (void)nanosleep(&pause, NULL);
    pthread_mutex_lock(&lock);
  }
}

disco_status dsc_reaper_register(dsc_engine *engine) {
  disco_status status = DISCO_OK;
  dsc_python_at_exit(at_python_exit); /* before the interpreter ends; the process's own exit hook comes after it */
  pthread_mutex_lock(&lock);
  notice_fork();
  keep_pace();
  if (exiting || (python_ends && dsc_python_is_there()))
    status = dsc_fail(DISCO_RUNTIME, "the process is exiting: no session can be made any more");
  if (status == DISCO_OK && !hooked) {
    hooked = true;
    (void)atexit(at_exit);
    (void)pthread_atfork(before_fork, after_fork, after_fork);
  }
  if (status == DISCO_OK && !running) { /* made with the first session, so that no deleter ever has to */
    pthread_t thread;
    status = dsc_thread_start("disco reaper", reap, NULL, &thread);
    if (status == DISCO_OK) {
      running = true;
      pthread_detach(thread);
    }
  }
  if (status == DISCO_OK) dsc_list_append(&live, &engine->link);
  pthread_mutex_unlock(&lock);
  return status;
}

void dsc_reaper_forget(dsc_engine *engine) {
  pthread_mutex_lock(&lock);
  dsc_list_remove(&engine->link);
  pthread_mutex_unlock(&lock);
}
