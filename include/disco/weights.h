/* Weights of models: what is in a file, who gets which part of it, and reading that part straight into memory.
 *
 *   disco_weights      an open model: its tensors and metadata, without their bytes
 *   disco_shard_plan   rules: name pattern -> along which axis, or a copy for everybody
 *   disco_shard        what one worker gets of one tensor; disco_shard_read() reads just those bytes
 *
 * Formats, told by content: safetensors and its index (`*.safetensors.index.json`), GGUF version 2 and 3, TVM's
 * `tensor-cache.json` (`ndarray-cache.json`). A folder is opened by what lies in it. A GGUF model that is split into
 * several files (`-00001-of-00003.gguf`, as gguf-split names them) is opened as a whole by its first one. Files are not
 * trusted: sizes, counts, offsets and overlaps are checked before anything is allocated or read, and a file that is cut
 * while it is read is an error, not a signal.
 *
 * An open model and a plan do not change: any thread, several at once. Shapes are row-major: the last dimension is the
 * one whose elements lie side by side (GGUF files say it the other way round). */
#ifndef DISCO_WEIGHTS_H
#define DISCO_WEIGHTS_H

#include <dlpack/dlpack.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "disco/status.h"

struct disco_session;
struct disco_dref;

#ifdef __cplusplus
extern "C" {
#endif

enum { DISCO_WEIGHTS_MAX_NDIM = 8 };

typedef struct disco_weights disco_weights;

/* One tensor of a file. Strings and shape live as long as the model. */
typedef struct {
  const char *name;
  const char *encoding; /* as the format spells it: "F32", "BF16", "Q4_1", "f32-to-bf16", ... */
  DLDataType dtype;     /* of an element when it is read decoded; bits 0: it cannot be
                           read, only listed */
  int32_t ndim;
  const int64_t *shape;    /* in elements */
  const char *file;        /* path of the file with its bytes */
  uint64_t offset, bytes;  /* where they lie in it */
  int32_t block_elements;  /* 1, or elements of the last dimension that are encoded together */
  int32_t block_bytes;     /* what such a block takes in the file */
  bool is_block_quantised; /* read as blocks (uint8) or decoded to float32 */
} disco_weights_tensor;

/* Open `path`: a file of one of the formats, or a folder with one of them. Nothing but headers is read. DISCO_VALUE for
 * a file that is none of these or breaks its format (the sentence names file, tensor, byte range and the rule broken),
 * DISCO_RUNTIME when it cannot be opened or read, DISCO_MEMORY. Close it with disco_weights_close(). */
DISCO_API DISCO_MUST_USE disco_status disco_weights_open(const char *path, disco_weights **ret_weights);
DISCO_API void disco_weights_close(disco_weights *weights); /* NULL allowed */

/* "safetensors", "gguf" or "tensor-cache". */
DISCO_API const char *disco_weights_format(const disco_weights *weights);
DISCO_API int64_t disco_weights_num_tensors(const disco_weights *weights);
/* In file order. NULL for an index that there is not. */
DISCO_API const disco_weights_tensor *disco_weights_tensor_at(const disco_weights *weights, int64_t index);
/* The index of the tensor of that name, -1 when there is none. */
DISCO_API int64_t disco_weights_find(const disco_weights *weights, const char *name);

/* Metadata in file order: names, and values as JSON text ("\"llama\"", "64", "[1, 2]"). False when there is no such
 * index. The strings live as long as the model. Of GGUF: bytes of a string that are not UTF-8 appear as U+FFFD; floats
 * have as many digits as give the same number again (of a float32 as float32), and those that are not finite are the
 * strings "NaN", "Infinity" and "-Infinity". */
DISCO_API int64_t disco_weights_num_metadata(const disco_weights *weights);
DISCO_API bool disco_weights_metadata_at(const disco_weights *weights, int64_t index, const char **ret_key,
                                         const char **ret_json);
/* The value of that name as JSON text, NULL when there is none. */
DISCO_API const char *disco_weights_metadata(const disco_weights *weights, const char *key);

/* ---- Who gets what ---- */

/* A plan is JSON, a list of rules; the first whose pattern matches a tensor's name decides. `*` stands for any
 * characters, `?` for one, `[...]` for one of some:
 *
 *   {"rules": [
 *     {"match": "*.attn_q.weight", "axis": 0, "unit": 64},
 *     {"match": "*.ffn_down.weight", "axis": 1, "uneven": true},
 *     {"match": "rope_freqs", "skip": true},
 *     {"match": "*", "replicate": true, "decode": true}]}
 *
 *   axis       split along this dimension, negative: from the end; worker w gets the w-th slice
 *   unit       slices are multiples of so many elements of the axis (default 1; along the last axis of a quantised
 *              tensor always a multiple of its block)
 *   uneven     when the units do not divide by the workers, the first ones get one more (default: an error)
 *   parts      instead of both: the elements of each worker's slice, e.g. [384, 192]; then the plan is for so many
 *   replicate  everybody gets the whole tensor
 *   skip       nobody gets it
 *   decode     true: as float32 what is quantised, f16, bf16 or f32-to-bf16 (default: as it is stored, quantised
 *              tensors as uint8 blocks whose last dimension counts bytes; f32-to-bf16 as float32)
 *
 * Exactly one of axis, replicate and skip. A tensor without a rule is an error that names it. */
typedef struct disco_shard_plan disco_shard_plan;

/* DISCO_VALUE with the rule and the word that is wrong. */
DISCO_API DISCO_MUST_USE disco_status disco_shard_plan_parse(const char *json, size_t bytes,
                                                             disco_shard_plan **ret_plan);
DISCO_API DISCO_MUST_USE disco_status disco_shard_plan_open(const char *path, disco_shard_plan **ret_plan);
DISCO_API void disco_shard_plan_destroy(disco_shard_plan *plan); /* NULL allowed */

/* What one worker gets of one tensor. */
typedef struct {
  int64_t tensor;  /* its index in the model */
  bool is_skipped; /* nobody gets it; the rest is zero */
  bool is_decoded;
  int32_t axis;         /* -1: replicated */
  int64_t first, count; /* the slice of the axis, in elements; 0 and the dimension when replicated */
  DLDataType dtype;     /* of the result */
  int32_t ndim;
  int64_t shape[DISCO_WEIGHTS_MAX_NDIM]; /* of the result */
  uint64_t bytes;                        /* of the result */
  uint64_t file_bytes;                   /* read for it */
} disco_shard;

/* DISCO_VALUE when the tensor has no rule, cannot be read, or its axis does not divide: the sentence says which
 * numbers of workers would. */
DISCO_API DISCO_MUST_USE disco_status disco_shard_of(const disco_weights *weights, const disco_shard_plan *plan,
                                                     int64_t tensor, int32_t num_workers, int32_t worker,
                                                     disco_shard *ret_shard);

/* All tensors and workers, before a byte is read: the first complaint of disco_shard_of(), followed by how many tensors
 * have one and which numbers of workers (up to 1024) suit all of them. */
DISCO_API DISCO_MUST_USE disco_status disco_shard_check(const disco_weights *weights, const disco_shard_plan *plan,
                                                        int32_t num_workers);

/* ---- Reading ---- */

/* How far a reading is; called on the reading thread, at most every 4 MiB and at the end of each tensor. False ends
 * the reading with DISCO_INTERRUPTED. */
typedef bool (*disco_weights_progress)(void *context, uint64_t bytes_read);

/* Read a shard into `shard->bytes` bytes at `memory`, aligned for its dtype, and nothing else of the file; beside it at
 * most 256 KiB are taken, where it is decoded. A skipped shard reads nothing. Blocks: one system call for each run of
 * bytes that lie side by side in the file, so a slice of the last axis costs one per row, about half a microsecond;
 * rows of a few bytes are slow. DISCO_VALUE: the file has another size than when the model was opened (one of the same
 * size is not noticed), or `shard` is none of this model; DISCO_RUNTIME: it cannot be read; DISCO_MEMORY;
 * DISCO_INTERRUPTED: `progress` (may be NULL) said so. The memory is undefined then. */
DISCO_API DISCO_MUST_USE disco_status disco_shard_read(const disco_weights *weights, const disco_shard *shard,
                                                       disco_weights_progress progress, void *context, void *memory);

/* ---- On the workers of a session ---- */

/* How far a loading is. */
typedef struct {
  size_t struct_size;      /* set by the library: fields past it are not there */
  uint64_t bytes_done;     /* of the files, by all workers together */
  uint64_t bytes_total;    /* 0 until all workers have said how many it will be: they check model and plan before */
  double bytes_per_second; /* in the last second or so */
  int32_t slowest_worker;  /* who has the smallest share of its own bytes; of several the one named last time */
  uint64_t slowest_done, slowest_total; /* its bytes; total 0 before it has said so */
} disco_load_progress;

/* False ends the wait. May call libdisco. */
typedef bool (*disco_load_progress_fn)(void *context, const disco_load_progress *progress);

/* Call libdisco.load_weights(path, plan, manifest) (disco/worker.h, Weights) on all workers and wait until all have
 * their parts. manifest: NULL for none. *ret_map is a DRef (owned by the caller) to each worker's Map. `progress`
 * (NULL: nobody) is called on the calling thread, about every 100 ms and once more at the end when all went well; its
 * answer at the end does not matter. timeout_ms: see disco/disco.h, Waiting; it begins when the command is posted.
 *
 * Errors: those of libdisco.load_weights and of every call that waits; DISCO_INTERRUPTED when `progress` said so,
 * DISCO_TIMEOUT. After these two the workers go on with what they load, and drop it then: commands posted meanwhile
 * wait behind it. */
DISCO_API DISCO_MUST_USE disco_status disco_session_load_weights(struct disco_session *session, const char *path,
                                                                 const char *plan, const char *manifest,
                                                                 disco_load_progress_fn progress, void *context,
                                                                 int64_t timeout_ms, struct disco_dref **ret_map);

/* ---- Manifests ---- */

/* XXH3 (64 bits, seed 0) of memory, as manifests have it (see libdisco.load_weights in disco/worker.h). */
DISCO_API uint64_t disco_weights_hash(const void *memory, size_t bytes);

/* What the memory of each worker must hash to after it was read by one plan for one number of workers:
 *
 *   {"algorithm": "xxh3-64", "workers": 2, "tensors": {"embed": ["9f0c5d0d6a2f3b41", "03a1..."], ...}}
 *
 * One thread at a time while it is put together; checks by any thread, several at once. */
typedef struct disco_manifest disco_manifest;

/* DISCO_VALUE for a file that is none (the sentence names what is wrong), DISCO_RUNTIME when it cannot be read. */
DISCO_API DISCO_MUST_USE disco_status disco_manifest_open(const char *path, disco_manifest **ret_manifest);
/* An empty one, to be put together and written. */
DISCO_API DISCO_MUST_USE disco_status disco_manifest_create(int32_t num_workers, disco_manifest **ret_manifest);
DISCO_API void disco_manifest_destroy(disco_manifest *manifest); /* NULL allowed */

/* What the shard of a worker hashes to; once more replaces it. Nothing for a skipped shard. DISCO_VALUE for a worker
 * that there is not, DISCO_MEMORY. */
DISCO_API DISCO_MUST_USE disco_status disco_manifest_put(disco_manifest *manifest, const disco_weights *weights,
                                                         const disco_shard *shard, int32_t worker, uint64_t hash);
/* Write it as JSON, over what is at `path`. DISCO_VALUE when a worker's hash is missing, DISCO_RUNTIME. */
DISCO_API DISCO_MUST_USE disco_status disco_manifest_write(const disco_manifest *manifest, const char *path);

/* Compare what was read, `shard->bytes` bytes at `memory`, with what the manifest says. DISCO_VALUE that names tensor,
 * worker and both hashes; also when it was made for another number of workers or does not have the tensor. */
DISCO_API DISCO_MUST_USE disco_status disco_manifest_check(const disco_manifest *manifest, const disco_weights *weights,
                                                           const disco_shard *shard, int32_t num_workers,
                                                           int32_t worker, const void *memory);

#ifdef __cplusplus
}
#endif

#endif
