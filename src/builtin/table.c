#include "builtin/table.h"

#include "builtin/basic.h"
#include "builtin/collectives.h"
#include "builtin/shard_loader.h"
#include "builtin/vm.h"
#include "builtin/weights.h"

#define SELF(id) (void *)(intptr_t)(DSC_COLLECTIVE_##id + 1)
/* At the front, and as the functions of the data planes `cpu` and `ref`. */
#define COLLECTIVE(name, id)                                               \
  {"runtime.disco." name, dsc_builtin_collective, SELF(id)},               \
      {"runtime.disco.cpu." name, dsc_builtin_collective_cpu, SELF(id)}, { \
    "runtime.disco.ref." name, dsc_builtin_collective_ref, SELF(id)        \
  }

const dsc_builtin dsc_builtins[] = {
    {"runtime.disco.worker_id", dsc_builtin_worker_id, NULL},     /* () -> Shape of one element */
    {"runtime.disco.worker_rank", dsc_builtin_worker_rank, NULL}, /* () -> int */
    {"runtime.disco.world_size", dsc_builtin_world_size, NULL},   /* () -> int */
    {"runtime.disco.device", dsc_builtin_device, NULL},           /* () -> Device */
    /* (shape: Shape, dtype, device: Device or None, worker0_only: bool, in_group: bool) -> Tensor or None */
    {"runtime.disco.empty", dsc_builtin_empty, NULL},
    {"runtime.disco.bind_worker_to_cpu_core", dsc_builtin_bind_worker_to_cpu_core, NULL}, /* (cpu_ids: Shape) -> None */
    {"runtime.disco.load_vm_module", dsc_builtin_load_vm_module, NULL}, /* (path, device: Device or None) -> Module */

    /* Collectives: all -> None. A kind is a Shape of one number, at a data plane an int. */
    COLLECTIVE("allreduce", ALLREDUCE),              /* (send: Tensor, kind, in_group: bool, recv: Tensor) */
    COLLECTIVE("allgather", ALLGATHER),              /* (send: Tensor, in_group: bool, recv: Tensor) */
    COLLECTIVE("broadcast_from_worker0", BROADCAST), /* (send: Tensor or None, in_group: bool, recv: Tensor) */
    COLLECTIVE("scatter_from_worker0", SCATTER),     /* (send: Tensor or None, in_group: bool, recv: Tensor) */
    COLLECTIVE("gather_to_worker0", GATHER),         /* (send: Tensor, in_group: bool, recv: Tensor or None) */
    COLLECTIVE("recv_from_worker0", RECV_WORKER0),   /* (recv: Tensor) */
    COLLECTIVE("send_to_next_group", SEND_NEXT),     /* (send: Tensor) */
    COLLECTIVE("recv_from_prev_group", RECV_PREV),   /* (recv: Tensor) */
    COLLECTIVE("send_to_worker", SEND),              /* (send: Tensor, receiver: int) */
    COLLECTIVE("recv_from_worker", RECV),            /* (recv: Tensor, sender: int) */
    COLLECTIVE("sync_worker", SYNC),                 /* () */
    {"runtime.disco.cpu.test_send_to_next_group_recv_from_prev_group", dsc_builtin_check_groups, NULL},
    {"runtime.disco.ref.test_send_to_next_group_recv_from_prev_group", dsc_builtin_check_groups, NULL},
    {"runtime.disco.cpu.test_worker2_sends_to_worker0", dsc_builtin_check_workers, NULL},
    {"runtime.disco.ref.test_worker2_sends_to_worker0", dsc_builtin_check_workers, NULL},
    {"runtime.disco.cpu.init_ccl_per_worker", dsc_builtin_init_ccl_per_worker,
     "cpu"}, /* (device ids: Shape, name: str) */
    {"runtime.disco.ref.init_ccl_per_worker", dsc_builtin_init_ccl_per_worker, "ref"},
    {"runtime.disco.compiled_ccl", dsc_builtin_compiled_ccl, NULL}, /* () -> str; anywhere */

    /* (path: str, plan: str, manifest: str or None = None) -> Map of str to Tensor */
    {"libdisco.load_weights", dsc_builtin_load_weights, NULL},
    /* (path: str, json: str, shard_info: str, module: Module or None) -> ShardLoader */
    {"runtime.disco.ShardLoader", dsc_builtin_shard_loader, NULL},
    {"runtime.disco.ShardLoaderLoad", dsc_builtin_shard_load, NULL}, /* (loader, index: Shape) -> Tensor */
    {"runtime.disco.ShardLoaderLoadPresharded", dsc_builtin_shard_load_presharded, NULL},        /* the same */
    {"runtime.disco.ShardLoaderLoadAll", dsc_builtin_shard_load_all, NULL},                      /* (loader) -> Array */
    {"runtime.disco.ShardLoaderLoadAllPresharded", dsc_builtin_shard_load_all_presharded, NULL}, /* the same */
    {"runtime.disco.ShardLoaderLoadParamOnWorker0", dsc_builtin_shard_load_param, NULL}, /* (loader, int) -> Tensor */
};

const int dsc_builtin_count = sizeof(dsc_builtins) / sizeof(dsc_builtins[0]);
