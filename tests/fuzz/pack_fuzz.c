/* Bytes of a stranger as a packed value. What unpacks packs again, and from then on to the same bytes.
 *
 * The first 8 bytes say how: byte 0: 1 with containers, 2 with a side file, 4 which is held; bytes 2 and 3: how many
 * bytes the side file has; bytes 4 and 5: from which size on data goes aside when it is packed again. */
#include "fuzz.h"

#include <string.h>

#include "ffi/value.h"
#include "wire/pack.h"

enum { SIDE_BYTES = 4 * DSC_PACK_SIDE_ALIGN };

typedef struct {
  dsc_side_view view;
  int held;
} counted_view;

static void hold(dsc_side_view *side) { ((counted_view *)side)->held++; }
static void release(dsc_side_view *side) { ((counted_view *)side)->held--; }

typedef struct {
  char *bytes, *side;
  uint64_t size, side_size;
} packed;

static packed pack(const TVMFFIAny *value, uint64_t threshold) {
  dsc_pack_side side = {.threshold = threshold};
  packed p = {0};
  FUZZ_CHECK(dsc_pack_measure(value, DSC_PACK_CONTAINERS, "it", &side, &p.size) == DISCO_OK);
  p.bytes = malloc(p.size);
  FUZZ_CHECK(p.bytes != NULL);
  p.side_size = side.bytes;
  if (side.bytes > 0) FUZZ_CHECK(posix_memalign((void **)&p.side, DSC_PACK_SIDE_ALIGN, side.bytes) == 0);
  side.base = p.side;
  FUZZ_CHECK(dsc_pack(value, &side, p.bytes) == p.bytes + p.size);
  FUZZ_CHECK(side.used == side.bytes);
  return p;
}

static void free_packed(packed *p) {
  free(p->bytes);
  free(p->side);
}

static void pack_again(const TVMFFIAny *value, uint64_t threshold) {
  packed first = pack(value, threshold);
  counted_view side = {.view = {first.side, first.side_size, hold, release}};
  TVMFFIAny again = dsc_none();
  uint64_t used = 0;
  FUZZ_CHECK(dsc_unpack(first.bytes, first.size, DSC_PACK_CONTAINERS, &side.view, &again, &used) == DISCO_OK);
  FUZZ_CHECK(used == first.size);
  packed second = pack(&again, threshold);
  FUZZ_CHECK(second.size == first.size && memcmp(second.bytes, first.bytes, first.size) == 0);
  FUZZ_CHECK(second.side_size == first.side_size);
  FUZZ_CHECK(first.side_size == 0 || memcmp(second.side, first.side, first.side_size) == 0);
  dsc_value_drop(&again);
  FUZZ_CHECK(side.held == 0);
  free_packed(&first);
  free_packed(&second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static _Alignas(DSC_PACK_SIDE_ALIGN) char memory[SIDE_BYTES];
  if (size < 8) return 0;
  uint16_t side_bytes, threshold;
  memcpy(&side_bytes, data + 2, sizeof(side_bytes));
  memcpy(&threshold, data + 4, sizeof(threshold));
  counted_view side = {.view = {.bytes = side_bytes <= SIDE_BYTES ? side_bytes : SIDE_BYTES}};
  if ((data[0] & 2) != 0) side.view.base = memory;
  if ((data[0] & 4) != 0) side.view.hold = hold, side.view.release = release;
  size -= 8;
  char *bytes = malloc(size); /* aligned, and not a byte more */
  FUZZ_CHECK(bytes != NULL || size == 0);
  if (size > 0) memcpy(bytes, data + 8, size);
  TVMFFIAny value = dsc_none();
  uint64_t used = 0;
  unsigned allowed = (data[0] & 1) != 0 ? DSC_PACK_CONTAINERS : DSC_PACK_PLAIN;
  disco_status status = dsc_unpack(bytes, size, allowed, &side.view, &value, &used);
  free(bytes); /* nothing of it may be needed any more */
  FUZZ_CHECK(status == DISCO_OK || status == DISCO_LOST);
  if (status == DISCO_OK) {
    FUZZ_CHECK(used >= sizeof(dsc_packed) && used <= size && used % 8 == 0);
    pack_again(&value, threshold);
    dsc_value_drop(&value);
  } else {
    FUZZ_CHECK(value.type_index == kTVMFFINone && used == 0);
  }
  FUZZ_CHECK(side.held == 0);
  return 0;
}
