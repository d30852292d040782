/* GEGLU (Shazeer 2020) with the exact error function: x = a | g,  y = a * gelu(g),
 * gelu(g) = g * phi(g),  phi(g) = (1 + erf(g / sqrt 2)) / 2;
 * da = dy * gelu(g),  dg = dy * a * (phi(g) + g * exp(-g^2 / 2) / sqrt(2 pi)). */
#include "ops.h"
#include "rows.h"

#include "../base/parallel.h"

typedef struct geglu {
    size_t rows, inner;
} geglu;

typedef struct job {
    const brt_kernels *kernels;
    const geglu *how;
    const real *x, *dy;
    real *y, *dx;
} job;

static void forward_task(void *context, size_t task, int thread)
{
    const job *j = context;
    size_t inner = j->how->inner, group = brt_row_group(2 * inner), first = task * group;
    (void)thread;
    j->kernels->geglu_forward(brt_min_size(group, j->how->rows - first), inner, j->x + first * 2 * inner,
                              j->y + first * inner);
}

static void forward(brt_tape *tape, brt_node *node)
{
    const geglu *how = node->attributes;
    job j = {.kernels = brt_tape_kernels(tape), .how = how, .x = node->in[0]->data, .y = node->out[0]->data};
    brt_parallel_for(brt_tape_threads(tape), brt_ceil_div(how->rows, brt_row_group(2 * how->inner)), forward_task, &j);
}

static void backward_task(void *context, size_t task, int thread)
{
    const job *j = context;
    size_t inner = j->how->inner, group = brt_row_group(2 * inner), first = task * group;
    (void)thread;
    j->kernels->geglu_backward(brt_min_size(group, j->how->rows - first), inner, j->x + first * 2 * inner,
                               j->dy + first * inner, j->dx + first * 2 * inner);
}

static void backward(brt_tape *tape, brt_node *node)
{
    const geglu *how = node->attributes;
    brt_gradient dx = brt_gradient_open_in_place(tape, node->in[0]);
    job j = {.kernels = brt_tape_kernels(tape),
             .how = how,
             .x = node->in[0]->data,
             .dy = node->out[0]->gradient,
             .dx = dx.data};
    if (dx.data)
        brt_parallel_for(brt_tape_threads(tape), brt_ceil_div(how->rows, brt_row_group(2 * how->inner)), backward_task,
                         &j);
    brt_gradient_close(tape, node->in[0], dx);
}

static const brt_op op = {.name = "geglu", .repeatable = true, .forward = forward, .backward = backward};

brt_tensor *brt_op_geglu(brt_tape *tape, brt_tensor *x)
{
    size_t inner = x->shape[x->dims - 1] / 2;
    geglu how = {x->count / (2 * inner) - x->unused, inner};
    brt_tensor *y = brt_tape_tensor(tape, BRT_SHAPE(x->shape[0], x->shape[1], inner));
    y->unused = x->unused;
    brt_tape_push(tape, &(brt_node){.op = &op, .in = {x}, .out = {y}, .attributes = &how}, sizeof how);
    return y;
}
