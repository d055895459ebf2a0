/* Bytes of a stranger as safetensors. The first byte says how:
 *
 *   0  a whole file
 *   1  the index of several files; "a" and "b" lie beside it
 *   2  two bytes: how much data there is, little-endian; then a header, whose length comes out right */
#include "fuzz_model.h"

enum { WHOLE, INDEX, HEADER, MODES, LENGTH_BYTES = 8, MAX_DATA = 4096 };

static const char part_a[] = "{\"x\":{\"dtype\":\"I8\",\"shape\":[4],\"data_offsets\":[0,4]},"
                             "\"y\":{\"dtype\":\"F16\",\"shape\":[2,1],\"data_offsets\":[4,8]}}";
static const char part_b[] =
    "{\"z\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]},\"__metadata__\":{\"format\":\"pt\"}}";

/* A file with this header and zeros behind it; free(). */
static uint8_t *file_of(const void *header, size_t length, size_t data, size_t *ret_size) {
  *ret_size = LENGTH_BYTES + length + data;
  uint8_t *bytes = calloc(1, *ret_size);
  FUZZ_CHECK(bytes != NULL);
  for (int i = 0; i < LENGTH_BYTES; i++) bytes[i] = (uint8_t)((uint64_t)length >> (8 * i));
  if (length > 0) memcpy(bytes + LENGTH_BYTES, header, length);
  return bytes;
}

static void write_part(const char *name, const char *header, size_t data) {
  size_t size;
  uint8_t *bytes = file_of(header, strlen(header), data, &size);
  fuzz_write_beside(name, bytes, size);
  free(bytes);
}

static uint8_t *take_input(int mode, const uint8_t *data, size_t size, size_t *ret_size) {
  if (mode == HEADER) {
    const size_t bytes = size >= 2 ? ((size_t)data[0] | (size_t)data[1] << 8) % MAX_DATA : 0;
    return size >= 2 ? file_of(data + 2, size - 2, bytes, ret_size) : file_of(NULL, 0, 0, ret_size);
  }
  uint8_t *bytes = malloc(size > 0 ? size : 1); /* and not a byte more */
  FUZZ_CHECK(bytes != NULL);
  if (size > 0) memcpy(bytes, data, size);
  *ret_size = size;
  return bytes;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static char index_path[128];
  if (index_path[0] == '\0') {
    fuzz_make_folder();
    write_part("a", part_a, 8);
    write_part("b", part_b, 1);
    (void)snprintf(index_path, sizeof(index_path), "%s/index", fuzz_folder);
  }
  if (size == 0) return 0;
  const int mode = data[0] % MODES;
  size_t bytes_size;
  uint8_t *bytes = take_input(mode, data + 1, size - 1, &bytes_size);
  disco_weights *model = NULL;
  dsc_source source;
  int32_t file = -1;
  disco_status status;
  dsc_source_of_memory(mode == INDEX ? index_path : "stranger.safetensors", bytes, bytes_size, &source);
  if (mode == INDEX) {
    status = dsc_model_read(&source, &model);
  } else { /* whatever its first bytes say */
    FUZZ_CHECK(dsc_model_create("safetensors", &model) == DISCO_OK);
    FUZZ_CHECK(dsc_model_add_file(model, source.path, bytes_size, &file) == DISCO_OK);
    status = dsc_safetensors_read(&source, file, model);
  }
  if (status == DISCO_OK) {
    FUZZ_CHECK(dsc_model_seal(model, false) == DISCO_OK); /* the format's own rules leave no room for overlaps */
    fuzz_check_model(model, bytes_size + 1024);
    for (int64_t i = 0; mode != INDEX && i < dsc_model_count(model); i++)
      fuzz_touch(bytes + dsc_model_weight(model, i)->view.offset, dsc_model_weight(model, i)->view.bytes);
  } else {
    fuzz_check_refusal(status, mode == INDEX ? fuzz_folder : source.path);
  }
  dsc_model_destroy(model);
  free(bytes);
  return 0;
}
