/* GGUF models of several files, as llama.cpp's gguf-split and gguf's GGUFWriter write them: model-00001-of-00003.gguf
 * has the metadata and says split.count; each says its number (split.no, from 0) and has some of the tensors. */
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "weights/gguf.h"
#include "weights/names.h"
#include "weights/source.h"

/* ---- Names ---- */

enum { DIGITS = 5 };
static const char of[] = "-of-", ending[] = ".gguf";
enum { TAIL = 1 + DIGITS + (sizeof(of) - 1) + DIGITS + (sizeof(ending) - 1) };

static bool number_of(const char *digits, int64_t *ret_number) {
  int64_t number = 0;
  for (int i = 0; i < DIGITS; i++) {
    if (digits[i] < '0' || digits[i] > '9') return false;
    number = 10 * number + (digits[i] - '0');
  }
  *ret_number = number;
  return true;
}

bool dsc_gguf_is_part_name(const char *name, int64_t *ret_number, int64_t *ret_count, size_t *ret_stem) {
  const size_t length = strlen(name);
  if (length < TAIL) return false;
  const char *tail = name + length - TAIL, *count = tail + 1 + DIGITS + sizeof(of) - 1;
  int64_t number, all;
  if (tail[0] != '-' || !number_of(tail + 1, &number) || memcmp(tail + 1 + DIGITS, of, sizeof(of) - 1) != 0 ||
      !number_of(count, &all) || strcmp(count + DIGITS, ending) != 0 || number < 1 || number > all)
    return false;
  *ret_number = number - 1;
  *ret_count = all;
  *ret_stem = length - TAIL;
  return true;
}

/* Part `number` of the model that the file at `path` belongs to. */
static void name_part(dsc_text *text, const char *path, size_t stem, int64_t number, int64_t count) {
  dsc_text_add(text, "%.*s-%0*lld%s%0*lld%s", (int)stem, path, DIGITS, (long long)number + 1, of, DIGITS,
               (long long)count, ending);
}

/* ---- The first ---- */

static disco_status refuse_later_part(const char *path, const dsc_gguf_part *part) {
  dsc_text first = DSC_TEXT_INIT;
  int64_t number, count;
  size_t stem;
  if (dsc_gguf_is_part_name(path, &number, &count, &stem))
    name_part(&first, path, stem, 0, count);
  else
    dsc_text_add(&first, "the one whose name ends in -00001-of-%0*lld%s", DIGITS, (long long)part->count, ending);
  disco_status status =
      dsc_fail(DISCO_VALUE, "%s is part %lld of %lld of a model: open the first, %s", path, (long long)part->number + 1,
               (long long)part->count, first.data != NULL ? first.data : "number 00001");
  dsc_text_fini(&first);
  return status;
}

/* It says that there are more: is it the first, and is it called so that the others can be found? */
static disco_status check_first(const char *path, const dsc_gguf_part *part, size_t *ret_stem) {
  int64_t number, count;
  if (part->count > DSC_WEIGHTS_MAX_FILES)
    return dsc_fail(DISCO_VALUE, "%s: split.count is %lld; the limit is %d files", path, (long long)part->count,
                    DSC_WEIGHTS_MAX_FILES);
  if (part->number < 0 || part->number >= part->count)
    return dsc_fail(DISCO_VALUE, "%s: split.count is %lld, and split.no %lld; it must be from 0 to %lld", path,
                    (long long)part->count, (long long)part->number, (long long)part->count - 1);
  if (part->number > 0) return refuse_later_part(path, part);
  if (dsc_gguf_is_part_name(path, &number, &count, ret_stem) && number == 0 && count == part->count) return DISCO_OK;
  return dsc_fail(DISCO_VALUE,
                  "%s is the first of %lld files of a model, so its name must end in -00001-of-%0*lld%s: the others "
                  "are found by it",
                  path, (long long)part->count, DIGITS, (long long)part->count, ending);
}

/* ---- The others ---- */

static disco_status read_later_part(const char *path, const dsc_gguf_part *first, int64_t number, int32_t file,
                                    disco_weights *model) {
  dsc_file_source source;
  dsc_gguf_part part;
  disco_status status = dsc_file_source_open(dsc_model_file(model, file, NULL), &source);
  if (status != DISCO_OK) return status;
  status = dsc_gguf_read_part(&source.source, file, first, model, &part);
  if (status == DISCO_OK && (part.number != number || part.count != first->count))
    status = dsc_fail(
        DISCO_VALUE, "%s says split.no %lld, split.count %lld; part %lld of %s must say %lld and %lld: was it renamed?",
        source.source.path, (long long)part.number, (long long)part.count, (long long)number + 1, path,
        (long long)number, (long long)first->count);
  dsc_file_source_close(&source);
  return status;
}

static disco_status add_later_part(const char *path, size_t stem, const dsc_gguf_part *first, int64_t number,
                                   disco_weights *model) {
  const char *slash = strrchr(path, '/'), *called = slash != NULL ? slash + 1 : path;
  dsc_text name = DSC_TEXT_INIT;
  int32_t file;
  name_part(&name, called, stem - (size_t)(called - path), number, first->count);
  disco_status status = name.data != NULL ? dsc_model_add_sibling(model, path, name.data, &file)
                                          : dsc_fail(DISCO_MEMORY, "no memory for the name of a part of %s", path);
  dsc_text_fini(&name);
  return status == DISCO_OK ? read_later_part(path, first, number, file, model) : status;
}

disco_status dsc_gguf_read(const dsc_source *source, int32_t file, disco_weights *model) {
  dsc_gguf_part first;
  size_t stem = 0;
  disco_status status = dsc_gguf_read_part(source, file, NULL, model, &first);
  if (status != DISCO_OK || first.count <= 1) return status;
  status = check_first(source->path, &first, &stem);
  for (int64_t i = 1; status == DISCO_OK && i < first.count; i++)
    status = add_later_part(source->path, stem, &first, i, model);
  if (status != DISCO_OK || first.tensors < 0 || dsc_model_count(model) == first.tensors) return status;
  return dsc_fail(DISCO_VALUE, "%s says that its %lld files have %lld tensors (split.tensors.count); they have %lld",
                  source->path, (long long)first.count, (long long)first.tensors, (long long)dsc_model_count(model));
}
