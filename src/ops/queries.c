/* Queries of an attention, one vector per head: y = turn(scale * x / max(|x|, 1e-12), position). The normalisation is
 * that of qk-rmsnorm layers, the turn is rotary + xPos; either may be absent. The kernel holds the formulas. Heads that
 * share a head of keys are put together. */
#include "ops.h"

#include "../base/parallel.h"
#include "../base/size.h"

#include <string.h>

typedef struct queries {
    brt_rotation rotation;
    bool turned;
    size_t positions, time, first; /* positions = batch * time */
    size_t part, parts;            /* positions of a part; parts of `time` */
    size_t key_heads, heads, dim_head; /* heads: of one key head */
} queries;

enum { most_groups = 32 }; /* partial sums of the scale's gradient; a fixed number, so a fixed order */

typedef struct job {
    const brt_kernels *kernels;
    const queries *how;
    const real *x, *scale, *dy;
    real *y, *dx, *dscale; /* dscale: [groups, dim_head] or NULL */
    size_t group;          /* positions of a task */
} job;

static const real *table_row(const queries *how, const real *table, size_t t)
{
    return how->turned ? table + (how->first + t % how->time) * how->dim_head : NULL;
}

/* Of position t (of batch * time) and a key head in y, [batch, parts, key_heads, part, heads, dim_head]. */
static size_t out_offset(const queries *how, size_t t, size_t key_head)
{
    size_t in_row = t % how->time, row = t / how->time * how->parts + in_row / how->part;
    return ((row * how->key_heads + key_head) * how->part + in_row % how->part) * how->heads * how->dim_head;
}

static void forward_task(void *context, size_t task, int thread)
{
    const job *j = context;
    const queries *how = j->how;
    size_t end = brt_min_size((task + 1) * j->group, how->positions), width = how->heads * how->dim_head;
    (void)thread;
    for (size_t t = task * j->group; t < end; t++)
        for (size_t g = 0; g < how->key_heads; g++)
            j->kernels->rotary_forward(how->heads, how->dim_head, j->x + (t * how->key_heads + g) * width,
                                       how->dim_head, j->scale, table_row(how, how->rotation.query_cosine, t),
                                       table_row(how, how->rotation.query_sine, t), j->y + out_offset(how, t, g),
                                       how->dim_head);
}

static void backward_task(void *context, size_t task, int thread)
{
    const job *j = context;
    const queries *how = j->how;
    size_t end = brt_min_size((task + 1) * j->group, how->positions), width = how->heads * how->dim_head;
    real *dscale = j->dscale ? j->dscale + task * how->dim_head : NULL;
    (void)thread;
    if (dscale)
        memset(dscale, 0, how->dim_head * sizeof *dscale);
    for (size_t t = task * j->group; t < end; t++)
        for (size_t g = 0; g < how->key_heads; g++) {
            size_t at = (t * how->key_heads + g) * width;
            j->kernels->rotary_backward(how->heads, how->dim_head, j->x + at, how->dim_head, j->scale,
                                        table_row(how, how->rotation.query_cosine, t),
                                        table_row(how, how->rotation.query_sine, t), j->dy + out_offset(how, t, g),
                                        how->dim_head, j->dx + at, how->dim_head, dscale);
        }
}

static job make_job(brt_tape *tape, const brt_node *node)
{
    const queries *how = node->attributes;
    return (job){.kernels = brt_tape_kernels(tape),
                 .how = how,
                 .x = node->in[0]->data,
                 .scale = node->in[1] ? node->in[1]->data : NULL,
                 .group = brt_ceil_div(how->positions, most_groups)};
}

static void forward(brt_tape *tape, brt_node *node)
{
    job j = make_job(tape, node);
    j.y = node->out[0]->data;
    if (j.how->parts * j.how->part > j.how->time)
        memset(j.y, 0, node->out[0]->count * sizeof *j.y);
    brt_parallel_for(brt_tape_threads(tape), brt_ceil_div(j.how->positions, j.group), forward_task, &j);
}

static void backward(brt_tape *tape, brt_node *node)
{
    job j = make_job(tape, node);
    size_t groups = brt_ceil_div(j.how->positions, j.group), dim_head = j.how->dim_head;
    brt_gradient dx = brt_gradient_open(tape, node->in[0]);
    real *dscale = node->in[1] ? brt_gradient_accumulate(tape, node->in[1]) : NULL;
    brt_tensor *partial = brt_scratch(tape, groups * dim_head);
    /* Room for a gradient that nobody wants. */
    brt_tensor *no_dx = node->in[0]->wants_gradient ? NULL : brt_scratch(tape, node->in[0]->count);
    if (brt_tape_running(tape)) {
        j.dy = node->out[0]->gradient;
        j.dx = no_dx ? no_dx->data : dx.data;
        j.dscale = dscale ? partial->data : NULL;
        brt_parallel_for(brt_tape_threads(tape), groups, backward_task, &j);
        for (size_t i = 0; dscale && i < groups; i++)
            j.kernels->add(dim_head, partial->data + i * dim_head, dscale);
    }
    if (no_dx)
        brt_scratch_free(tape, no_dx);
    brt_scratch_free(tape, partial);
    brt_gradient_close(tape, node->in[0], dx);
}

static const brt_op op = {.name = "queries", .repeatable = true, .forward = forward, .backward = backward};

static brt_tensor *push(brt_tape *tape, brt_tensor *x, brt_tensor *scale, const queries *how)
{
    size_t rows = x->shape[0] * how->parts * how->key_heads;
    brt_tensor *y = brt_tape_tensor(tape, BRT_SHAPE(rows, how->part, how->heads, how->dim_head));
    brt_tape_push(tape, &(brt_node){.op = &op, .in = {x, scale}, .out = {y}, .attributes = (void *)how}, sizeof *how);
    return y;
}

brt_tensor *brt_op_queries(brt_tape *tape, brt_tensor *x, size_t key_heads, size_t heads, brt_tensor *scale,
                           const brt_rotation *rotation, size_t position)
{
    size_t batch = x->shape[0], time = x->shape[1];
    queries how = {.positions = batch * time,
                   .time = time,
                   .first = position,
                   .part = time,
                   .parts = 1,
                   .key_heads = key_heads,
                   .heads = heads,
                   .dim_head = x->shape[2] / (key_heads * heads)};
    if (rotation) {
        how.rotation = *rotation;
        how.turned = true;
    }
    return push(tape, x, scale, &how);
}

brt_tensor *brt_op_queries_in_parts(brt_tape *tape, brt_tensor *x, size_t part, size_t key_heads, size_t heads,
                                    brt_tensor *scale)
{
    size_t batch = x->shape[0], time = x->shape[1];
    return push(tape, x, scale,
                &(queries){.positions = batch * time,
                           .time = time,
                           .part = part,
                           .parts = brt_ceil_div(time, part),
                           .key_heads = key_heads,
                           .heads = heads,
                           .dim_head = x->shape[2] / (key_heads * heads)});
}
