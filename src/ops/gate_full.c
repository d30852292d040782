/* The gate of a GRU (Cho et al. 2014) with its kernel, biased to remember; u is the kernel's output:
 *   c' = g * c + (1 - g) * z,  g = sigmoid(u + 1). The kernel holds the gradients. */
#include "ops.h"
#include "pointwise.h"

enum { operand_u, operand_z, operand_state, operands };

static void forward(const brt_kernels *kernels, size_t count, const real *const *x, real *y)
{
    kernels->gate_full_forward(count, x[operand_u], x[operand_z], x[operand_state], y);
}

static void backward(const brt_kernels *kernels, size_t count, const real *const *x, const real *y, const real *dy,
                     real *const *dx)
{
    (void)y;
    kernels->gate_full_backward(count, x[operand_u], x[operand_z], x[operand_state], dy, dx[operand_u], dx[operand_z],
                                dx[operand_state]);
}

static const brt_op op = {.name = "gate_full", .forward = brt_pointwise_forward, .backward = brt_pointwise_backward};
static const brt_pointwise gate = {&op, operands, forward, backward};

brt_tensor *brt_op_gate_full(brt_tape *tape, brt_tensor *u, brt_tensor *z, brt_tensor *state)
{
    return brt_pointwise_push(tape, &gate, (brt_tensor *const[]){u, z, state});
}
