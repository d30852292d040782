/* y = max(x, 0);  dx = dy where y > 0, else 0. */
#include "ops.h"
#include "pointwise.h"

static void forward(const brt_kernels *kernels, size_t count, const real *const *x, real *y)
{
    kernels->relu_forward(count, x[0], y);
}

static void backward(const brt_kernels *kernels, size_t count, const real *const *x, const real *y, const real *dy,
                     real *const *dx)
{
    (void)x;
    kernels->relu_backward(count, y, dy, dx[0]);
}

static const brt_op op = {
    .name = "relu", .repeatable = true, .forward = brt_pointwise_forward, .backward = brt_pointwise_backward};
static const brt_pointwise relu = {&op, 1, forward, backward};

brt_tensor *brt_op_relu(brt_tape *tape, brt_tensor *x)
{
    return brt_pointwise_push(tape, &relu, &x);
}
