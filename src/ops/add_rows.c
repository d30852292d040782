/* y[b] = x[b] + added;  dx = dy,  d added = sum over b of dy[b]. */
#include "ops.h"

#include "../tensor/bulk.h"

static void forward(brt_tape *tape, brt_node *node)
{
    const brt_tensor *x = node->in[0], *added = node->in[1];
    real *y = node->out[0]->data;
    brt_bulk_copy(brt_tape_threads(tape), x->count, x->data, y);
    for (size_t done = 0; done < x->count; done += added->count)
        brt_bulk_add(brt_tape_kernels(tape), brt_tape_threads(tape), added->count, added->data, y + done);
}

static void backward(brt_tape *tape, brt_node *node)
{
    brt_tensor *x = node->in[0], *added = node->in[1];
    real *dadded = brt_gradient_accumulate(tape, added);
    const real *dy = node->out[0]->gradient;
    for (size_t done = 0; dadded && brt_tape_running(tape) && done < x->count; done += added->count)
        brt_bulk_add(brt_tape_kernels(tape), brt_tape_threads(tape), added->count, dy + done, dadded);
    brt_gradient_hand_on(tape, node->out[0], x);
}

static const brt_op op = {.name = "add_rows", .repeatable = true, .forward = forward, .backward = backward};

brt_tensor *brt_op_add_rows(brt_tape *tape, brt_tensor *x, brt_tensor *added)
{
    brt_tensor *y = brt_tape_tensor(tape, x->dims, x->shape);
    brt_tape_push(tape, &(brt_node){.op = &op, .in = {x, added}, .out = {y}}, 0);
    return y;
}
