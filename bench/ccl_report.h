/* One line per round for programs, tables for people. */
#ifndef BENCH_CCL_REPORT_H
#define BENCH_CCL_REPORT_H

#include <stdio.h>

#include "ccl_table.h"
#include "probe.h"

/* The CPUs share a cache (near) when a flag's round trip takes up to near_ns, and do not (far) from far_ns on; in
 * between, or when it changed during the round, a round is in neither table. */
typedef enum { CCL_NEAR, CCL_FAR, CCL_BETWEEN, CCL_NUM_REGIMES } ccl_regime;

/* One round of one case. Times are costs to the application per operation: what writing and reading take alone is
 * subtracted. */
typedef struct {
  int case_id;
  int round;
  double pingpong_ns[2];
  double us[CCL_NUM_WINDOWS]; /* of IDLE and COPY_IDLE: not subtracted from */
  uint64_t wrong;             /* bytes, summed over ranks and windows */
  ccl_regime regime;
  bool quiet; /* nobody was sent off a CPU; always, where ranks have none of their own */
} ccl_record;

typedef struct {
  ccl_op op;
  ccl_dtype dtype;
  bool in_place;
  size_t bytes;
} ccl_case;

/* What all records of a run have in common. */
typedef struct {
  const char *peer;    /* a name; "": none */
  const char *tensors; /* "private" or "shared" */
  const char *mode;    /* "processes" or "threads" */
  int num_ranks;
  double near_ns, far_ns; /* see ccl_regime */
} ccl_setup;

const char *ccl_op_name(ccl_op op);
const char *ccl_dtype_name(ccl_dtype dtype);

/* Costs from what the ranks have measured. */
void ccl_record_make(const ccl_setup *setup, const ccl_table *table, ccl_record *ret_record);

void ccl_print_json(const ccl_setup *setup, const ccl_case *c, const ccl_record *record);
/* Sorts the records. */
void ccl_print_tables(const ccl_setup *setup, const ccl_case *cases, int num_cases, ccl_record *records,
                      size_t num_records);

#endif
