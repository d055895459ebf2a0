#include "os/process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/inject.h"
#include "base/memory.h"

extern char **environ;

static void sleep_1ms(void) { (void)nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL); }

/* ---- What is said when the system refuses ---- */

static const char *limit_to_raise(int error) {
  switch (error) {
  case EAGAIN:
    return ": too many processes or threads; raise the limit (ulimit -u, or pids.max of the control group), or use "
           "fewer workers";
  case EMFILE: return ": too many open descriptors; raise the limit (ulimit -n), or close sessions";
  case ENFILE: return ": too many open descriptors on this machine; raise fs.file-max, or close programs";
  case ENOMEM: return ": no memory for another process; use fewer workers, or raise the memory limit";
  case E2BIG: return ": arguments and environment are too long; pass less in the environment";
  case ESRCH: return ": it had ended already, and the program that hosts this library waits for every child itself";
  default: return "";
  }
}

static disco_status refuse(const char *deed, const char *object, int error) {
  return dsc_fail(error == ENOMEM ? DISCO_MEMORY : DISCO_RUNTIME, "%s %s failed: %s (%s)%s", deed, object,
                  strerror(error), strerrorname_np(error), limit_to_raise(error));
}

static bool is_about_a_path(int error) {
  return error == ENOENT || error == EACCES || error == ENOTDIR || error == ELOOP || error == ENAMETOOLONG ||
         error == ENOEXEC || error == EISDIR || error == EPERM || error == EINVAL || error == ELIBBAD ||
         error == ETXTBSY;
}

/* errno of entering a folder, 0 when it can be entered. */
static int folder_error(const char *folder) {
  struct stat status;
  if (stat(folder, &status) != 0) return errno;
  if (!S_ISDIR(status.st_mode)) return ENOTDIR;
  return access(folder, X_OK) != 0 ? errno : 0;
}

/* The child reports one number for every step it takes, so the folder is looked at again here. */
static disco_status spawn_refused(const dsc_spawn *how, int error) {
  int folder = how->working_directory != NULL ? folder_error(how->working_directory) : 0;
  if (folder != 0 && folder == error) {
    return dsc_fail(DISCO_VALUE, "cannot start %s in the working directory '%s': %s (%s); create it or name another",
                    how->program, how->working_directory, strerror(error), strerrorname_np(error));
  }
  if (!is_about_a_path(error)) return refuse("starting", how->program, error);
  const char *hint = strchr(how->program, '/') == NULL ? "name it by its path, or add its folder to PATH"
                                                       : "check the path, and that it is an executable file";
  return dsc_fail(DISCO_VALUE, "cannot start the program '%s': %s (%s); %s", how->program, strerror(error),
                  strerrorname_np(error), hint);
}

/* ---- Environment ---- */

static size_t count_of(const char *const *list) {
  size_t count = 0;
  while (list != NULL && list[count] != NULL) count++;
  return count;
}

static bool has_same_name(const char *one, const char *other) {
  size_t name = strcspn(one, "=");
  return strncmp(one, other, name) == 0 && (other[name] == '=' || other[name] == '\0');
}

static void put(char **list, size_t *count, const char *entry) {
  for (size_t i = 0; i < *count; i++) {
    if (has_same_name(entry, list[i])) {
      list[i] = (char *)(uintptr_t)entry;
      return;
    }
  }
  list[(*count)++] = (char *)(uintptr_t)entry;
}

/* Our environment and the added entries, of equal names the last one. The list is the caller's, the strings are not. */
static char **join_environment(const char *const *added) {
  size_t own = count_of((const char *const *)environ);
  char **list = dsc_alloc((own + count_of(added) + 1) * sizeof(*list), "the environment of a process");
  if (list == NULL) return NULL;
  if (own > 0) memcpy(list, environ, own * sizeof(*list));
  size_t count = own;
  for (size_t i = 0; i < count_of(added); i++) put(list, &count, added[i]);
  return list;
}

/* ---- Descriptors ---- */

typedef struct {
  int fd[DSC_SPAWN_MAX_FDS];
  int count, first_free; /* above every number that the child uses */
} spare_fds;

static void close_spares(spare_fds *spares) {
  for (int i = 0; i < spares->count; i++) close(spares->fd[i]);
  spares->count = 0;
}

