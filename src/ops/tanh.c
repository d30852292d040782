/* y = tanh(x);  dx = dy * (1 - y^2). */
#include "ops.h"
#include "pointwise.h"

static void forward(const brt_kernels *kernels, size_t count, const real *const *x, real *y)
{
    kernels->tanh_forward(count, x[0], y);
}

static void backward(const brt_kernels *kernels, size_t count, const real *const *x, const real *y, const real *dy,
                     real *const *dx)
{
    (void)x;
    kernels->tanh_backward(count, y, dy, dx[0]);
}

static const brt_op op = {.name = "tanh", .forward = brt_pointwise_forward, .backward = brt_pointwise_backward};
static const brt_pointwise hyperbolic_tangent = {&op, 1, forward, backward};

brt_tensor *brt_op_tanh(brt_tape *tape, brt_tensor *x)
{
    return brt_pointwise_push(tape, &hyperbolic_tangent, &x);
}
