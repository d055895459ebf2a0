/* What a function that runs on a worker may ask and do.
 *
 * A worker function is any TVM-FFI function: int fn(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny
 * *result), 0 for success, -1 with an error raised (disco_raise() does it). Arguments are borrowed for the length of
 * the call; the result is owned by the caller. It may be called by several workers at once, on their own threads. It
 * may block; while it does, disco_session_dump() shows its name.
 *
 * The functions of this page that need a worker return DISCO_VALUE "... the current thread is not a DiscoWorker thread"
 * anywhere else.
 */
#ifndef DISCO_WORKER_H
#define DISCO_WORKER_H

#include <stdbool.h>
#include <stdint.h>
#include <tvm/ffi/c_api.h>

#include "disco/status.h"

struct disco_channel;

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
  size_t struct_size; /* set by the caller to sizeof(disco_worker_info): fields past it are left alone */
  int32_t worker_id;  /* 0 .. num_workers - 1 */
  int32_t local_id;   /* the same among the workers of this host */
  int32_t num_workers;
  int32_t num_groups;
  int32_t group; /* worker_id / (num_workers / num_groups) */
  int32_t rank_in_group;
  DLDevice device;   /* the default device: {kDLCPU, 0} until a data plane sets it */
  const char *ccl;   /* the name of the data plane, "" until there is one; lives until it changes */
  uint64_t sequence; /* the command that is running */
} disco_worker_info;

/* Who am I? Reads the calling worker. DISCO_VALUE also when struct_size is not set. */
DISCO_API DISCO_MUST_USE disco_status disco_worker_get_info(disco_worker_info *ret_info);

/* Say how far the running function is: `done` of `total`, in units of its own; total 0 when it does not know.
 * Controllers see it by disco_session_get_progress() and in disco_session_dump(). A few stores, so it may be called
 * often; from a worker behind a pipe or channel it is sent on ten times a second at most. DISCO_CLOSED: nobody will
 * see what this function makes, because shutdown waits no longer, another worker is lost or the controller is gone: let
 * go of what it holds and return an error. (Shutdown kills worker processes for which it waits no longer.) */
DISCO_API DISCO_MUST_USE disco_status disco_worker_progress(uint64_t done, uint64_t total);

/* Set the data plane's name and the default device of the calling worker: for the init function of a data plane. The
 * name has 1 to 63 bytes (DISCO_VALUE) and is copied; DISCO_RUNTIME when this worker has a data plane already. */
DISCO_API DISCO_MUST_USE disco_status disco_worker_set_ccl(const char *ccl, DLDevice device);

/* Raise an error from a worker function: `return disco_raise("ValueError", "size %d is odd", n);`. Returns -1. Any
 * thread.
 * The strings are copied; neither may be NULL. */
DISCO_API int disco_raise(const char *kind, const char *format, ...) DISCO_PRINTF(2, 3);

/* Raise what the calling thread's last libdisco call said when it failed, with its kind: `if (disco_allreduce(...) !=
 * DISCO_OK) return disco_raise_last();`. Returns -1. */
DISCO_API int disco_raise_last(void);

/* Register a C function as the global function `name`. `self` is handed to every call; `self_deleter` (may be NULL)
 * frees it at the end. DISCO_VALUE when the name is taken and `override` is false. Not while another thread registers
 * or looks up functions: TVM-FFI's registry has no lock. */
DISCO_API DISCO_MUST_USE disco_status disco_register_function(const char *name, TVMFFISafeCallType function, void *self,
                                                              void (*self_deleter)(void *self), bool override);

/* A new tensor, uninitialised, 64-byte aligned, row-major, owned by the caller. Only CPU devices here (DISCO_VALUE
 * otherwise). shape: ndim non-negative sizes. DISCO_MEMORY with the byte count. Any thread. */
DISCO_API DISCO_MUST_USE disco_status disco_tensor_create(int32_t ndim, const int64_t *shape, DLDataType dtype,
                                                          DLDevice device, TVMFFIObjectHandle *ret_tensor);

/* ---- Collectives ---- */

