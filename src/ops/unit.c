/* Heads of length 1, for attention by cosines (Henry et al. 2020): y = scale * x / sqrt(x . x + 1e-6) for the vector of
 * each head, scale one number per head, or none. The kernel holds the gradients. */
#include "ops.h"

#include "../base/parallel.h"
#include "../base/size.h"

#include <string.h>

enum { most_groups = 32 }; /* partial sums of the scale's gradient; a fixed number, so a fixed order */

static const real epsilon = (real)1e-6;

typedef struct job {
    const brt_kernels *kernels;
    size_t rows, heads, dim, group; /* group: rows of a task */
    const real *x, *scale, *dy;
    real *y, *dx, *dscale; /* dscale: [groups, heads], or NULL */
} job;

static void forward_task(void *context, size_t task, int thread)
{
    const job *j = context;
    size_t first = task * j->group, at = first * j->heads * j->dim;
    (void)thread;
    j->kernels->unit_forward(brt_min_size(j->group, j->rows - first), j->heads, j->dim, j->x + at, j->scale, epsilon,
                             j->y + at);
}

static void backward_task(void *context, size_t task, int thread)
{
    const job *j = context;
    size_t first = task * j->group, at = first * j->heads * j->dim;
    real *dscale = j->dscale ? j->dscale + task * j->heads : NULL;
    (void)thread;
    if (dscale)
        memset(dscale, 0, j->heads * sizeof *dscale);
    j->kernels->unit_backward(brt_min_size(j->group, j->rows - first), j->heads, j->dim, j->x + at, j->scale, epsilon,
                              j->dy + at, j->dx + at, dscale);
}

static job make_job(brt_tape *tape, const brt_node *node)
{
    const brt_tensor *x = node->in[0];
    size_t heads = *(const size_t *)node->attributes, width = x->shape[x->dims - 1], rows = x->count / width;
    return (job){.kernels = brt_tape_kernels(tape),
                 .rows = rows,
                 .heads = heads,
                 .dim = width / heads,
                 .group = brt_ceil_div(rows, most_groups),
                 .x = x->data,
                 .scale = node->in[1] ? node->in[1]->data : NULL};
}

static void forward(brt_tape *tape, brt_node *node)
{
    job j = make_job(tape, node);
    j.y = node->out[0]->data;
    brt_parallel_for(brt_tape_threads(tape), brt_ceil_div(j.rows, j.group), forward_task, &j);
}

static void backward(brt_tape *tape, brt_node *node)
{
    job j = make_job(tape, node);
    size_t groups = brt_ceil_div(j.rows, j.group);
    brt_gradient dx = brt_gradient_open(tape, node->in[0]);
    real *dscale = node->in[1] ? brt_gradient_accumulate(tape, node->in[1]) : NULL;
    brt_tensor *partial = brt_scratch(tape, groups * j.heads);
    /* Room for a gradient that nobody wants. */
    brt_tensor *no_dx = node->in[0]->wants_gradient ? NULL : brt_scratch(tape, node->in[0]->count);
    if (brt_tape_running(tape)) {
        j.dy = node->out[0]->gradient;
        j.dx = no_dx ? no_dx->data : dx.data;
        j.dscale = dscale ? partial->data : NULL;
        brt_parallel_for(brt_tape_threads(tape), groups, backward_task, &j);
        for (size_t i = 0; dscale && i < groups; i++)
            j.kernels->add(j.heads, partial->data + i * j.heads, dscale);
    }
    if (no_dx)
        brt_scratch_free(tape, no_dx);
    brt_scratch_free(tape, partial);
    brt_gradient_close(tape, node->in[0], dx);
}

static const brt_op op = {.name = "unit", .forward = forward, .backward = backward};

brt_tensor *brt_op_unit(brt_tape *tape, brt_tensor *x, size_t heads, brt_tensor *scale)
{
    brt_tensor *y = brt_tape_tensor(tape, x->dims, x->shape);
    brt_tape_push(tape, &(brt_node){.op = &op, .in = {x, scale}, .out = {y}, .attributes = &heads}, sizeof heads);
    return y;
}