/* Copies above all numbers of the child: one dup2 can then not overwrite the source of the next. */
static disco_status make_spares(const dsc_spawn *how, spare_fds *ret_spares) {
  spare_fds spares = {.first_free = STDERR_FILENO + 1};
  for (int i = 0; i < how->num_fds; i++)
    if (how->child_fd[i] >= spares.first_free) spares.first_free = how->child_fd[i] + 1;
  for (int i = 0; i < how->num_fds; i++) {
    int fd = DSC_ALLOCATION_FAILS() ? (errno = EMFILE, -1) : fcntl(how->own_fd[i], F_DUPFD_CLOEXEC, spares.first_free);
    if (fd < 0) {
      int error = errno == EINVAL ? EMFILE : errno; /* first_free itself is past the limit */
      close_spares(&spares);
      return refuse("copying a descriptor for", how->program, error);
    }
    spares.fd[spares.count++] = fd;
  }
  *ret_spares = spares;
  return DISCO_OK;
}

static bool is_child_fd(const dsc_spawn *how, int fd) {
  for (int i = 0; i < how->num_fds; i++)
    if (how->child_fd[i] == fd) return true;
  return false;
}

/* Output goes where ours goes; when ours is closed it must not go into the first file the child opens. */
static int add_output(posix_spawn_file_actions_t *actions, int fd) {
  if (fcntl(fd, F_GETFD) < 0) return posix_spawn_file_actions_addopen(actions, fd, "/dev/null", O_WRONLY, 0);
  return posix_spawn_file_actions_adddup2(actions, fd, fd);
}

static int add_actions(const dsc_spawn *how, const spare_fds *spares, posix_spawn_file_actions_t *actions) {
  int error = 0;
  if (!is_child_fd(how, STDIN_FILENO))
    error = posix_spawn_file_actions_addopen(actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  for (int fd = STDOUT_FILENO; error == 0 && fd <= STDERR_FILENO; fd++)
    if (!is_child_fd(how, fd)) error = add_output(actions, fd);
  for (int i = 0; error == 0 && i < how->num_fds; i++)
    error = posix_spawn_file_actions_adddup2(actions, spares->fd[i], how->child_fd[i]);
  for (int fd = STDERR_FILENO + 1; error == 0 && fd < spares->first_free; fd++)
    if (!is_child_fd(how, fd)) error = posix_spawn_file_actions_addclose(actions, fd);
  if (error == 0) error = posix_spawn_file_actions_addclosefrom_np(actions, spares->first_free);
  if (error == 0 && how->working_directory != NULL)
    error = posix_spawn_file_actions_addchdir_np(actions, how->working_directory);
  return error;
}

/* ---- Starting ---- */

static int set_attributes(posix_spawnattr_t *attributes) {
  sigset_t none, all;
  sigemptyset(&none);
  sigfillset(&all);
  int error = posix_spawnattr_setflags(attributes,
                                       (short)(POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF));
  if (error == 0) error = posix_spawnattr_setpgroup(attributes, 0);
  if (error == 0) error = posix_spawnattr_setsigmask(attributes, &none);
  if (error == 0) error = posix_spawnattr_setsigdefault(attributes, &all);
  return error;
}

static disco_status start(const dsc_spawn *how, const spare_fds *spares, char **environment, pid_t *ret_pid) {
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  int error = posix_spawn_file_actions_init(&actions);
  if (error != 0) return refuse("preparing", how->program, error);
  error = posix_spawnattr_init(&attributes);
  if (error != 0) {
    posix_spawn_file_actions_destroy(&actions);
    return refuse("preparing", how->program, error);
  }
  disco_status status = DISCO_OK;
  error = add_actions(how, spares, &actions);
  if (error == 0) error = set_attributes(&attributes);
  if (error != 0) {
    status = refuse("preparing", how->program, error);
  } else {
    error = DSC_ALLOCATION_FAILS() ? EAGAIN
                                   : posix_spawnp(ret_pid, how->program, &actions, &attributes,
                                                  (char *const *)(uintptr_t)how->argv, environment);
    if (error != 0) status = spawn_refused(how, error);
  }
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
  return status;
}

/* End a child for which there is no pidfd. Its number is its own as long as nobody has reaped it; a killed process may
 * take a while to go, but not for ever. */
static void kill_by_number(pid_t pid) {
  siginfo_t info;
  if (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) != 0) return;
  (void)kill(pid, SIGKILL);
  for (int tries = 0; tries < 2000; tries++) {
    info.si_pid = 0;
    if (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG) != 0 ? errno != EINTR : info.si_pid != 0) return;
    sleep_1ms();
  }
}

disco_status dsc_process_spawn(const dsc_spawn *how, int64_t *ret_pid, int *ret_pidfd) {
  if (how->num_fds < 0 || how->num_fds > DSC_SPAWN_MAX_FDS)
    return dsc_fail(DISCO_VALUE, "%d descriptors for a process, at most %d are handed over", how->num_fds,
                    DSC_SPAWN_MAX_FDS);
  char **environment = join_environment(how->environment);
  if (environment == NULL) return DISCO_MEMORY;
  spare_fds spares;
  pid_t pid = -1;
  disco_status status = make_spares(how, &spares);
  if (status == DISCO_OK) {
    status = start(how, &spares, environment, &pid);
    close_spares(&spares);
  }
  free(environment);
  if (status != DISCO_OK) return status;
  int pidfd = dsc_process_open(pid);
  if (pidfd < 0) {
    kill_by_number(pid);
    return DISCO_RUNTIME;
  }
  *ret_pid = pid;
  *ret_pidfd = pidfd;
  return DISCO_OK;
}