/* They run on workers, over the data plane that disco_session_init_ccl() started; each worker of the communicator calls
 * the same function in the same command. `in_group`: among the workers of the caller's group, else among all. Ranks are
 * worker ids, or places in the group; the root is rank 0. Tensors are on the CPU, row-major without gaps; byte offsets
 * count. Shapes are ignored, numbers of elements count. `recv` may be the very memory of `send` where the sizes allow
 * it; a partial overlap is DISCO_VALUE. The calling worker waits; nothing is allocated for a call.
 *
 * Errors. DISCO_VALUE: sizes, dtypes that differ, overlaps, a worker id, no data plane; DISCO_TYPE: a dtype that cannot
 * be reduced; DISCO_COLLECTIVE: the members called different functions, sizes, dtypes or kinds (both are shown), or a
 * member raised, died or went past the collective; DISCO_TIMEOUT: option collective_timeout_ms. Nobody waits for ever.
 * The sentence says that no byte of a tensor has moved, or that `recv` is undefined. The session works on once the
 * error was told, without a new init_ccl.
 *
 * One tensor on several workers. Worker threads get the very object that the controller put into the session or passed
 * as an argument. All of them may send it; none may receive into it while another sends it or receives into it, also in
 * place: give each worker a tensor of its own (runtime.disco.empty). An allreduce of more than 56 bytes that receives
 * into what another worker sends is DISCO_VALUE and names both; a smaller one and the other operations do not look, and
 * may leave wrong data.
 *
 * Controllers call the same by name, with DRefs as arguments (disco_dref_arg() of disco/disco.h). A shape is an
 * ffi.Shape or an array of ints; a kind an ffi.Shape of one number of disco_reduce_kind, or an int; a bool may be an
 * int, a dtype or device its text ("float32", "cpu:0"). Each returns None but where it says so. Wrong arguments are a
 * TypeError that names the parameter.
 *
 *   runtime.disco.empty(shape, dtype, device, worker0_only: bool, in_group: bool) -> Tensor
 *     of each worker's own, uninitialised, 64-byte aligned; device None: the worker's own; with worker0_only None
 *     but on worker 0, or with in_group too but on the first worker of each group
 *   runtime.disco.allreduce(send: Tensor, kind, in_group: bool, recv: Tensor)
 *   runtime.disco.allgather(send: Tensor, in_group: bool, recv: Tensor)
 *   runtime.disco.broadcast_from_worker0(send: Tensor, in_group: bool, recv: Tensor)
 *   runtime.disco.scatter_from_worker0(send: Tensor, in_group: bool, recv: Tensor)
 *   runtime.disco.gather_to_worker0(send: Tensor, in_group: bool, recv: Tensor)
 *     in broadcast and scatter the send, in gather the recv of others than the root is ignored, whatever it is
 *   runtime.disco.send_to_worker(send: Tensor, receiver: int)
 *   runtime.disco.recv_from_worker(recv: Tensor, sender: int)
 *   runtime.disco.recv_from_worker0(recv: Tensor)
 *   runtime.disco.send_to_next_group(send: Tensor)
 *   runtime.disco.recv_from_prev_group(recv: Tensor)
 *   runtime.disco.sync_worker()
 *   runtime.disco.compiled_ccl() -> str
 *     the data plane to ask init_ccl for: on a worker with one the name by which its session's alias calls it,
 *     elsewhere that of DISCO_CCL_ALIAS; "cpu" without an alias
 *
 * Those of this library's data planes themselves are runtime.disco.cpu.* and runtime.disco.ref.*. A data plane of
 * somebody else's gets the kind as an int. */

typedef enum { DISCO_SUM = 0, DISCO_PROD = 1, DISCO_MIN = 2, DISCO_MAX = 3, DISCO_AVG = 4 } disco_reduce_kind;

/* recv = the reduction of all send's, element by element, with the same bits on every worker: a fixed tree over the
 * ranks, ((0 + 1) + (2 + 3)) + (4 + 5) for six, float16 and bfloat16 in float32 and rounded once. int8 to uint64,
 * float16, bfloat16, float32, float64. Integers wrap, a NaN wins in min and max, -0 < +0, the mean of integers
 * truncates toward zero. */
