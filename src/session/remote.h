/* A worker that is no thread of this process: its process, pipes and output, watched by the monitor, and its pump when
 * it cannot read the shared memory. Made by launch_process.c, owned by its engine. */
#ifndef DSC_SESSION_REMOTE_H
#define DSC_SESSION_REMOTE_H

#include "disco/channel.h"
#include "os/process.h"
#include "session/engine.h"
#include "wire/frame.h"

enum {
  DSC_REMOTE_STARTING = 0, /* has not answered yet */
  DSC_REMOTE_RING = 1,
  DSC_REMOTE_PIPE = 2,
  DSC_REMOTE_GONE = 3, /* its process ended (or, when we do not know it, its pipe) */
};

enum { DSC_OUTPUT_LINE = 4096, DSC_OUTPUT_TAIL = 4096 };

/* What it prints: a pipe, the line that is not whole yet, and for stderr the end of all lines. */
typedef struct {
  int fd;
  size_t size;
  char line[DSC_OUTPUT_LINE];
} dsc_output;

/* pump.c: the threads that stand for a worker that is not on the shared memory. */
typedef struct dsc_pump dsc_pump;

struct dsc_remote {
  dsc_list link; /* monitor.c's, under its lock */
  uint64_t token;
  dsc_engine *engine;
  int32_t worker;
  _Atomic uint32_t state;
  int64_t pid;           /* 0: unknown */
  int pidfd;             /* -1: none */
  bool is_child;         /* we started it, so we reap it */
  int read_fd, write_fd; /* -1 once the pump's channel has them */
  bool pipe_ended, process_ended;
  dsc_process_end end;      /* how, once process_ended */
  int64_t kill_at_ns;       /* the one ended without the other: when to stop waiting for that; 0: no */
  int64_t look_again_at_ns; /* its pidfd said that it ended, and waitid did not; 0: no */
  bool leaving;             /* it is about to be removed: nothing more is forwarded */
  char broken[256];         /* why we ended it; "" when that was not our decision */
  size_t answer_size;       /* bytes of the answer that have come */
  dsc_answer answer;
  dsc_output output[2];
  char tail[DSC_OUTPUT_TAIL];
  size_t tail_size;
  disco_output_fn output_fn;
  void *output_context;
  int64_t oom_kills;      /* of the control group when it was started */
  disco_channel *channel; /* the user's, or the pipe's; the pump's */
  dsc_pump *pump;
};

/* ---- monitor.c: one thread per process ---- */

/* Start watching: pidfd, pipe, output. Starts the thread with the first. */
disco_status dsc_monitor_add(dsc_remote *remote);
/* Stop watching: when this returns the monitor does not touch it any more. */
void dsc_monitor_remove(dsc_remote *remote);
/* Kill its process, which is lost then for this reason (copied). Without a process that we know it is lost at once. Any
 * thread. */
void dsc_remote_break(dsc_remote *remote, const char *reason);
/* The same for a worker by its number, if it is a process and the session has not stopped it yet. */
void dsc_remote_break_worker(dsc_engine *engine, int32_t worker, const char *reason);
/* The pump's: its channel ended, in order or not. */
void dsc_remote_channel_ended(dsc_remote *remote, const char *reason);
/* A forked child: close what belongs to the parent's sessions. Async-signal-safe. */
void dsc_monitor_after_fork(void);

/* ---- pump.c ---- */
disco_status dsc_pump_start(dsc_remote *remote);
/* Interrupt and join both threads, destroy the channel. NULL allowed. */
void dsc_pump_stop(dsc_pump *pump);

/* ---- launch_process.c: the end ---- */
/* Wait until every process has ended, kill those that have not by then, and forget them. Returns how many were killed;
 * adds what they were doing to `text`. */
int32_t dsc_remotes_stop(dsc_engine *engine, int64_t deadline_ns, dsc_text *text);
/* Before shutdown is posted: workers that have not answered are not waited for. */
void dsc_remotes_give_up_starting(dsc_engine *engine);
void dsc_remotes_free(dsc_engine *engine);
/* The hello for this worker. */
dsc_hello dsc_hello_for(const dsc_engine *engine, int32_t worker);
/* Destroy the channels that were handed over to a session which could not be made. */
void dsc_channels_destroy(const disco_session_options *options);

#endif
