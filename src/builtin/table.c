#include "builtin/table.h"

#include "builtin/basic.h"

const dsc_builtin dsc_builtins[] = {
    {"runtime.disco.worker_id", "() -> Shape of one element", dsc_builtin_worker_id},
    {"runtime.disco.worker_rank", "() -> int", dsc_builtin_worker_rank},
    {"runtime.disco.world_size", "() -> int", dsc_builtin_world_size},
    {"runtime.disco.device", "() -> Device", dsc_builtin_device},
    {"runtime.disco.empty",
     "(shape: Shape, dtype: dtype, device: Device or None, worker0_only: bool, in_group: bool) -> Tensor or None",
     dsc_builtin_empty},
    {"runtime.disco.bind_worker_to_cpu_core", "(cpu_ids: Shape) -> None", dsc_builtin_bind_worker_to_cpu_core},
};

const int dsc_builtin_count = sizeof(dsc_builtins) / sizeof(dsc_builtins[0]);