DISCO_API DISCO_MUST_USE disco_status disco_allreduce(const DLTensor *send, disco_reduce_kind kind, bool in_group,
                                                      DLTensor *recv);
/* recv = all send's one behind the other, in rank order: as many elements as send times the number of ranks. The
 * operations from here on move bytes: any dtype, the same on both sides. */
DISCO_API DISCO_MUST_USE disco_status disco_allgather(const DLTensor *send, bool in_group, DLTensor *recv);
/* recv = the root's send. Others' send is ignored and may be NULL. */
DISCO_API DISCO_MUST_USE disco_status disco_broadcast_from_worker0(const DLTensor *send, bool in_group, DLTensor *recv);
/* recv = the rank-th part of the root's send, which has as many elements as there are ranks times recv's. */
DISCO_API DISCO_MUST_USE disco_status disco_scatter_from_worker0(const DLTensor *send, bool in_group, DLTensor *recv);
/* The root's recv = all send's in rank order. Others' recv is ignored and may be NULL. */
DISCO_API DISCO_MUST_USE disco_status disco_gather_to_worker0(const DLTensor *send, bool in_group, DLTensor *recv);

/* Wait until what the calling worker asked of its data plane has been done. Nothing to wait for with the library's own
 * data planes, and without one. */
DISCO_API DISCO_MUST_USE disco_status disco_sync_worker(void);

/* Point to point: the n-th send to a worker meets that worker's n-th receive from here, in whatever commands they are.
 * Small sends do not wait for the receiver, larger ones do. Who receives from
 * a worker that never sends waits as long as nothing fails (option collective_timeout_ms): the send may come in a later
 * command. Worker ids are those of the session. A worker or group that
 * is not there, or the caller itself: DISCO_VALUE. */
DISCO_API DISCO_MUST_USE disco_status disco_send_to_worker(const DLTensor *send, int32_t receiver);
DISCO_API DISCO_MUST_USE disco_status disco_recv_from_worker(DLTensor *recv, int32_t sender);
/* From worker 0, which sends with disco_send_to_worker(). */
DISCO_API DISCO_MUST_USE disco_status disco_recv_from_worker0(DLTensor *recv);
/* To the worker of the same rank in the next group, from that of the one before. */
DISCO_API DISCO_MUST_USE disco_status disco_send_to_next_group(const DLTensor *send);
DISCO_API DISCO_MUST_USE disco_status disco_recv_from_prev_group(DLTensor *recv);

typedef struct {
  size_t struct_size; /* set by the caller */
  uint64_t inlined;   /* operations whose data went in the entry lines */
  uint64_t staged;    /* through shared staging memory */
  uint64_t direct;    /* straight between the tensors */
  uint64_t bytes;     /* of the caller's tensors that these operations were about */
  uint64_t sleeps;    /* times that the caller went to sleep in one */
} disco_collective_stats;

/* What the calling worker's collectives have done so far. */
DISCO_API DISCO_MUST_USE disco_status disco_worker_collective_stats(disco_collective_stats *ret_stats);

/* ---- Weights ---- */

