/* GGUF: one file, and models of several. Any thread; one at a time per model. */
#ifndef DSC_WEIGHTS_GGUF_H
#define DSC_WEIGHTS_GGUF_H

#include "weights/model.h"

/* What a file says of the model that it is a part of. */
typedef struct {
  int64_t number, count; /* split.no, from 0, and split.count; number -1, count 0 where there is none */
  int64_t tensors;       /* split.tensors.count: of all parts; -1 where there is none */
  uint64_t alignment;    /* of its tensors' bytes */
} dsc_gguf_part;

/* Add tensors and metadata of one file, which has index `file` in the model. `first`: what the first file of the model
 * said; its metadata stand in the model and stay. NULL: this is the first. DISCO_VALUE that names the file, the range
 * of its header and the rule broken, DISCO_MEMORY, or what the source says. */
disco_status dsc_gguf_read_part(const dsc_source *source, int32_t file, const dsc_gguf_part *first,
                                disco_weights *model, dsc_gguf_part *ret_part);

/* Whether a file is called as a part of a model is: "...-00002-of-00003.gguf", in a folder or not. *ret_number counts
 * from 0; *ret_stem is the length of what stands before. */
bool dsc_gguf_is_part_name(const char *name, int64_t *ret_number, int64_t *ret_count, size_t *ret_stem);

#endif
