/* Matrices of weights as one worker multiplies with them, and the activations they are multiplied with.
 *
 * y[t][r] = sum over c of w[r][c] * x[t][c]; rows are outputs, columns inputs. Weights are float32, or blocks of 32
 * columns of GGUF's Q4_1 (w = scale * q + min, q of 4 bits) and Q8_0 (w = scale * q, q of 8 bits) that stay quantised:
 * then x is rounded to 8 bits, block by block, and multiplied in integers. Packed, a matrix is laid out for the vectors
 * of this machine: the multiplication is bound by how fast memory can be read, so nothing is read twice and nothing is
 * unpacked into memory. */
#ifndef LLAMA_MATRIX_H
#define LLAMA_MATRIX_H

#include <stddef.h>
#include <stdint.h>

enum { MATRIX_BLOCK = 32, MATRIX_ALIGNMENT = 64 };

typedef enum { MATRIX_F32, MATRIX_Q4_1, MATRIX_Q8_0 } matrix_kind;

typedef struct {
  matrix_kind kind;
  int64_t rows, columns;
  const void *data; /* as matrix_pack() left it; not owned */
} matrix;

/* What a packed matrix takes. columns: for quantised kinds a multiple of 32. */
size_t matrix_bytes(matrix_kind kind, int64_t rows, int64_t columns);

/* Lay `stored` (row-major float32, or the file's blocks row by row, each row columns / 32 blocks of 20 or 34 bytes) out
 * in `memory`: matrix_bytes(), aligned to MATRIX_ALIGNMENT, which must live as long as the matrix. */
matrix matrix_pack(matrix_kind kind, int64_t rows, int64_t columns, const void *stored, void *memory);

/* One row as float32: embeddings. */
void matrix_row(const matrix *self, int64_t row, float *to);

/* Activations: `count` vectors of `columns` elements, and for quantised matrices the same rounded to 8 bits. Prepared
 * once, they serve every matrix of that many columns. */
typedef struct activations activations;

/* Room for `count` vectors of `columns` elements; NULL: no memory. */
activations *activations_create(int64_t count, int64_t columns);
void activations_destroy(activations *self); /* NULL allowed */

/* Take `count` vectors from `x` (count * columns, one behind the other), which must stay until the last multiplication:
 * no more than there is room for, columns as many or fewer. `kind`: what they will be multiplied with; for MATRIX_F32
 * nothing is rounded, and what is set for a quantised kind serves all kinds. */
void activations_set(activations *self, matrix_kind kind, int64_t count, int64_t columns, const float *x);

/* y[t * stride + r] for every vector t and row r. */
void matrix_multiply(const matrix *self, const activations *x, float *y, int64_t stride);

/* "avx512-vnni", "avx2" or "portable": what multiplies here. LLAMA_KERNELS in the environment asks for a lesser one. */
const char *matrix_kernels(void);

#endif
