#include "controller/text.h"

#include <stdlib.h>
#include <string.h>

static const char replacement[] = "\xef\xbf\xbd"; /* U+FFFD */
enum { REPLACEMENT_BYTES = 3 };

/* Bytes of the character that begins here: 0 for none, negative when `size` bytes are its beginning [RFC 3629]. */
static int character(const unsigned char *at, size_t size) {
  int bytes = at[0] < 0x80                    ? 1
              : at[0] >= 0xc2 && at[0] < 0xe0 ? 2
              : at[0] >= 0xe0 && at[0] < 0xf0 ? 3
              : at[0] >= 0xf0 && at[0] < 0xf5 ? 4
                                              : 0;
  for (int i = 1; i < bytes; i++) {
    if ((size_t)i == size) return -1;
    unsigned char least = 0x80, most = 0xbf;
    if (i == 1 && at[0] == 0xe0) least = 0xa0; /* overlong */
    if (i == 1 && at[0] == 0xf0) least = 0x90;
    if (i == 1 && at[0] == 0xed) most = 0x9f; /* surrogates */
    if (i == 1 && at[0] == 0xf4) most = 0x8f; /* beyond U+10FFFF */
    if (at[i] < least || at[i] > most) return 0;
  }
  return bytes;
}

/* Room for `more` bytes, and a replacement in place of each of those that wait. */
static bool reserve(text *self, size_t more) {
  const size_t wanted = self->size + REPLACEMENT_BYTES * (self->size - self->whole + more) + 1;
  if (wanted <= self->room) return true;
  char *bytes = realloc(self->bytes, 2 * wanted);
  if (bytes == NULL) return false;
  self->bytes = bytes;
  self->room = 2 * wanted;
  return true;
}

static void replace_byte(text *self) {
  char *at = self->bytes + self->whole;
  memmove(at + REPLACEMENT_BYTES, at + 1, self->size - self->whole - 1);
  memcpy(at, replacement, REPLACEMENT_BYTES);
  self->size += REPLACEMENT_BYTES - 1;
  self->whole += REPLACEMENT_BYTES;
}

bool text_append(text *self, const char *bytes, size_t size) {
  if (!reserve(self, size)) return false;
  memcpy(self->bytes + self->size, bytes, size);
  self->size += size;
  while (self->whole < self->size) {
    const int length = character((const unsigned char *)self->bytes + self->whole, self->size - self->whole);
    if (length < 0) break;
    if (length == 0)
      replace_byte(self);
    else
      self->whole += (size_t)length;
  }
  self->bytes[self->size] = 0;
  return true;
}

bool text_end(text *self) {
  if (!reserve(self, 0)) return false;
  while (self->whole < self->size) replace_byte(self);
  self->bytes[self->size] = 0;
  return true;
}

bool text_print(text *self, FILE *to) {
  const size_t size = self->whole - self->printed;
  if (size > 0 && (fwrite(self->bytes + self->printed, 1, size, to) != size || fflush(to) != 0)) return false;
  self->printed = self->whole;
  return true;
}

void text_free(text *self) {
  free(self->bytes);
  *self = (text){0};
}
