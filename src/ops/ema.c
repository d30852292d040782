/* The fixed gate of the state (Hutchins et al. 2022, "fixed"), as the reference has it: a learned
 * exponential moving average per channel, g = sigmoid(beta):
 *   y = g * z + (1 - g) * state
 *   dz = g * dy,  d state = (1 - g) * dy,  d beta = g * (1 - g) * sum of (z - state) * dy */
#include "ops.h"

#include "../base/parallel.h"
#include "../base/size.h"

#include <string.h>

enum { most_groups = 32 };

typedef struct job {
    const brt_kernels *kernels;
    const brt_node *node;
    real *dz, *dstate, *dbeta; /* dbeta: [groups, dim] */
    size_t rows, dim, group;
} job;

static void forward_task(void *context, size_t task, int thread)
{
    const job *j = context;
    size_t first = task * j->group, rows = brt_min_size(j->group, j->rows - first), at = first * j->dim;
    (void)thread;
    j->kernels->ema_forward(rows, j->dim, j->node->in[0]->data, j->node->in[1]->data + at, j->node->in[2]->data + at,
                            j->node->out[0]->data + at);
}

static void backward_task(void *context, size_t task, int thread)
{
    const job *j = context;
    size_t first = task * j->group, rows = brt_min_size(j->group, j->rows - first), at = first * j->dim;
    real *dbeta = j->dbeta + task * j->dim;
    (void)thread;
    memset(dbeta, 0, j->dim * sizeof *dbeta);
    j->kernels->ema_backward(rows, j->dim, j->node->in[0]->data, j->node->in[1]->data + at,
                             j->node->in[2]->data + at, j->node->out[0]->gradient + at, j->dz + at, j->dstate + at,
                             dbeta);
}

static job make_job(brt_tape *tape, const brt_node *node)
{
    size_t dim = node->in[0]->count, rows = node->in[1]->count / dim;
    return (job){.kernels = brt_tape_kernels(tape),
                 .node = node,
                 .rows = rows,
                 .dim = dim,
                 .group = brt_ceil_div(rows, most_groups)};
}

static void forward(brt_tape *tape, brt_node *node)
{
    job j = make_job(tape, node);
    brt_parallel_for(brt_tape_threads(tape), brt_ceil_div(j.rows, j.group), forward_task, &j);
}

static void backward(brt_tape *tape, brt_node *node)
{
    job j = make_job(tape, node);
    size_t groups = brt_ceil_div(j.rows, j.group);
    real *dbeta = brt_gradient_accumulate(tape, node->in[0]);
    brt_gradient dz = brt_gradient_open(tape, node->in[1]), dstate = brt_gradient_open(tape, node->in[2]);
    brt_tensor *partial = brt_scratch(tape, groups * j.dim);
    /* Room for a gradient that nobody wants. */
    brt_tensor *no_dz = node->in[1]->wants_gradient ? NULL : brt_scratch(tape, node->in[1]->count);
    brt_tensor *no_dstate = node->in[2]->wants_gradient ? NULL : brt_scratch(tape, node->in[2]->count);
    if (brt_tape_running(tape)) {
        j.dz = no_dz ? no_dz->data : dz.data;
        j.dstate = no_dstate ? no_dstate->data : dstate.data;
        j.dbeta = partial->data;
        brt_parallel_for(brt_tape_threads(tape), groups, backward_task, &j);
        for (size_t i = 0; dbeta && i < groups; i++)
            j.kernels->add(j.dim, partial->data + i * j.dim, dbeta);
    }
    if (no_dstate)
        brt_scratch_free(tape, no_dstate);
    if (no_dz)
        brt_scratch_free(tape, no_dz);
    brt_scratch_free(tape, partial);
    brt_gradient_close(tape, node->in[2], dstate);
    brt_gradient_close(tape, node->in[1], dz);
}

static const brt_op op = {.name = "ema", .forward = forward, .backward = backward};

brt_tensor *brt_op_ema(brt_tape *tape, brt_tensor *beta, brt_tensor *z, brt_tensor *state)
{
    brt_tensor *y = brt_tape_tensor(tape, state->dims, state->shape);
    brt_tape_push(tape, &(brt_node){.op = &op, .in = {beta, z, state}, .out = {y}}, 0);
    return y;
}
