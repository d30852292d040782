/* y = |x|;  dx = sign(x) * dy, 0 where x is 0. */
#include "ops.h"
#include "pointwise.h"

static void forward(const brt_kernels *kernels, size_t count, const real *const *x, real *y)
{
    (void)kernels;
    for (size_t i = 0; i < count; i++)
        y[i] = x[0][i] < 0 ? -x[0][i] : x[0][i];
}

static void backward(const brt_kernels *kernels, size_t count, const real *const *x, const real *y, const real *dy,
                     real *const *dx)
{
    (void)kernels, (void)y;
    for (size_t i = 0; i < count; i++)
        dx[0][i] = x[0][i] < 0 ? -dy[i] : x[0][i] > 0 ? dy[i] : 0;
}

static const brt_op op = {.name = "magnitude", .forward = brt_pointwise_forward, .backward = brt_pointwise_backward};
static const brt_pointwise magnitude = {&op, 1, forward, backward};

brt_tensor *brt_op_magnitude(brt_tape *tape, brt_tensor *x)
{
    return brt_pointwise_push(tape, &magnitude, &x);
}
