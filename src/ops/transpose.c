/* y[j, i] = x[i, j]; for what is small: biases by distance. */
#include "ops.h"

static void transpose(size_t rows, size_t columns, const real *x, real *y)
{
    for (size_t j = 0; j < columns; j++)
        for (size_t i = 0; i < rows; i++)
            *y++ = x[i * columns + j];
}

static void forward(brt_tape *tape, brt_node *node)
{
    const brt_tensor *x = node->in[0];
    (void)tape;
    transpose(x->shape[0], x->shape[1], x->data, node->out[0]->data);
}

static void backward(brt_tape *tape, brt_node *node)
{
    const brt_tensor *x = node->in[0];
    brt_gradient dx = brt_gradient_open(tape, node->in[0]);
    if (dx.data)
        transpose(x->shape[1], x->shape[0], node->out[0]->gradient, dx.data);
    brt_gradient_close(tape, node->in[0], dx);
}

static const brt_op op = {.name = "transpose", .forward = forward, .backward = backward};

brt_tensor *brt_op_transpose(brt_tape *tape, brt_tensor *x)
{
    brt_tensor *y = brt_tape_tensor(tape, BRT_SHAPE(x->shape[1], x->shape[0]));
    brt_tape_push(tape, &(brt_node){.op = &op, .in = {x}, .out = {y}}, 0);
    return y;
}
