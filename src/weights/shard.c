#include "weights/shard.h"

#include <string.h>

#include "base/text.h"
#include "weights/names.h"

/* ---- Cutting an axis ---- */

typedef enum {
  CUT_FITS,
  CUT_NO_RULE,
  CUT_LISTED,       /* an encoding that nobody can read */
  CUT_NO_DIMENSION, /* the axis of the rule is none of the tensor's */
  CUT_NO_UNITS,     /* the dimension is not a multiple of the step */
  CUT_UNEVEN,       /* its units do not divide by the workers */
  CUT_PARTS_SUM,
  CUT_PARTS_BLOCK, /* a part ends within a block */
  CUT_PARTS_COUNT,
} cut_fault;

/* A tensor and its rule, for a number of workers. */
typedef struct {
  const dsc_weight *weight;
  const dsc_shard_rule *rule;
  int32_t axis;      /* from the front; -1: not split */
  int64_t dimension; /* its elements */
  int64_t granule;   /* elements that are encoded together */
  int64_t step;      /* slices are multiples of it */
  int64_t parts_sum;
} cut;

static int64_t greatest_common_divisor(int64_t a, int64_t b) {
  while (b != 0) {
    int64_t rest = a % b;
    a = b, b = rest;
  }
  return a;
}

static int64_t least_common_multiple(int64_t a, int64_t b) {
  int64_t product;
  return __builtin_mul_overflow(a / greatest_common_divisor(a, b), b, &product) ? INT64_MAX : product;
}

/* What does not depend on the number of workers. */
static cut_fault cut_of(const disco_shard_plan *plan, const dsc_weight *weight, cut *ret_cut) {
  cut it = {.weight = weight, .rule = dsc_shard_plan_find(plan, weight->view.name), .axis = -1, .step = 1};
  *ret_cut = it;
  if (it.rule == NULL) return CUT_NO_RULE;
  if (it.rule->share != DSC_SHARE_SKIP && weight->view.dtype.bits == 0) return CUT_LISTED;
  if (it.rule->share != DSC_SHARE_SPLIT) return CUT_FITS;
  it.axis = it.rule->axis < 0 ? it.rule->axis + weight->view.ndim : it.rule->axis;
  if (it.axis < 0 || it.axis >= weight->view.ndim) return CUT_NO_DIMENSION;
  it.dimension = weight->view.shape[it.axis];
  it.granule = dsc_slice_granule(weight, it.axis);
  it.step = least_common_multiple(it.rule->unit, it.granule);
  for (int32_t i = 0; i < it.rule->num_parts; i++) it.parts_sum += it.rule->parts[i];
  *ret_cut = it;
  if (it.rule->num_parts == 0) return it.dimension % it.step != 0 ? CUT_NO_UNITS : CUT_FITS;
  if (it.parts_sum != it.dimension) return CUT_PARTS_SUM;
  for (int32_t i = 0; i < it.rule->num_parts; i++)
    if (it.rule->parts[i] % it.granule != 0) return CUT_PARTS_BLOCK;
  return CUT_FITS;
}

/* Whether so many workers suit it: what cut_of() found fit. */
static cut_fault cut_among(const cut *it, int32_t num_workers) {
  if (it->axis < 0) return CUT_FITS;
  if (it->rule->num_parts > 0) return it->rule->num_parts == num_workers ? CUT_FITS : CUT_PARTS_COUNT;
  if (it->rule->is_uneven || it->dimension / it->step % num_workers == 0) return CUT_FITS;
  return CUT_UNEVEN;
}

/* The slice of a worker; the cut fits. */
static void slice_for(const cut *it, int32_t num_workers, int32_t worker, int64_t *ret_first, int64_t *ret_count) {
  if (it->rule->num_parts > 0) {
    int64_t first = 0;
    for (int32_t i = 0; i < worker; i++) first += it->rule->parts[i];
    *ret_first = first, *ret_count = it->rule->parts[worker];
    return;
  }
  const int64_t units = it->dimension / it->step, each = units / num_workers, more = units % num_workers;
  *ret_first = (worker * each + (worker < more ? worker : more)) * it->step;
  *ret_count = (each + (worker < more)) * it->step;
}

