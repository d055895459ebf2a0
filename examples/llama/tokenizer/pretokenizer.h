/* Cuts text into words before pairs are merged: the regular expressions of a pre-tokeniser, which model files only
 * name.
 *
 * The expressions are applied one after the other, each to the pieces that the one before left: what matches is a
 * piece, and so is what lies between two matches. A piece is looked at for itself, as if nothing stood before or behind
 * it. */
#ifndef LLAMA_PRETOKENIZER_H
#define LLAMA_PRETOKENIZER_H

#include <stdbool.h>
#include <stddef.h>

#include "common/failure.h"

typedef struct pretokenizer pretokenizer;

/* NULL: no pre-tokeniser has that name (the sentence lists those that have one), or no memory. Does not change
 * afterwards: any thread, several at once. */
pretokenizer *pretokenizer_create(const char *name);
void pretokenizer_destroy(pretokenizer *self); /* NULL allowed */

/* A word that is in the vocabulary as a whole is that token, whatever the merges would make of it. */
bool pretokenizer_prefers_whole_words(const pretokenizer *self);

/* Takes one word; false, with the reason, ends the splitting. */
typedef bool (*pretokenizer_sink)(void *context, const char *word, size_t bytes);

/* Give `sink` the words of `text` in order; one behind the other they are the text. `text` must be UTF-8. Takes time in
 * proportion to the text, whatever is in it. */
bool pretokenizer_split(const pretokenizer *self, const char *text, size_t bytes, pretokenizer_sink sink,
                        void *context);

#endif
