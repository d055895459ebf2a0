#define _GNU_SOURCE
#include "workers.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <tvm/ffi/c_api.h>
#include <unistd.h>

#include "probe.h"

static bench_table *the_table;
static _Thread_local bench_slot *my_slot;

bench_table *bench_table_map(int fd) {
  void *memory = mmap(NULL, sizeof(bench_table), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  return memory == MAP_FAILED ? NULL : memory;
}

bench_table *bench_table_create(int *ret_fd) {
  int fd = memfd_create("bench-table", MFD_CLOEXEC);
  if (fd < 0) return NULL;
  bench_table *table = ftruncate(fd, sizeof(bench_table)) == 0 ? bench_table_map(fd) : NULL;
  if (!table) {
    close(fd);
    return NULL;
  }
  *ret_fd = fd;
  return table;
}

void bench_table_reset(bench_table *table) { memset(table, 0, sizeof *table); }

bool bench_table_check(const bench_table *table, int num_workers, uint64_t calls, uint64_t sum) {
  bool ok = true;
  uint32_t attached = atomic_load(&table->attached), stray = atomic_load(&table->stray);
  if (attached != (uint32_t)num_workers || stray != 0) {
    fprintf(stderr, "count mismatch: %u of %d workers attached, %u stray calls\n", attached, num_workers, stray);
    ok = false;
  }
  for (int i = 0; i < num_workers; i++) {
    const bench_slot *slot = &table->slots[i];
    uint64_t seen = atomic_load(&slot->calls), total = atomic_load(&slot->sum), bad = atomic_load(&slot->bad);
    if (seen == calls && total == sum && bad == 0) continue;
    fprintf(stderr,
            "count mismatch: slot %d of %d ran %llu of %llu calls, sum %llu of %llu, %llu with wrong arguments\n", i,
            num_workers, (unsigned long long)seen, (unsigned long long)calls, (unsigned long long)total,
            (unsigned long long)sum, (unsigned long long)bad);
    ok = false;
  }
  return ok;
}

/* Only its own worker writes a slot, so a load and a store do for an addition. The controller reads after a sync, which
 * orders both. */
static inline void add(_Atomic uint64_t *counter, uint64_t amount) {
  atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + amount, memory_order_relaxed);
}

static int attach_function(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self, (void)args, (void)num_args, (void)result;
  uint32_t index = atomic_fetch_add(&the_table->attached, 1);
  if (index < BENCH_MAX_WORKERS) my_slot = &the_table->slots[index];
  return 0;
}

static int count_function(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self, (void)result;
  bench_slot *slot = my_slot;
  if (!slot) {
    atomic_fetch_add(&the_table->stray, 1);
    return 0;
  }
  add(&slot->calls, 1);
  if (num_args > 0) {
    const TVMFFIAny *first = &args[0], *last = &args[num_args - 1];
    bool ints = first->type_index == kTVMFFIInt && last->type_index == kTVMFFIInt;
    add(ints ? &slot->sum : &slot->bad, ints ? (uint64_t)(first->v_int64 + last->v_int64) : 1);
  }
  return 0;
}

static int value_function(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  if (num_args == 1 && args[0].type_index == kTVMFFIInt) *result = args[0];
  return 0;
}

/* Sleeps in steps instead of on a futex: nobody has to be woken, so opening costs the controller one store. */
static int gate_function(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self, (void)args, (void)num_args, (void)result;
  uint32_t before = atomic_load(&the_table->gate_open);
  atomic_fetch_add(&the_table->at_gate, 1);
  while (atomic_load_explicit(&the_table->gate_open, memory_order_acquire) == before) bench_sleep_ms(2);
  return 0;
}

void bench_gate_await(bench_table *table, int num_workers) {
  while (atomic_load(&table->at_gate) < (uint32_t)num_workers) bench_sleep_ms(1);
}

void bench_gate_open(bench_table *table) {
  atomic_store(&table->at_gate, 0);
  atomic_fetch_add(&table->gate_open, 1);
}

static int register_one(const char *name, TVMFFISafeCallType function) {
  TVMFFIByteArray key = {name, strlen(name)};
  TVMFFIObjectHandle handle = NULL;
  if (TVMFFIFunctionCreate(NULL, function, NULL, &handle) != 0) return -1;
  int rc = TVMFFIFunctionSetGlobal(&key, handle, 1);
  TVMFFIObjectDecRef(handle);
  return rc;
}

int bench_workers_register(bench_table *table) {
  the_table = table;
  if (register_one("bench.disco.attach", attach_function) != 0) return -1;
  if (register_one("bench.disco.count", count_function) != 0) return -1;
  if (register_one("bench.disco.value", value_function) != 0) return -1;
  return register_one("bench.disco.gate", gate_function);
}
