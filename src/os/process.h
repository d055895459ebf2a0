/* Child processes and other processes: start, watch, kill. A process is held by its pidfd, never by its number, which
 * may be reused. Any thread. */
#ifndef DSC_OS_PROCESS_H
#define DSC_OS_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

enum { DSC_SPAWN_MAX_FDS = 4 };

typedef struct {
  const char *program;     /* a path (a relative one: seen from working_directory), or a name looked for on PATH */
  const char *const *argv; /* NULL-terminated, argv[0] included */
  const char *const *environment; /* NULL, or NAME=VALUE..., NULL: added to this process's own, replacing equal names */
  const char *working_directory;  /* NULL: this process's */
  int num_fds;
  int child_fd[DSC_SPAWN_MAX_FDS]; /* the number in the child ... */
  int own_fd[DSC_SPAWN_MAX_FDS];   /* ... of this descriptor of ours; all others above 2 are closed there */
} dsc_spawn;

/* posix_spawn: its own process group, no blocked signals, default handlers. stdin is /dev/null unless child_fd has 0;
 * stdout and stderr are ours (/dev/null where ours is closed). *ret_pidfd is close-on-exec and owned by the caller.
 * DISCO_VALUE: the program or folder does not exist or may not be run, with its name; DISCO_MEMORY; DISCO_RUNTIME: with
 * errno's name and the limit to raise (EAGAIN: processes, EMFILE: descriptors). On failure no child and no descriptor
 * is left. */
disco_status dsc_process_spawn(const dsc_spawn *how, int64_t *ret_pid, int *ret_pidfd);
/* A pidfd of any process, or -1 with errno's sentence in the thread's error. */
int dsc_process_open(int64_t pid);

/* How a process ended. */
typedef struct {
  bool known;   /* false: not our child, or reaped by the host program */
  int signal;   /* that killed it, 0: none */
  int status;   /* exit status when no signal did */
  bool is_core; /* it dumped core */
} dsc_process_end;

/* Has it ended? Confirms with waitid (WNOWAIT: nothing is reaped) where it is our child; a process that is not our
 * child counts as ended when its pidfd polls readable. Never blocks. */
bool dsc_process_has_ended(int pidfd, dsc_process_end *ret_end);
/* Take the zombie away, if it is our child and nobody did. Never blocks. */
void dsc_process_reap(int pidfd);
/* SIGKILL, SIGTERM, ... through the pidfd: no other process can be hit. False when it has ended already (reaped or
 * not), or may not be signalled. */
bool dsc_process_signal(int pidfd, int signal);
/* Wait until it has ended, at most timeout_ms (0 and less: one look). False when it has not. Reaps nothing. */
bool dsc_process_wait(int pidfd, int64_t timeout_ms);
/* The letter of its state in the process table (R, S, D, T stopped, t traced, Z, X); 0 when there is none. */
char dsc_process_state(int64_t pid);
/* "SIGKILL" for 9; "signal 77" for one without a name, in the caller's memory. */
const char *dsc_signal_name(int signal, char *memory, size_t size);
/* Leave the process group of whoever started us: Ctrl-C on the terminal then reaches the controller alone. */
void dsc_process_own_group(void);
/* End this process at once, without any cleaning up. */
__attribute__((noreturn)) void dsc_process_exit_now(int status);

#endif
