/* A file as a source of bytes to parse. One thread at a time. */
#ifndef DSC_WEIGHTS_SOURCE_H
#define DSC_WEIGHTS_SOURCE_H

#include "os/file.h"
#include "weights/model.h"

typedef struct {
  dsc_source source; /* points into this struct: it must not move */
  dsc_file file;
} dsc_file_source;

/* Errors of dsc_file_open(). The path must outlive it. */
disco_status dsc_file_source_open(const char *path, dsc_file_source *ret_source);
void dsc_file_source_close(dsc_file_source *self);

#endif
