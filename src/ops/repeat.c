/* y[b, i] = x[b] for i < times;  dx[b] = sum over i of dy[b, i]. */
#include "ops.h"

#include <string.h>

static void forward(brt_tape *tape, brt_node *node)
{
    size_t times = *(const size_t *)node->attributes, batch = node->in[0]->shape[0], count = node->in[0]->count / batch;
    (void)tape;
    for (size_t i = 0; i < batch * times; i++)
        memcpy(node->out[0]->data + i * count, node->in[0]->data + i / times * count, count * sizeof(real));
}

static void backward(brt_tape *tape, brt_node *node)
{
    size_t times = *(const size_t *)node->attributes, batch = node->in[0]->shape[0], count = node->in[0]->count / batch;
    real *dx = brt_gradient_accumulate(tape, node->in[0]);
    for (size_t i = 0; dx && brt_tape_running(tape) && i < batch * times; i++)
        brt_tape_kernels(tape)->add(count, node->out[0]->gradient + i * count, dx + i / times * count);
}

static const brt_op op = {.name = "repeat", .forward = forward, .backward = backward};

brt_tensor *brt_op_repeat(brt_tape *tape, brt_tensor *x, size_t times)
{
    brt_tensor *y = brt_tape_tensor(tape, BRT_SHAPE(x->shape[0], times, x->count / x->shape[0]));
    brt_tape_push(tape, &(brt_node){.op = &op, .in = {x}, .out = {y}, .attributes = &times}, sizeof times);
    return y;
}
