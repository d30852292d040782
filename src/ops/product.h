/* Products with weights, for operations that take a brt_linear. */
#ifndef BRT_OPS_PRODUCT_H
#define BRT_OPS_PRODUCT_H

#include "ops.h"

/* y[rows, out] = x[rows, in] W^T + added; added [rows, out] may be NULL. Without the bias. */
void brt_product(const brt_tape *tape, int threads, const brt_linear *weights, size_t rows, const real *x,
                 const real *added, real *y);

#endif