/* ---- Numbers of workers ---- */

/* Which numbers of workers suit some tensors: those that divide the units of all that are split evenly, and are the
 * number of parts of all that have parts. */
typedef struct {
  int64_t units; /* their greatest common divisor; 0: any number divides them */
  int32_t parts; /* 0: none has parts; -1: not all have as many */
} worker_numbers;

/* Leave those that suit this tensor, too. */
static void narrow(worker_numbers *numbers, const cut *it) {
  const int32_t parts = it->rule->num_parts;
  if (it->axis < 0) return;
  if (parts > 0)
    numbers->parts = numbers->parts == 0 || numbers->parts == parts ? parts : -1;
  else if (!it->rule->is_uneven)
    numbers->units = greatest_common_divisor(numbers->units, it->dimension / it->step);
}

static bool suits(const worker_numbers *numbers, int32_t n) {
  return n <= DSC_PLAN_MAX_PARTS && numbers->units % n == 0 && (numbers->parts == 0 || numbers->parts == n);
}

/* "1, 2, 4 to 8", "any", or "none up to 1024". */
static void tell_numbers(const worker_numbers *numbers, dsc_text *text) {
  int32_t count = 0;
  for (int32_t n = 1; n <= DSC_PLAN_MAX_PARTS; n++) {
    if (!suits(numbers, n)) continue;
    int32_t last = n;
    while (suits(numbers, last + 1)) last++;
    if (n == 1 && last == DSC_PLAN_MAX_PARTS) {
      dsc_text_add(text, "any");
      return;
    }
    if (last < n + 2) last = n; /* two in a row are shorter as two */
    dsc_text_add(text, count++ == 0 ? "%d" : ", %d", n);
    if (last > n) dsc_text_add(text, " to %d", last);
    n = last;
  }
  if (count == 0) dsc_text_add(text, "none up to %d", DSC_PLAN_MAX_PARTS);
}

/* ---- Complaints ---- */

static void name_tensor(const disco_weights *weights, const dsc_weight *weight, dsc_text *text) {
  uint64_t bytes;
  char print[DSC_NAME_PRINT_BYTES];
  dsc_text_add(text, "tensor %s [", dsc_name_print(weight->view.name, print));
  for (int32_t i = 0; i < weight->view.ndim; i++)
    dsc_text_add(text, i == 0 ? "%lld" : ", %lld", (long long)weight->view.shape[i]);
  dsc_text_add(text, "] of %s: ", dsc_model_file(weights, weight->file, &bytes));
}

static void name_rule(const disco_shard_plan *plan, const dsc_shard_rule *rule, dsc_text *text) {
  char print[DSC_NAME_PRINT_BYTES];
  dsc_text_add(text, "rule %d (%s) of %s", rule->number, dsc_name_print(rule->pattern, print), plan->what);
}

static void say_units(const cut *it, dsc_text *text) {
  const disco_weights_tensor *view = &it->weight->view;
  dsc_text_add(text, "dimension %d has %lld elements, ", it->axis, (long long)it->dimension);
  if (it->granule > 1 && it->rule->unit > 1)
    dsc_text_add(text, "not a multiple of %lld (unit %lld, blocks of %lld of encoding %s)", (long long)it->step,
                 (long long)it->rule->unit, (long long)it->granule, view->encoding);
  else if (it->granule > 1)
    dsc_text_add(text, "not a multiple of the blocks of %lld of encoding %s", (long long)it->granule, view->encoding);
  else
    dsc_text_add(text, "not a multiple of the unit %lld", (long long)it->rule->unit);
  dsc_text_add(text, ", so no number of workers suits it");
}

static void say_uneven(const cut *it, int32_t num_workers, dsc_text *text) {
  worker_numbers numbers = {0};
  narrow(&numbers, it);
  dsc_text_add(text, "dimension %d has %lld elements", it->axis, (long long)it->dimension);
  if (it->step > 1)
    dsc_text_add(text, ", %lld units of %lld,", (long long)(it->dimension / it->step), (long long)it->step);
  dsc_text_add(text, " which do not divide by %d workers; numbers of workers that suit it: ", num_workers);
  tell_numbers(&numbers, text);
  dsc_text_add(text, "; or let the rule say \"uneven\": true");
}

