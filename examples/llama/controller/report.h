/* How long things took: gathered from the workers at the end, printed as a table or as JSON. */
#ifndef LLAMA_REPORT_H
#define LLAMA_REPORT_H

#include <jansson.h>
#include <stdio.h>

#include "controller/runner.h"

enum { REPORT_MAX_WORKERS = 64 /* whose CPU is told; of more, the first ones' */ };

/* Seconds unless it says otherwise. A phase's share of the controller is its time less that of the busiest worker; what
 * a collective costs is what its last member spent in it, and what the others spent beyond that is waiting. */
typedef struct {
  int32_t workers;
  double start; /* until the first call, loading included; report_gather() takes that out */
  double load, prefill, decode;
  int64_t prompt_tokens, decoded_tokens; /* decoded: each by a call of its own */
  double control;                        /* of decode, the controller's */
  double collectives, waiting;           /* of decode; waiting: of the mean worker */
  double file_bytes, weight_bytes;       /* of all workers */
  double cpu[REPORT_MAX_WORKERS];        /* of decode, of each worker: share of the time */
} report;

/* Forget what the workers have counted: before decoding begins. */
bool report_reset(runner *on);
/* Ask the workers about decoding, which took `decode` seconds. */
bool report_gather(report *self, runner *on, double decode);

void report_print(const report *self, FILE *to);
/* An object of the caller's; NULL: no memory. */
json_t *report_json(const report *self);

#endif
