#include "builtin/table.h"

#include "builtin/basic.h"

const dsc_builtin dsc_builtins[] = {
    {"runtime.disco.worker_id", dsc_builtin_worker_id},     /* () -> Shape of one element */
    {"runtime.disco.worker_rank", dsc_builtin_worker_rank}, /* () -> int */
    {"runtime.disco.world_size", dsc_builtin_world_size},   /* () -> int */
    {"runtime.disco.device", dsc_builtin_device},           /* () -> Device */
    /* (shape: Shape, dtype, device: Device or None, worker0_only: bool, in_group: bool) -> Tensor or None */
    {"runtime.disco.empty", dsc_builtin_empty},
    {"runtime.disco.bind_worker_to_cpu_core", dsc_builtin_bind_worker_to_cpu_core}, /* (cpu_ids: Shape) -> None */
};

const int dsc_builtin_count = sizeof(dsc_builtins) / sizeof(dsc_builtins[0]);
