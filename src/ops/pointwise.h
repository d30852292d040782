/* Operations on each number by itself, y[i] = f(a[i], b[i], ...), all of one shape: cut into parts and run in parallel
 * here, with the formula in a file of its own. */
#ifndef BRT_OPS_POINTWISE_H
#define BRT_OPS_POINTWISE_H

#include "../tensor/tape.h"

enum { BRT_MOST_OPERANDS = 4 };

typedef struct brt_pointwise {
    const brt_op *op; /* its forward and backward are the two below */
    size_t operands;
    void (*forward)(const brt_kernels *kernels, size_t count, const real *const *x, real *y);
    /* Overwrites the gradient of every operand. */
    void (*backward)(const brt_kernels *kernels, size_t count, const real *const *x, const real *y, const real *dy,
                     real *const *dx);
} brt_pointwise;

void brt_pointwise_forward(brt_tape *tape, brt_node *node);
void brt_pointwise_backward(brt_tape *tape, brt_node *node);

/* `what` is static. */
brt_tensor *brt_pointwise_push(brt_tape *tape, const brt_pointwise *what, brt_tensor *const *operands);

#endif
