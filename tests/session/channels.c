/* Sessions over a user's own transport: a socket for each worker, whose process this suite starts and waits for itself;
 * the library is given the channels alone. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "disco/channel.h"
#include "session/support.h"

/* ---- The children ---- */

typedef struct child {
  struct child *next;
  pid_t pid;
  int32_t worker;
  uint64_t start;               /* which call started it */
  const disco_session *session; /* that call's; NULL until there is one */
  bool is_killed;               /* by the test, which knows */
} child;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static child *children; /* those that run, the newest first */
static int complaints;

/* Status 1 would be the watcher's, which nobody has here. */
static void judge(const child *self, int status) {
  if (status == 0 || self->is_killed) return;
  if (WIFEXITED(status) && WEXITSTATUS(status) == LEFT_EARLY) return; /* its session ended before it was there */
  (void)fprintf(stderr, "process %d, worker %d over a channel, left with status 0x%x\n", (int)self->pid,
                (int)self->worker, (unsigned)status);
  complaints++;
}

/* A thread for each, so that none is ever a zombie for long. */
static void *wait_for_child(void *argument) {
  child *self = argument;
  siginfo_t info;
  int status = 0;
  while (waitid(P_PID, (id_t)self->pid, &info, WEXITED | WNOWAIT) != 0 && errno == EINTR) continue;
  (void)pthread_mutex_lock(&lock); /* its number is its own as long as it is in the list */
  pid_t got = waitpid(self->pid, &status, 0);
  if (got == self->pid) {
    judge(self, status);
  } else {
    (void)fprintf(stderr, "process %d over a channel was waited for by somebody else\n", (int)self->pid);
    complaints++;
  }
  child **at = &children;
  while (*at != self) at = &(*at)->next;
  *at = self->next;
  (void)pthread_mutex_unlock(&lock);
  free(self);
  return NULL;
}

static bool matches(const child *self, const disco_session *session) {
  return session == NULL || self->session == session;
}

static int count_children(const disco_session *session) {
  int count = 0;
  (void)pthread_mutex_lock(&lock);
  for (const child *at = children; at != NULL; at = at->next) count += matches(at, session);
  (void)pthread_mutex_unlock(&lock);
  return count;
}

void await_channel_workers(const disco_session *session) {
  for (int i = 0; i < WAIT_MS && count_children(session) > 0; i++) sleep_ms(1);
  (void)pthread_mutex_lock(&lock);
  for (child *at = children; at != NULL; at = at->next) {
    if (!matches(at, session)) continue;
    (void)fprintf(stderr, "process %d, worker %d over a channel, did not end with its session: killed\n", (int)at->pid,
                  (int)at->worker);
    complaints++;
    at->is_killed = true; /* told here */
    (void)kill(at->pid, SIGKILL);
  }
  (void)pthread_mutex_unlock(&lock);
  for (int i = 0; i < WAIT_MS && count_children(session) > 0; i++) sleep_ms(1);
}

int check_channel_workers(void) {
  await_channel_workers(NULL);
  (void)pthread_mutex_lock(&lock);
  int found = complaints;
  (void)pthread_mutex_unlock(&lock);
  if (found > 0) print_error("%d complaints about workers over channels\n", found);
  return found > 0;
}

int64_t kill_channel_worker(const disco_session *session, int32_t worker) {
  int64_t pid = -1;
  (void)pthread_mutex_lock(&lock);
  for (child *at = children; at != NULL && pid < 0; at = at->next) {
    if (at->session != session || at->worker != worker) continue;
    at->is_killed = true;
    if (kill(at->pid, SIGKILL) == 0) pid = at->pid;
  }
  (void)pthread_mutex_unlock(&lock);
  return pid;
}

/* ---- Starting them ---- */

static pid_t start_process(int32_t worker, const disco_session_options *options, int fd) {
  char numbers[5][16], name[] = "/proc/self/exe", command[] = "worker";
  const int values[5] = {worker, options->num_workers, options->num_groups, fd, fd};
  for (int i = 0; i < 5; i++) (void)snprintf(numbers[i], sizeof(numbers[i]), "%d", values[i]);
  char *const argv[] = {name, command, numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], NULL};
  extern char **environ;
  pid_t pid = fork();
  if (pid != 0) return pid;
  /* Nothing from here on takes a lock: other threads of the controller held any of them. */
  if (fcntl(fd, F_SETFD, 0) == 0) (void)execve(name, argv, environ);
  _exit(127);
}

/* The controller's end; NULL when something is missing. */
static disco_channel *start_worker(int32_t worker, const disco_session_options *options, uint64_t start) {
  int ends[2];
  pthread_t thread;
  disco_channel *channel = NULL;
  child *self = calloc(1, sizeof(*self));
  if (self == NULL || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
    free(self);
    return NULL;
  }
  if (disco_pipe_channel_create(ends[0], ends[0], &channel) != DISCO_OK) close(ends[0]);
  pid_t pid = channel != NULL ? start_process(worker, options, ends[1]) : -1;
  close(ends[1]);
  if (pid < 0) {
    if (channel != NULL) channel->ops->destroy(channel);
    free(self);
    return NULL;
  }
  (void)pthread_mutex_lock(&lock);
  *self = (child){.next = children, .pid = pid, .worker = worker, .start = start};
  children = self;
  if (pthread_create(&thread, NULL, wait_for_child, self) == 0) {
    (void)pthread_detach(thread);
  } else {
    complaints++; /* it stays in the list */
  }
  (void)pthread_mutex_unlock(&lock);
  return channel;
}

static void claim_children(uint64_t start, const disco_session *session) {
  (void)pthread_mutex_lock(&lock);
  for (child *at = children; at != NULL; at = at->next)
    if (at->start == start) at->session = session;
  (void)pthread_mutex_unlock(&lock);
}

disco_status start_over_channels(disco_session_options *options, disco_session **ret_session) {
  enum { MOST_WORKERS = 1024 };
  static _Atomic uint64_t starts;
  const uint64_t start = atomic_fetch_add(&starts, 1) + 1;
  const int32_t workers = options->num_workers;
  /* What will be refused for its counts, or for want of a place for the answer, starts nobody. */
  if (workers < 1 || workers > MOST_WORKERS || options->num_groups < 1 || workers % options->num_groups != 0 ||
      ret_session == NULL)
    return disco_session_create_process(options, ret_session);
  disco_channel **channels = calloc((size_t)workers, sizeof(*channels));
  if (channels == NULL) return disco_fail(DISCO_MEMORY, "no memory for %d channels", workers);
  for (int32_t i = 1; i < workers; i++) {
    channels[i - 1] = start_worker(i, options, start);
    if (channels[i - 1] != NULL) continue;
    int error = errno;
    for (int32_t k = 1; k < i; k++) channels[k - 1]->ops->destroy(channels[k - 1]);
    free(channels);
    return disco_fail(DISCO_RUNTIME, "the test cannot start worker %d: errno %d", i, error);
  }
  options->channels = channels;
  disco_status status = disco_session_create_process(options, ret_session);
  free(channels); /* the array is ours, what stood in it is the session's, made or not */
  if (status == DISCO_OK) claim_children(start, *ret_session);
  return status;
}
