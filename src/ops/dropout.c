/* Dropout (Srivastava et al. 2014) with one mask for all rows of a batch, a tile of 128 positions repeated along time,
 * as the code of Hutchins et al. has it: y = residual + mask * x, mask 0 with probability `rate`, else 1 / (1 - rate).
 * dx = mask * dy,  d residual = dy. The mask is a function of the random numbers' place alone, and drawn again in
 * backward. */
#include "ops.h"

#include "../base/parallel.h"
#include "../base/rng.h"
#include "../base/size.h"
#include "../tensor/bulk.h"

#include <string.h>

enum { tile_rows = 128 };

typedef struct attributes {
    brt_dropout how;
    size_t rows, time, dim; /* rows: batch * time */
    brt_tensor *mask;       /* room of forward: [tile_rows, dim] */
} attributes;

typedef struct job {
    const brt_kernels *kernels;
    const attributes *a;
    const real *x, *residual;
    real *mask, *y;
} job;

static size_t mask_row(const attributes *a, size_t row)
{
    return (a->how.first + row % a->time) % tile_rows;
}

static void draw_task(void *context, size_t task, int thread)
{
    const job *j = context;
    const brt_dropout *how = &j->a->how;
    size_t dim = j->a->dim;
    real *mask = j->mask + task * dim, kept = (real)(1 / (1 - how->rate));
    uint32_t words[4], least = (uint32_t)(how->rate * 0x1p32);
    uint64_t index = (how->index * tile_rows + task) * brt_ceil_div(dim, 4);
    (void)thread;
    for (size_t i = 0; i < dim; i++) {
        if (i % 4 == 0)
            brt_rng_words(how->seed, how->stream, index + i / 4, words);
        mask[i] = words[i % 4] < least ? 0 : kept;
    }
}

static void apply_task(void *context, size_t task, int thread)
{
    const job *j = context;
    size_t dim = j->a->dim, at = task * dim;
    (void)thread;
    memcpy(j->y + at, j->x + at, dim * sizeof(real));
    j->kernels->multiply(dim, 1, j->mask + mask_row(j->a, task) * dim, j->y + at);
    if (j->residual)
        j->kernels->add(dim, j->residual + at, j->y + at);
}

static void apply(brt_tape *tape, const attributes *a, const brt_tensor *mask, const real *x, const real *residual,
                  real *y)
{
    job j = {brt_tape_kernels(tape), a, x, residual, mask->data, y};
    brt_parallel_for(brt_tape_threads(tape), tile_rows, draw_task, &j);
    brt_parallel_for(brt_tape_threads(tape), a->rows, apply_task, &j);
}

static void forward(brt_tape *tape, brt_node *node)
{
    const attributes *a = node->attributes;
    apply(tape, a, a->mask, node->in[0]->data, node->in[1] ? node->in[1]->data : NULL, node->out[0]->data);
}

static void backward(brt_tape *tape, brt_node *node)
{
    const attributes *a = node->attributes;
    brt_gradient dx = brt_gradient_open(tape, node->in[0]);
    brt_tensor *mask = brt_scratch(tape, tile_rows * a->dim);
    if (dx.data)
        apply(tape, a, mask, node->out[0]->gradient, NULL, dx.data);
    brt_scratch_free(tape, mask);
    brt_gradient_close(tape, node->in[0], dx);
    if (node->in[1])
        brt_gradient_hand_on(tape, node->out[0], node->in[1]);
}

static const brt_op op = {.name = "dropout", .forward = forward, .backward = backward};

brt_tensor *brt_op_dropout(brt_tape *tape, brt_tensor *x, brt_tensor *residual, const brt_dropout *how)
{
    size_t dim = x->shape[2];
    attributes a = {*how, x->shape[0] * x->shape[1], x->shape[1], dim, brt_scratch(tape, tile_rows * dim)};
    brt_tensor *y = brt_tape_tensor(tape, x->dims, x->shape);
    brt_tape_push(tape, &(brt_node){.op = &op, .in = {x, residual}, .out = {y}, .attributes = &a}, sizeof a);
    brt_scratch_free(tape, a.mask);
    return y;
}
