/* The one table of limits on what a command may carry. (A string's limit is DSC_STRING_MAX in ffi/value.h, beside the
 * copy it protects.) */
#ifndef DSC_WIRE_LIMITS_H
#define DSC_WIRE_LIMITS_H

enum {
  DSC_MAX_WORKERS = 1024,
  DSC_MAX_ARGUMENTS = 4096,       /* of one call */
  DSC_MAX_NAME_BYTES = 4096,      /* of a global function */
  DSC_MAX_RELEASES = 1024,        /* register ids carried by one record; more wait for the next */
  DSC_MIN_RING_BYTES = 256 << 10, /* twice the largest record, so that one always fits beside its padding */
  DSC_MAX_RING_BYTES = 1 << 30,
  DSC_ERROR_SLOT_BYTES = 16 << 10, /* kind, message and backtrace of a failure; longer ones are cut with a mark */
  DSC_REPLY_RING_BYTES = 4 << 10,
  DSC_SIDE_THRESHOLD = 64 << 10,    /* data of a string or tensor from which on it gets memory of its own */
  DSC_REPLY_INLINE_BYTES = 1 << 10, /* packed replies up to here stand in the reply ring */
  DSC_MAX_SIDE_FILES = 64,          /* of a session at once; a call that needs one more waits for the oldest */
};

#endif