/* Functions by name, for workers; disco/weights.h has formats, plans and manifests. Errors keep their kind and come
 * with the worker's number, at the controller's next call; the session works on.
 *
 * libdisco.load_weights(path: str, plan: str, manifest: str or None = None) -> Map from str to Tensor
 *   Each worker reads its own part of a model, and nothing else of the files, straight into tensors made as
 *   runtime.disco.empty makes them; no data plane is needed, and nothing goes through the controller. The plan is JSON
 *   text, or the path of a file when its first character but white space is not '{'. Before a byte of a tensor is read
 *   the whole plan is checked for all workers, and all of the worker's tensors are made. The manifest is a path: what
 *   was read must hash to what it says. Skipped tensors are not in the map. One tensor of it, on every worker:
 *   ffi.MapGetItem(map, name); a KeyError there means that the plan skips it, or a misspelt name. Relative paths are
 *   each worker's own: give absolute ones together with options.working_directory. It says how far it is in bytes of
 *   the files, every 4 MiB (disco_worker_progress()); disco_session_load_weights() of disco/weights.h calls and watches
 *   it. ValueError: model, plan or manifest are wrong, do not fit each other or the number of workers, or a file was
 *   cut; RuntimeError: a file cannot be opened or read; MemoryError; SessionClosedError: nobody will see the result.
 *
 * runtime.disco.ShardLoader(path: str, json: str, shard_info: str, module: Module or None) -> loader
 *   TVM's way. `path`: of tensor-cache.json, with its folder ("./tensor-cache.json"), beside which its other files lie;
 *   `json`: the text of that file; shard_info "{}" without functions. No file is looked at yet.
 *   shard_info: {"param_0": [["function", [[output shape], "dtype"], integers...], ...], ...}; functions are those of
 *   the module and its imports, else global ones; "" asks the module's get_shard_info. ValueError: broken JSON, a
 *   function that is not there; parameters that the cache does not have are ignored.
 * runtime.disco.ShardLoaderLoad(loader, Shape(i)) -> Tensor
 *   Record i, in file order. Worker 0 reads it; without functions everybody gets it all, by a broadcast. With functions
 *   worker 0 calls f(DLTensor *in, integers..., DLTensor *out) one after the other, and scatters the last output, whose
 *   first dimension must be the number of workers: everybody gets the rest. Needs a data plane.
 * runtime.disco.ShardLoaderLoadAll(loader) -> Array of Tensor
 *   The same for the records named param_0, param_1, ..., as many as there are records.
 * runtime.disco.ShardLoaderLoadParamOnWorker0(loader, i: int) -> Tensor
 *   The record named param_<i>: read by worker 0; others get a tensor of its shape, uninitialised.
 * runtime.disco.ShardLoaderLoadPresharded(loader, Shape(i)) -> Tensor
 * runtime.disco.ShardLoaderLoadAllPresharded(loader) -> Array of Tensor
 *   Each worker w of n reads its own records, param_<i>_shard-<w + 1>-of-<n>; by index, record w * (records / n) + i,
 *   which must have that name.
 *   Errors of all five: ValueError for records that there are not, files of another size than the cache says, a path
 *   without '/'; RuntimeError for files that cannot be read; what a shard function raised. */

/* ---- Compiled models ---- */

/* runtime.disco.load_vm_module(path: str, device: Device or str or None) -> Module
 *   A library that TVM compiled. It is opened once per path and process. If it holds a Relax executable, the result is
 * a virtual machine of this worker's own on `device` (None: the worker's), else the library's module as it is. One
 *   function of it: ffi.ModuleGetFunction(module, name, False). Needs TVM's runtime in the process (`import tvm`).
 *   RuntimeError: no such file; TVM's own errors, with the path before them. */

/* ---- The program of a worker process ---- */

/* Be worker `worker_id` of a session: shakes hands with the controller over the two descriptors that its pool gave,
 * runs commands on the calling thread, and returns DISCO_OK at shutdown. Also the global function
 * runtime.disco.WorkerProcess. Takes a process group of its own, so that Ctrl-C reaches the controller alone, and makes
 * both descriptors close-on-exec; they stay open until the process ends. When the controller is gone the process ends
 * by _exit within a second, whatever it is doing. DISCO_VALUE: bad numbers or descriptors; DISCO_LOST: the controller
 * is gone or is no libdisco, before the first command. Once per process. */
DISCO_API DISCO_MUST_USE disco_status disco_worker_process(int32_t worker_id, int32_t num_workers, int32_t num_groups,
                                                           int read_fd, int write_fd);

/* The same over the worker's end of a channel of the user's own (disco/channel.h), which stays the caller's. Several
 * threads of a process may each be a worker so. Returns at shutdown, or DISCO_LOST when the channel closed without
 * one. */
DISCO_API DISCO_MUST_USE disco_status disco_worker_run_channel(int32_t worker_id, int32_t num_workers,
                                                               int32_t num_groups, struct disco_channel *channel);

/* Bind the calling thread to a CPU. DISCO_VALUE when it does not exist or is not allowed. */
DISCO_API DISCO_MUST_USE disco_status disco_bind_cpu(int64_t cpu);

#ifdef __cplusplus
}
#endif
#endif