static int open_pidfd(int64_t pid) {
  bool is_possible = pid > 0 && pid <= INT32_MAX;
  errno = is_possible ? EMFILE : ESRCH;
  return !is_possible || DSC_ALLOCATION_FAILS() ? -1 : pidfd_open((pid_t)pid, 0);
}

int dsc_process_open(int64_t pid) {
  int fd = open_pidfd(pid);
  if (fd >= 0) return fd;
  int error = errno;
  const char *hint =
      error == ENOSYS ? ": the kernel is older than 5.4, or a sandbox forbids the call" : limit_to_raise(error);
  (void)dsc_fail(DISCO_RUNTIME, "pidfd_open of process %lld failed: %s (%s)%s", (long long)pid, strerror(error),
                 strerrorname_np(error), hint);
  return -1;
}

/* ---- Watching ---- */

static bool is_readable(int pidfd) {
  struct pollfd look = {.fd = pidfd, .events = POLLIN};
  return poll(&look, 1, 0) == 1 && (look.revents & POLLIN) != 0;
}

static dsc_process_end end_of(const siginfo_t *info) {
  if (info->si_code == CLD_EXITED) return (dsc_process_end){.known = true, .status = info->si_status};
  return (dsc_process_end){.known = true, .signal = info->si_status, .is_core = info->si_code == CLD_DUMPED};
}

static int look_at(int pidfd, int flags, siginfo_t *info) {
  int result;
  do {
    info->si_pid = 0; /* stays so when it runs */
    result = waitid(P_PIDFD, (id_t)pidfd, info, WEXITED | WNOHANG | flags);
  } while (result != 0 && errno == EINTR);
  return result;
}

bool dsc_process_has_ended(int pidfd, dsc_process_end *ret_end) {
  if (pidfd < 0) return false;
  siginfo_t info;
  dsc_process_end end = {.known = false};
  if (look_at(pidfd, WNOWAIT, &info) == 0) {
    if (info.si_pid == 0) return false;
    end = end_of(&info);
  } else if (!is_readable(pidfd)) {
    return false;
  }
  if (ret_end != NULL) *ret_end = end;
  return true;
}

void dsc_process_reap(int pidfd) {
  siginfo_t info;
  if (pidfd >= 0) (void)look_at(pidfd, 0, &info);
}

bool dsc_process_signal(int pidfd, int signal) {
  if (pidfd < 0 || dsc_process_has_ended(pidfd, NULL)) return false; /* a zombie takes every signal and says thanks */
  return pidfd_send_signal(pidfd, signal, NULL, 0) == 0;
}

bool dsc_process_wait(int pidfd, int64_t timeout_ms) {
  int64_t deadline = dsc_clock_deadline_ns(timeout_ms > 0 ? timeout_ms : 0);
  while (!dsc_process_has_ended(pidfd, NULL)) {
    int64_t left_ms = (deadline - dsc_clock_now_ns() + 999999) / 1000000;
    if (left_ms <= 0) return false;
    struct pollfd look = {.fd = pidfd, .events = POLLIN};
    /* Readable and not ended for waitid: a debugger holds it, so the look is repeated at leisure. */
    if (poll(&look, 1, left_ms < 60000 ? (int)left_ms : 60000) == 1 && !dsc_process_has_ended(pidfd, NULL)) sleep_1ms();
  }
  return true;
}

char dsc_process_state(int64_t pid) {
  char text[512];
  (void)snprintf(text, sizeof(text), "/proc/%lld/stat", (long long)pid);
  int fd = open(text, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return 0;
  ssize_t size = read(fd, text, sizeof(text) - 1);
  close(fd);
  if (size <= 0) return 0;
  text[size] = '\0';
  const char *name_end = strrchr(text, ')'); /* the name itself may contain one */
  return name_end != NULL && name_end[1] == ' ' ? name_end[2] : (char)0;
}

const char *dsc_signal_name(int signal, char *memory, size_t size) {
  const char *name = sigabbrev_np(signal);
  (void)(name != NULL ? snprintf(memory, size, "SIG%s", name) : snprintf(memory, size, "signal %d", signal));
  return memory;
}

/* ---- This process ---- */

void dsc_process_own_group(void) { (void)setpgid(0, 0); }

void dsc_process_exit_now(int status) { _exit(status); }
