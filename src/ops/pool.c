/* Pooling of `factor` rows into one, column by column:
 *   mean: y = sum of x / factor,  dx = dy / factor
 *   max:  y = the largest x,      dx = dy for the first row that has it, else 0 */
#include "compression.h"

#include <string.h>

typedef struct pool {
    brt_pooling pooling;
    size_t batch, block, entries, factor, width;
} pool;

/* The first row under an entry. */
static size_t first_row(const pool *how, size_t entry)
{
    return how->block % how->factor + entry * how->factor;
}

static void add_rows(const brt_kernels *kernels, const pool *how, const real *x, real *y)
{
    memset(y, 0, how->width * sizeof *y);
    for (size_t row = 0; row < how->factor; row++)
        kernels->add(how->width, x + row * how->width, y);
    kernels->scale(how->width, 1 / (real)how->factor, y, y);
}

static void take_largest(const pool *how, const real *x, real *y)
{
    memcpy(y, x, how->width * sizeof *y);
    for (size_t row = 1; row < how->factor; row++)
        for (size_t i = 0; i < how->width; i++)
            y[i] = x[row * how->width + i] > y[i] ? x[row * how->width + i] : y[i];
}

static void forward(brt_tape *tape, brt_node *node)
{
    const pool *how = node->attributes;
    for (size_t b = 0; b < how->batch; b++)
        for (size_t entry = 0; entry < how->entries; entry++) {
            const real *x = node->in[0]->data + (b * how->block + first_row(how, entry)) * how->width;
            real *y = node->out[0]->data + (b * how->entries + entry) * how->width;
            if (how->pooling == BRT_POOL_MEAN)
                add_rows(brt_tape_kernels(tape), how, x, y);
            else
                take_largest(how, x, y);
        }
}

static void share(const brt_kernels *kernels, const pool *how, const real *dy, real *dx)
{
    for (size_t row = 0; row < how->factor; row++)
        kernels->scale(how->width, 1 / (real)how->factor, dy, dx + row * how->width);
}

static void give_to_largest(const pool *how, const real *x, const real *y, const real *dy, real *dx)
{
    memset(dx, 0, how->factor * how->width * sizeof *dx);
    for (size_t i = 0; i < how->width; i++) {
        size_t row = 0;
        while (row + 1 < how->factor && x[row * how->width + i] < y[i])
            row++;
        dx[row * how->width + i] = dy[i];
    }
}

static void backward(brt_tape *tape, brt_node *node)
{
    const pool *how = node->attributes;
    brt_gradient dx = brt_gradient_open(tape, node->in[0]);
    for (size_t b = 0; dx.data && b < how->batch; b++) {
        memset(dx.data + b * how->block * how->width, 0, first_row(how, 0) * how->width * sizeof(real));
        for (size_t entry = 0; entry < how->entries; entry++) {
            size_t from = (b * how->block + first_row(how, entry)) * how->width;
            size_t to = (b * how->entries + entry) * how->width;
            if (how->pooling == BRT_POOL_MEAN)
                share(brt_tape_kernels(tape), how, node->out[0]->gradient + to, dx.data + from);
            else
                give_to_largest(how, node->in[0]->data + from, node->out[0]->data + to, node->out[0]->gradient + to,
                                dx.data + from);
        }
    }
    brt_gradient_close(tape, node->in[0], dx);
}

static const brt_op op = {.name = "pool", .forward = forward, .backward = backward};

brt_tensor *brt_op_pool(brt_tape *tape, brt_tensor *x, brt_pooling pooling, size_t factor)
{
    pool how = {pooling, x->shape[0], x->shape[1], x->shape[1] / factor, factor, x->shape[2]};
    brt_tensor *y = brt_tape_tensor(tape, BRT_SHAPE(how.batch, how.entries, how.width));
    brt_tape_push(tape, &(brt_node){.op = &op, .in = {x}, .out = {y}, .attributes = &how}, sizeof how);
    return y;
}