static void say_parts(const cut *it, cut_fault fault, int32_t num_workers, dsc_text *text) {
  const dsc_shard_rule *rule = it->rule;
  if (fault == CUT_PARTS_SUM)
    dsc_text_add(text, "the %d parts are %lld elements together, but dimension %d has %lld", rule->num_parts,
                 (long long)it->parts_sum, it->axis, (long long)it->dimension);
  else if (fault == CUT_PARTS_COUNT)
    dsc_text_add(text, "there are %d parts and %d workers; the number of workers that suits it: %d", rule->num_parts,
                 num_workers, rule->num_parts);
  else
    for (int32_t i = 0; i < rule->num_parts; i++) {
      if (rule->parts[i] % it->granule == 0) continue;
      dsc_text_add(text, "part %d has %lld elements, not a multiple of the blocks of %lld of encoding %s", i + 1,
                   (long long)rule->parts[i], (long long)it->granule, it->weight->view.encoding);
      return;
    }
}

/* The sentence about a cut that does not fit, as this thread's error. */
static disco_status complain(const disco_weights *weights, const disco_shard_plan *plan, const cut *it, cut_fault fault,
                             int32_t num_workers) {
  dsc_text text = DSC_TEXT_INIT;
  name_tensor(weights, it->weight, &text);
  switch (fault) {
  case CUT_FITS: break;
  case CUT_NO_RULE:
    dsc_text_add(&text, "no rule of %s matches it; add one, or as the last {\"match\": \"*\", \"replicate\": true}",
                 plan->what);
    break;
  case CUT_LISTED:
    dsc_text_add(&text, "encoding %s can be listed, not read; a rule with \"skip\": true leaves it out",
                 it->weight->view.encoding);
    break;
  case CUT_NO_DIMENSION:
    if (it->weight->view.ndim == 0)
      dsc_text_add(&text, "it has no dimensions to split, only to replicate");
    else
      dsc_text_add(&text, "there is no dimension %d, it has %d", it->rule->axis, it->weight->view.ndim);
    break;
  case CUT_NO_UNITS: say_units(it, &text); break;
  case CUT_UNEVEN: say_uneven(it, num_workers, &text); break;
  case CUT_PARTS_SUM:
  case CUT_PARTS_BLOCK:
  case CUT_PARTS_COUNT: say_parts(it, fault, num_workers, &text); break;
  }
  if (it->rule != NULL) {
    dsc_text_add(&text, "; ");
    name_rule(plan, it->rule, &text);
  }
  disco_status status =
      text.data != NULL ? dsc_fail(DISCO_VALUE, "%s", text.data) : dsc_fail(DISCO_MEMORY, "no memory for a sentence");
  dsc_text_fini(&text);
  return status;
}

/* Put the tensor in front of this thread's error. */
static disco_status about(const disco_weights *weights, const dsc_weight *weight, disco_status status) {
  const dsc_error *error = dsc_thread_error();
  dsc_text text = DSC_TEXT_INIT;
  name_tensor(weights, weight, &text);
  if (text.data != NULL && error != NULL && error->message != NULL)
    status = dsc_fail(status, "%s%s", text.data, error->message);
  dsc_text_fini(&text);
  return status;
}

/* ---- Shards ---- */

static disco_status check_workers(int32_t num_workers, int32_t worker) {
  if (num_workers < 1) return dsc_fail(DISCO_VALUE, "a model is sharded over at least 1 worker, not %d", num_workers);
  if (worker < 0 || worker >= num_workers)
    return dsc_fail(DISCO_VALUE, "there is no worker %d of %d", worker, num_workers);
  return DISCO_OK;
}

