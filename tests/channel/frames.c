#include "channel/frames.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

uint64_t next_random(uint64_t *state) { /* splitmix64 */
  uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
  z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
  z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
  return z ^ z >> 31;
}

static uint64_t seed_of(uint64_t stream, uint64_t index) { return stream * 1000003 + index; }

size_t frame_size(uint64_t stream, uint64_t index) {
  static const size_t edges[] = {8,
                                 9,
                                 15,
                                 16,
                                 17,
                                 4095,
                                 4096,
                                 4097,
                                 65535,
                                 1 << 16,
                                 1 << 20,
                                 65537,
                                 8,
                                 (1 << 20) - 1,
                                 (1 << 20) + 1,
                                 8,
                                 24,
                                 LARGEST_FRAME,
                                 64,
                                 8,
                                 3 << 20,
                                 1 << 20};
  if (index < sizeof(edges) / sizeof(edges[0])) return edges[index];
  uint64_t state = seed_of(stream, index);
  uint64_t bits = next_random(&state) % 20; /* most are small */
  size_t size = 8 + (size_t)(next_random(&state) % ((uint64_t)8 << bits));
  return size < LARGEST_FRAME ? size : LARGEST_FRAME;
}

static void size_word(uint8_t word[8], uint64_t size) {
  for (int i = 0; i < 8; i++) word[i] = (uint8_t)(size >> 8 * i);
}

void frame_fill(uint8_t *frame, size_t size, uint64_t stream, uint64_t index) {
  size_word(frame, size);
  uint64_t state = seed_of(stream, index) ^ size;
  for (size_t at = 8; at < size; at += 8) {
    uint64_t word = next_random(&state);
    memcpy(frame + at, &word, size - at < 8 ? size - at : 8);
  }
}

bool frame_equals(const void *frame, size_t size, uint64_t stream, uint64_t index) {
  const uint8_t *bytes = frame;
  uint8_t head[8];
  size_word(head, size);
  if (memcmp(bytes, head, 8) != 0) return false;
  uint64_t state = seed_of(stream, index) ^ size;
  for (size_t at = 8; at < size; at += 8) {
    uint64_t word = next_random(&state);
    if (memcmp(bytes + at, &word, size - at < 8 ? size - at : 8) != 0) return false;
  }
  return true;
}

int test_scale(void) {
  const char *text = getenv("DISCO_TEST_SCALE");
  int value = text != NULL ? atoi(text) : 1;
  return value > 0 ? value : 1;
}

void nap_ms(int ms) {
  struct timespec time = {ms / 1000, ms % 1000 * 1000000L};
  nanosleep(&time, NULL);
}
