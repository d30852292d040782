/* LayerNorm with a gain and no bias (Ba et al. 2016), over the last dimension:
 *   n = (x - mean) * rstd,  y = n * gain,  rstd = 1 / sqrt(variance + epsilon)
 *   d gain = sum over rows of dy * n
 *   dx = rstd * (g - mean(g) - n * mean(g * n)),  g = dy * gain
 * RMSNorm (Zhang & Sennrich 2019) is the same without the mean: of x, of its squares' centre, and of g. */
#include "ops.h"
#include "rows.h"

#include "../base/parallel.h"

#include <string.h>

enum { most_gain_groups = 32 }; /* partial sums of the gain's gradient; a fixed number, so a fixed order */

typedef struct norm {
    size_t rows, dim;
    bool centred; /* LayerNorm */
    real epsilon;
} norm;

typedef struct job {
    const brt_kernels *kernels;
    const norm *how;
    brt_node *node;
    real *dx, *dgain; /* dgain: [groups, dim] */
    size_t group;     /* rows of a task */
} job;

static void forward_task(void *context, size_t task, int thread)
{
    const job *j = context;
    size_t dim = j->how->dim, first = task * j->group, rows = brt_min_size(j->group, j->how->rows - first);
    const brt_node *node = j->node;
    (void)thread;
    j->kernels->norm_forward(rows, dim, node->in[0]->data + first * dim, node->in[1]->data, j->how->centred,
                             j->how->epsilon, node->out[0]->data + first * dim, node->out[1]->data + first,
                             node->out[2]->data + first);
}

static void forward(brt_tape *tape, brt_node *node)
{
    const norm *how = node->attributes;
    job j = {.kernels = brt_tape_kernels(tape), .how = how, .node = node, .group = brt_row_group(how->dim)};
    brt_parallel_for(brt_tape_threads(tape), brt_ceil_div(how->rows, j.group), forward_task, &j);
}

static void backward_task(void *context, size_t task, int thread)
{
    const job *j = context;
    size_t dim = j->how->dim, first = task * j->group, rows = brt_min_size(j->group, j->how->rows - first);
    const brt_node *node = j->node;
    real *dgain = j->dgain + task * dim;
    (void)thread;
    memset(dgain, 0, dim * sizeof *dgain);
    j->kernels->norm_backward(rows, dim, node->in[0]->data + first * dim, node->in[1]->data, j->how->centred,
                              node->out[1]->data + first, node->out[2]->data + first,
                              node->out[0]->gradient + first * dim, j->dx ? j->dx + first * dim : NULL, dgain);
}

static void backward(brt_tape *tape, brt_node *node)
{
    const norm *how = node->attributes;
    size_t group = brt_ceil_div(how->rows, most_gain_groups), groups = brt_ceil_div(how->rows, group);
    real *dx = brt_gradient_accumulate(tape, node->in[0]);
    real *dgain = brt_gradient_accumulate(tape, node->in[1]);
    brt_tensor *partial = brt_scratch(tape, groups * how->dim);
    if (brt_tape_running(tape)) {
        const brt_kernels *kernels = brt_tape_kernels(tape);
        job j = {kernels, how, node, dx, partial->data, group};
        brt_parallel_for(brt_tape_threads(tape), groups, backward_task, &j);
        for (size_t i = 0; dgain && i < groups; i++)
            kernels->add(how->dim, partial->data + i * how->dim, dgain);
    }
    brt_scratch_free(tape, partial);
}

static brt_tensor *push(brt_tape *tape, const brt_op *op, brt_tensor *x, brt_tensor *gain, bool centred, real epsilon)
{
    norm how = {x->count / gain->count, gain->count, centred, epsilon};
    brt_tensor *y = brt_tape_tensor(tape, x->dims, x->shape);
    brt_tensor *mean = brt_tape_tensor(tape, BRT_SHAPE(how.rows));
    brt_tensor *rstd = brt_tape_tensor(tape, BRT_SHAPE(how.rows));
    brt_tape_push(tape, &(brt_node){.op = op, .in = {x, gain}, .out = {y, mean, rstd}, .attributes = &how},
                  sizeof how);
    return y;
}

static const brt_op layer_norm = {.name = "layer_norm", .repeatable = true, .forward = forward, .backward = backward};

brt_tensor *brt_op_layer_norm(brt_tape *tape, brt_tensor *x, brt_tensor *gain)
{
    return push(tape, &layer_norm, x, gain, true, (real)1e-5);
}

static const brt_op rms_norm = {.name = "rms_norm", .repeatable = true, .forward = forward, .backward = backward};

brt_tensor *brt_op_rms_norm(brt_tape *tape, brt_tensor *x, brt_tensor *gain)
{
    return push(tape, &rms_norm, x, gain, false, (real)1e-6);
}
