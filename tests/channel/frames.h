/* Frames for tests: any size, contents that tell which frame it is, so that a lost, doubled, torn or swapped one shows.
 */
#ifndef TESTS_CHANNEL_FRAMES_H
#define TESTS_CHANNEL_FRAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { LARGEST_FRAME = 5 << 20 };

uint64_t next_random(uint64_t *state);
/* The size of frame number `index` of a stream: first the edges, then from 8 bytes to LARGEST_FRAME, small ones more
 * often. */
size_t frame_size(uint64_t stream, uint64_t index);
/* The size word, then contents of that stream and index. `size` is at least 8. */
void frame_fill(uint8_t *frame, size_t size, uint64_t stream, uint64_t index);
bool frame_equals(const void *frame, size_t size, uint64_t stream, uint64_t index);
int test_scale(void); /* DISCO_TEST_SCALE: divide counts by it */
void nap_ms(int ms);

#endif
