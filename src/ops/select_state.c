/* The state a block reads: y[b] = previous[b], or the learned initial state where the row starts anew.
 * d previous[b] = dy[b] or 0,  d initial = sum of dy[b] over the rows that start anew. */
#include "ops.h"

#include "../tensor/bulk.h"

typedef struct selection {
    const bool *reset;
    size_t batch;
} selection;

static bool starts_anew(const brt_node *node, size_t row)
{
    const selection *how = node->attributes;
    return !node->in[0] || (how->reset && how->reset[row]);
}

static void forward(brt_tape *tape, brt_node *node)
{
    const selection *how = node->attributes;
    const brt_tensor *previous = node->in[0], *initial = node->in[1];
    size_t count = initial->count;
    for (size_t b = 0; b < how->batch; b++)
        brt_bulk_copy(brt_tape_threads(tape), count, starts_anew(node, b) ? initial->data : previous->data + b * count,
                      node->out[0]->data + b * count);
}

static void backward(brt_tape *tape, brt_node *node)
{
    const selection *how = node->attributes;
    size_t count = node->in[1]->count;
    int threads = brt_tape_threads(tape);
    brt_gradient dprevious = {0};
    if (node->in[0])
        dprevious = brt_gradient_open(tape, node->in[0]);
    real *dinitial = brt_gradient_accumulate(tape, node->in[1]);
    for (size_t b = 0; brt_tape_running(tape) && b < how->batch; b++) {
        const real *dy = node->out[0]->gradient + b * count;
        bool anew = starts_anew(node, b);
        if (anew && dinitial)
            brt_bulk_add(brt_tape_kernels(tape), threads, count, dy, dinitial);
        if (dprevious.data && anew)
            brt_bulk_zero(threads, count, dprevious.data + b * count);
        else if (dprevious.data)
            brt_bulk_copy(threads, count, dy, dprevious.data + b * count);
    }
    if (node->in[0])
        brt_gradient_close(tape, node->in[0], dprevious);
}

static const brt_op op = {.name = "select_state", .forward = forward, .backward = backward};

brt_tensor *brt_op_select_state(brt_tape *tape, brt_tensor *previous, brt_tensor *initial, const bool *reset,
                                size_t batch)
{
    selection how = {reset, batch};
    brt_tensor *y = brt_tape_tensor(tape, BRT_SHAPE(batch, initial->shape[0], initial->shape[1]));
    brt_tape_push(tape, &(brt_node){.op = &op, .in = {previous, initial}, .out = {y}, .attributes = &how}, sizeof how);
    return y;
}
