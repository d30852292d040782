/* y = x sigmoid(x) (Ramachandran et al. 2017);  dx = dy sigmoid(x) (1 + x (1 - sigmoid(x))). */
#include "ops.h"
#include "pointwise.h"

static void forward(const brt_kernels *kernels, size_t count, const real *const *x, real *y)
{
    kernels->silu_forward(count, x[0], y);
}

static void backward(const brt_kernels *kernels, size_t count, const real *const *x, const real *y, const real *dy,
                     real *const *dx)
{
    (void)y;
    kernels->silu_backward(count, x[0], dy, dx[0]);
}

static const brt_op op = {.name = "silu", .forward = brt_pointwise_forward, .backward = brt_pointwise_backward};
static const brt_pointwise silu = {&op, 1, forward, backward};

brt_tensor *brt_op_silu(brt_tape *tape, brt_tensor *x)
{
    return brt_pointwise_push(tape, &silu, &x);
}
