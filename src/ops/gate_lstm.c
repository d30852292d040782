/* The gates of an LSTM (Hochreiter & Schmidhuber 1997) as Hutchins et al. 2022 start them, to remember; forget and
 * input are the outputs of their kernels:
 *   c' = sigmoid(forget + 1) * c + sigmoid(input - 1) * z. The kernel holds the gradients. */
#include "ops.h"
#include "pointwise.h"

enum { operand_forget, operand_input, operand_z, operand_state, operands };

static void forward(const brt_kernels *kernels, size_t count, const real *const *x, real *y)
{
    kernels->gate_lstm_forward(count, x[operand_forget], x[operand_input], x[operand_z], x[operand_state], y);
}

static void backward(const brt_kernels *kernels, size_t count, const real *const *x, const real *y, const real *dy,
                     real *const *dx)
{
    (void)y;
    kernels->gate_lstm_backward(count, x[operand_forget], x[operand_input], x[operand_z], x[operand_state], dy,
                                dx[operand_forget], dx[operand_input], dx[operand_z], dx[operand_state]);
}

static const brt_op op = {.name = "gate_lstm", .forward = brt_pointwise_forward, .backward = brt_pointwise_backward};
static const brt_pointwise gate = {&op, operands, forward, backward};

brt_tensor *brt_op_gate_lstm(brt_tape *tape, brt_tensor *forget, brt_tensor *input, brt_tensor *z, brt_tensor *state)
{
    return brt_pointwise_push(tape, &gate, (brt_tensor *const[]){forget, input, z, state});
}
