/* The worker side of the control-plane benchmark: the functions that run on every worker, and the table in which they
 * count.
 *
 * The table lies in shared memory, so that worker processes count in it too. Each worker takes one slot when it runs
 * bench.disco.attach; after that a call costs it one thread-local load and two stores to lines of its own.
 *
 *   bench.disco.attach()      take a slot
 *   bench.disco.count(...)    count the call; with arguments, also add the first and the last one (Ints) to the slot's
 * sum bench.disco.value(x)      x: what a register is filled with bench.disco.gate()        wait until the controller
 * opens the gate
 */
#ifndef BENCH_WORKERS_H
#define BENCH_WORKERS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum { BENCH_MAX_WORKERS = 1024 };

typedef struct {
  _Alignas(128) _Atomic uint64_t calls;
  _Atomic uint64_t sum;
  _Atomic uint64_t bad; /* calls whose arguments were not what the controller sent */
} bench_slot;

typedef struct {
  _Atomic uint32_t attached;  /* workers that took a slot */
  _Atomic uint32_t at_gate;   /* workers that have reached the gate */
  _Atomic uint32_t gate_open; /* how often it was opened */
  _Atomic uint32_t stray;     /* calls on a thread without a slot */
  bench_slot slots[BENCH_MAX_WORKERS];
} bench_table;

/* The table in a new shared memory file (descriptor in *ret_fd), or the one behind a descriptor that was inherited.
 * NULL: errno says why. */
bench_table *bench_table_create(int *ret_fd);
bench_table *bench_table_map(int fd);

/* Forget everything: between two sessions, when no worker runs. */
void bench_table_reset(bench_table *table);

/* Did every call run on every worker exactly once, with the right arguments? All workers must have been synchronised.
 * Says on stderr what did not. */
bool bench_table_check(const bench_table *table, int num_workers, uint64_t calls, uint64_t sum);

/* Register the functions above, for this table. 0, or -1 with a TVM-FFI error raised. */
int bench_workers_register(bench_table *table);

/* The gate, seen from the controller: wait until num_workers stand at it; let them through. */
void bench_gate_await(bench_table *table, int num_workers);
void bench_gate_open(bench_table *table);

#endif
