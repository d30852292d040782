/* loss[b] = mean of (x[b] - target[b])^2;  dx = weight * 2 (x - target) / count, count being that of a row. */
#include "compression.h"

#include "../base/parallel.h"

typedef struct squared_error {
    size_t batch, count;
    real weight;
} squared_error;

typedef struct job {
    const squared_error *how;
    const real *x, *target;
    real *loss; /* forward */
    real *dx;   /* backward */
} job;

static void forward_task(void *context, size_t task, int thread)
{
    const job *j = context;
    size_t count = j->how->count, first = task * count;
    double sum = 0;
    (void)thread;
    for (size_t i = first; i < first + count; i++)
        sum += (double)((j->x[i] - j->target[i]) * (j->x[i] - j->target[i]));
    j->loss[task] = (real)(sum / (double)count);
}

static void backward_task(void *context, size_t task, int thread)
{
    const job *j = context;
    size_t count = j->how->count, first = task * count;
    real factor = 2 * j->how->weight / (real)count;
    (void)thread;
    for (size_t i = first; i < first + count; i++)
        j->dx[i] = factor * (j->x[i] - j->target[i]);
}

static void forward(brt_tape *tape, brt_node *node)
{
    const squared_error *how = node->attributes;
    job j = {how, node->in[0]->data, node->in[1]->data, node->out[0]->data, NULL};
    brt_parallel_for(brt_tape_threads(tape), how->batch, forward_task, &j);
}

static void backward(brt_tape *tape, brt_node *node)
{
    const squared_error *how = node->attributes;
    brt_gradient dx = brt_gradient_open(tape, node->in[0]);
    job j = {how, node->in[0]->data, node->in[1]->data, NULL, dx.data};
    if (dx.data)
        brt_parallel_for(brt_tape_threads(tape), how->batch, backward_task, &j);
    brt_gradient_close(tape, node->in[0], dx);
}

static const brt_op op = {.name = "squared error", .forward = forward, .backward = backward, .starts_backward = true};

brt_tensor *brt_op_squared_error(brt_tape *tape, brt_tensor *x, brt_tensor *target, real weight)
{
    squared_error how = {x->shape[0], x->count / x->shape[0], weight};
    brt_tensor *loss = brt_tape_tensor(tape, BRT_SHAPE(how.batch));
    brt_tape_push(tape, &(brt_node){.op = &op, .in = {x, target}, .out = {loss}, .attributes = &how}, sizeof how);
    return loss;
}
