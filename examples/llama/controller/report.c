#include "controller/report.h"

#include "disco/value.h"

bool report_reset(runner *on) {
  if (!runner_ask(on, RUN_FIGURES, NULL, 0)) return false;
  runner_drop(on);
  if (!runner_ask(on, RUN_COLLECTIVES, NULL, 0)) return false;
  runner_drop(on);
  return true;
}

static void read_figures(report *self, const runner *on, double decode) {
  double busiest = 0;
  self->file_bytes = self->weight_bytes = self->load = 0;
  for (int32_t i = 0; i < on->workers; i++) {
    const double *figures = disco_value_tensor(&on->answers[i])->data;
    if (figures[FIGURE_BUSY] > busiest) busiest = figures[FIGURE_BUSY];
    if (i < REPORT_MAX_WORKERS && decode > 0) self->cpu[i] = figures[FIGURE_CPU] / decode;
    if (figures[FIGURE_LOAD] > self->load) self->load = figures[FIGURE_LOAD];
    self->file_bytes += figures[FIGURE_FILE_BYTES];
    self->weight_bytes += figures[FIGURE_WEIGHTS];
  }
  self->control = self->decoded_tokens > 0 ? decode - busiest : 0;
  self->start -= self->load;
}

static void read_collectives(report *self, const runner *on) {
  int64_t count = INT64_MAX;
  double all = 0;
  for (int32_t i = 0; i < on->workers; i++) {
    const int64_t have = disco_value_tensor(&on->answers[i])->shape[0];
    if (have < count) count = have;
  }
  self->collectives = 0;
  for (int64_t k = 0; k < count; k++) {
    float least = 0;
    for (int32_t i = 0; i < on->workers; i++) {
      const float seconds = ((const float *)disco_value_tensor(&on->answers[i])->data)[k];
      if (i == 0 || seconds < least) least = seconds;
      all += (double)seconds;
    }
    self->collectives += (double)least;
  }
  self->waiting = all / on->workers - self->collectives;
}

bool report_gather(report *self, runner *on, double decode) {
  self->workers = on->workers;
  self->decode = decode;
  if (!runner_ask(on, RUN_FIGURES, NULL, 0)) return false;
  read_figures(self, on, decode);
  runner_drop(on);
  if (!runner_ask(on, RUN_COLLECTIVES, NULL, 0)) return false;
  read_collectives(self, on);
  runner_drop(on);
  return true;
}

static double ratio(double a, double b) { return b > 0 ? a / b : 0; }

void report_print(const report *self, FILE *to) {
  const double tokens = (double)self->decoded_tokens;
  fprintf(to, "start        %8.3f s   %d workers\n", self->start, self->workers);
  fprintf(to, "load         %8.3f s   %.1f MB of the file at %.0f MB/s, %.1f MB of weights in memory\n", self->load,
          self->file_bytes * 1e-6, ratio(self->file_bytes * 1e-6, self->load), self->weight_bytes * 1e-6);
  fprintf(to, "prefill      %8.3f s   %lld tokens, %.1f tokens/s\n", self->prefill, (long long)self->prompt_tokens,
          ratio((double)self->prompt_tokens, self->prefill));
  fprintf(to, "decode       %8.3f s   %lld tokens, %.1f tokens/s\n", self->decode, (long long)self->decoded_tokens,
          ratio(tokens, self->decode));
  fprintf(to, "of a token   %8.3f ms\n", 1e3 * ratio(self->decode, tokens));
  fprintf(to, "  control    %8.3f ms  %.1f %%\n", 1e3 * ratio(self->control, tokens),
          100 * ratio(self->control, self->decode));
  fprintf(to, "  collectives%8.3f ms  %.1f %%\n", 1e3 * ratio(self->collectives, tokens),
          100 * ratio(self->collectives, self->decode));
  fprintf(to, "  waiting    %8.3f ms  %.1f %% for the slowest worker, on average\n", 1e3 * ratio(self->waiting, tokens),
          100 * ratio(self->waiting, self->decode));
  fprintf(to, "CPU         ");
  for (int32_t i = 0; i < self->workers && i < REPORT_MAX_WORKERS; i++)
    fprintf(to, "%s worker %d %.0f %%", i == 0 ? "" : ",", i, 100 * self->cpu[i]);
  fprintf(to, "\n");
}

json_t *report_json(const report *self) {
  json_t *cpu = json_array();
  for (int32_t i = 0; i < self->workers && i < REPORT_MAX_WORKERS; i++)
    json_array_append_new(cpu, json_real(self->cpu[i]));
  return json_pack("{s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:o}", "start_s", self->start, "load_s",
                   self->load, "load_bytes_per_s", ratio(self->file_bytes, self->load), "prefill_s", self->prefill,
                   "prefill_tokens_per_s", ratio((double)self->prompt_tokens, self->prefill), "decode_s", self->decode,
                   "decode_tokens_per_s", ratio((double)self->decoded_tokens, self->decode), "control_share",
                   ratio(self->control, self->decode), "collective_share", ratio(self->collectives, self->decode),
                   "waiting_share", ratio(self->waiting, self->decode), "cpu", cpu);
}