/* The shard of a tensor whose cut was found to be `fault`. */
static disco_status shard_of(const disco_weights *weights, const disco_shard_plan *plan, const cut *it, cut_fault fault,
                             int32_t num_workers, int32_t worker, disco_shard *ret_shard) {
  int64_t first = 0, count = 0;
  if (fault == CUT_FITS) fault = cut_among(it, num_workers);
  if (fault != CUT_FITS) return complain(weights, plan, it, fault, num_workers);
  if (it->rule->share == DSC_SHARE_SKIP) {
    *ret_shard = (disco_shard){.is_skipped = true};
    return DISCO_OK;
  }
  if (it->axis >= 0) slice_for(it, num_workers, worker, &first, &count);
  disco_status status = dsc_slice_of(it->weight, it->rule->is_decoded, it->axis, first, count, ret_shard, NULL);
  return status == DISCO_OK ? DISCO_OK : about(weights, it->weight, status);
}

disco_status dsc_shard_of(const disco_weights *weights, const disco_shard_plan *plan, int64_t tensor,
                          int32_t num_workers, int32_t worker, disco_shard *ret_shard) {
  disco_status status = check_workers(num_workers, worker);
  if (status != DISCO_OK) return status;
  const dsc_weight *weight = dsc_model_weight(weights, tensor);
  if (weight == NULL) return dsc_fail(DISCO_VALUE, "there is no tensor %lld in the model", (long long)tensor);
  cut it;
  disco_shard shard;
  const cut_fault fault = cut_of(plan, weight, &it);
  if ((status = shard_of(weights, plan, &it, fault, num_workers, worker, &shard)) != DISCO_OK) return status;
  shard.tensor = tensor;
  *ret_shard = shard;
  return DISCO_OK;
}

/* Who gets most; what can be too much is too much for this one first. */
static int32_t largest_worker(const cut *it, int32_t num_workers) {
  int32_t largest = 0;
  if (it->rule == NULL || it->rule->num_parts != num_workers) return 0; /* the first ones get one unit more */
  for (int32_t i = 1; i < num_workers; i++)
    if (it->rule->parts[i] > it->rule->parts[largest]) largest = i;
  return largest;
}

disco_status dsc_shard_check(const disco_weights *weights, const disco_shard_plan *plan, int32_t num_workers) {
  int64_t complaints = 0, hopeless = 0, tensor = 0; /* hopeless: for any number of workers */
  worker_numbers numbers = {0};
  dsc_text text = DSC_TEXT_INIT;
  disco_status status = check_workers(num_workers, 0), first = DISCO_OK;
  if (status != DISCO_OK) return status;
  for (const dsc_weight *weight; (weight = dsc_model_weight(weights, tensor)) != NULL; tensor++) {
    cut it;
    disco_shard shard;
    const cut_fault fault = cut_of(plan, weight, &it);
    const bool divides = fault == CUT_FITS && cut_among(&it, num_workers) == CUT_FITS;
    if (fault == CUT_FITS) narrow(&numbers, &it);
    status = shard_of(weights, plan, &it, fault, num_workers, largest_worker(&it, num_workers), &shard);
    if (status == DISCO_OK) continue;
    if (fault != CUT_FITS || divides) hopeless++;
    if (complaints++ > 0) continue;
    first = status;
    const dsc_error *error = dsc_thread_error();
    if (error != NULL && error->message != NULL) dsc_text_add(&text, "%s", error->message);
  }
  if (complaints == 0) return DISCO_OK;
  dsc_text_add(&text, "; %lld of %lld tensors %s not fit", (long long)complaints, (long long)tensor,
               complaints == 1 ? "does" : "do");
  if (hopeless > 0) dsc_text_add(&text, ", %lld of them whatever the number of workers", (long long)hopeless);
  if (hopeless < tensor) {
    dsc_text_add(&text, "; numbers of workers that suit %s: ", hopeless > 0 ? "the others" : "all");
    tell_numbers(&numbers, &text);
  }
  first = text.data != NULL ? dsc_fail(first, "%s", text.data) : dsc_fail(DISCO_MEMORY, "no memory for a sentence");
  dsc_text_fini(&text);
  return first;
}
