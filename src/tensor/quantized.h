/* Weights in fewer bits than a float has, for inference: numbers in bf16, or 8-bit integers with a scale per output,
 *   w[o, i] = scale[o] * q[o, i],  scale[o] = max over i of |w[o, i]| / 127.
 * Only the weights are rounded: activations and sums are floats. A token's products read every weight once, so half or
 * a quarter of the bytes is half or a quarter of the time.
 *
 * A matrix [out, in] is kept in panels of BRT_PANEL outputs, [out / BRT_PANEL, in, BRT_PANEL]: a product with one row
 * reads a panel from its first byte to its last, and for many rows a panel widened to floats is what the matrix kernel
 * wants. A table whose rows are looked up (the embedding) has panels of one output: plain rows. */
#ifndef BRT_TENSOR_QUANTIZED_H
#define BRT_TENSOR_QUANTIZED_H

#include "../base/real.h"
#include "../base/status.h"
#include "../kernels/kernels.h"

#include <stdint.h>

typedef enum brt_precision { BRT_F32, BRT_BF16, BRT_INT8 } brt_precision;

/* "f32", "bf16" or "int8"; false for anything else. */
bool brt_precision_parse(const char *name, brt_precision *out);
const char *brt_precision_name(brt_precision precision);
/* The type of a tensor of such numbers in a file: "F32", "BF16" or "I8". */
const char *brt_precision_dtype(brt_precision precision);

typedef struct brt_quantized {
    brt_precision precision; /* BRT_BF16 or BRT_INT8 */
    size_t out, in;
    size_t panel;  /* outputs side by side: BRT_PANEL, or 1 */
    void *numbers; /* uint16_t or int8_t [ceil(out / panel), in, panel]; outputs past the last are 0 */
    real *scale;   /* [ceil(out / panel) * panel]; 1 for bf16 */
} brt_quantized;

/* All zeros. */
brt_status brt_quantized_create(brt_quantized *q, brt_precision precision, size_t out, size_t in, size_t panel);
void brt_quantized_close(brt_quantized *q);
/* Between two of the same precision and sizes. */
void brt_quantized_copy(const brt_quantized *from, brt_quantized *to);
/* Of the numbers and scales. */
size_t brt_quantized_bytes(const brt_quantized *q);
/* Of one number. */
size_t brt_quantized_item(const brt_quantized *q);

/* The numbers of one output, row[in] of uint16_t or int8_t, as files have them. */
void brt_quantized_set_row(brt_quantized *q, size_t output, const void *row);
void brt_quantized_get_row(const brt_quantized *q, size_t output, void *row);
/* Rounds the weights [in] of one output, and chooses its scale; false when one is not finite. room: of a row. */
bool brt_quantized_round_row(brt_quantized *q, const brt_kernels *kernels, size_t output, const real *weights,
                             void *room);
/* The weights [in] of one output, as floats. */
void brt_quantized_widen_row(const brt_quantized *q, const brt_kernels *kernels, size_t output, real *weights);

/* y[rows, out] (+)= x[rows, in] weight^T. A row of the result does not depend on how many there are. */
void brt_quantized_forward(const brt_quantized *q, const brt_kernels *kernels, int threads, size_t rows, const real *x,
                           real *y, bool accumulate);

#endif
