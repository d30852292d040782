/* Rows of a sequence at equal distances, y[b, i] = x[b, first + i * step], where row -1 is that of `before`. Gradients
 * go back to the rows that were picked. */
#include "ops.h"

#include <string.h>

typedef struct picking {
    size_t batch, time, dim, count;
    ptrdiff_t first;
    size_t step;
} picking;

/* The picked row i of a batch row, among x's or `before`'s. */
static real *row_of(const picking *how, real *x, real *before, size_t b, size_t i)
{
    ptrdiff_t t = how->first + (ptrdiff_t)(i * how->step);
    if (t < 0)
        return before ? before + b * how->dim : NULL;
    return x ? x + (b * how->time + (size_t)t) * how->dim : NULL;
}

static void forward(brt_tape *tape, brt_node *node)
{
    const picking *how = node->attributes;
    real *x = node->in[0]->data, *before = node->in[1] ? node->in[1]->data : NULL;
    (void)tape;
    for (size_t b = 0; b < how->batch; b++)
        for (size_t i = 0; i < how->count; i++)
            memcpy(node->out[0]->data + (b * how->count + i) * how->dim, row_of(how, x, before, b, i),
                   how->dim * sizeof(real));
}

static void backward(brt_tape *tape, brt_node *node)
{
    const picking *how = node->attributes;
    real *dx = brt_gradient_accumulate(tape, node->in[0]);
    real *dbefore = node->in[1] ? brt_gradient_accumulate(tape, node->in[1]) : NULL;
    for (size_t b = 0; brt_tape_running(tape) && b < how->batch; b++)
        for (size_t i = 0; i < how->count; i++) {
            real *to = row_of(how, dx, dbefore, b, i);
            if (to)
                brt_tape_kernels(tape)->add(how->dim, node->out[0]->gradient + (b * how->count + i) * how->dim, to);
        }
}

static const brt_op op = {.name = "pick", .forward = forward, .backward = backward};

brt_tensor *brt_op_pick(brt_tape *tape, brt_tensor *x, brt_tensor *before, ptrdiff_t first, size_t step, size_t count)
{
    picking how = {x->shape[0], x->shape[1], x->shape[2], count, first, step};
    brt_tensor *y = brt_tape_tensor(tape, BRT_SHAPE(how.batch, count, how.dim));
    brt_tape_push(tape, &(brt_node){.op = &op, .in = {x, before}, .out = {y}, .attributes = &how}, sizeof how);
    return y;
}
