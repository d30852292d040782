/* y[t] = table[token[t]];  d table[v] = sum of dy[t] over the t with token[t] = v. */
#include "ops.h"
#include "rows.h"

#include "../base/parallel.h"

#include <string.h>

typedef struct embedding {
    const brt_quantized *quantized; /* NULL: the table is in floats */
    const int32_t *tokens;
    size_t count, dim;
} embedding;

typedef struct job {
    const brt_kernels *kernels;
    const embedding *how;
    const real *from;
    real *to;
} job;

static void lookup_task(void *context, size_t task, int thread)
{
    const job *j = context;
    const embedding *how = j->how;
    size_t dim = how->dim, group = brt_row_group(dim);
    size_t end = brt_min_size(how->count, (task + 1) * group);
    (void)thread;
    for (size_t t = task * group; t < end; t++) {
        size_t token = (size_t)how->tokens[t];
        if (how->quantized)
            brt_quantized_widen_row(how->quantized, j->kernels, token, j->to + t * dim);
        else
            memcpy(j->to + t * dim, j->from + token * dim, dim * sizeof(real));
    }
}

static void forward(brt_tape *tape, brt_node *node)
{
    const embedding *how = node->attributes;
    job j = {brt_tape_kernels(tape), how, node->in[0]->data, node->out[0]->data};
    brt_parallel_for(brt_tape_threads(tape), brt_ceil_div(how->count, brt_row_group(how->dim)), lookup_task, &j);
}

enum { columns_per_task = 32 };

/* A task owns columns of the table: positions are summed in order whatever the number of threads. */
static void scatter_task(void *context, size_t task, int thread)
{
    const job *j = context;
    size_t dim = j->how->dim, first = task * columns_per_task;
    size_t end = brt_min_size(dim, first + columns_per_task);
    (void)thread;
    for (size_t t = 0; t < j->how->count; t++) {
        real *row = j->to + (size_t)j->how->tokens[t] * dim;
        for (size_t c = first; c < end; c++)
            row[c] += j->from[t * dim + c];
    }
}

static void backward(brt_tape *tape, brt_node *node)
{
    const embedding *how = node->attributes;
    real *dtable = brt_gradient_accumulate(tape, node->in[0]);
    if (!dtable || !brt_tape_running(tape))
        return;
    job j = {brt_tape_kernels(tape), how, node->out[0]->gradient, dtable};
    brt_parallel_for(brt_tape_threads(tape), brt_ceil_div(how->dim, columns_per_task), scatter_task, &j);
}

static const brt_op op = {.name = "embedding", .forward = forward, .backward = backward};

brt_tensor *brt_op_embedding(brt_tape *tape, const brt_table *table, const int32_t *tokens, size_t batch, size_t time)
{
    size_t dim = table->rows->shape[1];
    brt_tensor *y = brt_tape_tensor(tape, BRT_SHAPE(batch, time, dim));
    embedding how = {table->quantized, tokens, batch * time, dim};
    brt_tape_push(tape, &(brt_node){.op = &op, .in = {table->rows}, .out = {y}, .attributes = &how}, sizeof how);
    return y;
}
