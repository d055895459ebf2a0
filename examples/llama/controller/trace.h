/* What a prompt does inside the model, as files of numpy's format (.npy, version 1.0), to compare with a reference. */
#ifndef LLAMA_TRACE_H
#define LLAMA_TRACE_H

#include "controller/runner.h"
#include "tokenizer/tokenizer.h"

/* Make the folder unless it is there. */
bool trace_prepare(const char *folder);

/* Write tokens.npy (int32), activations.npy (float32 [stage][token][element]; stages as in decoder.h) and logits.npy
 * (float32 [token][word]) into `folder`. The context is empty before and after. *ret_has_output_failed: a file could
 * not be written. */
bool trace_write(runner *on, const tokens *prompt, const char *folder, bool *ret_has_output_failed);

#endif
