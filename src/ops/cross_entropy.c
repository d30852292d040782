/* loss[t] = log(sum of exp(logits[t])) - logits[t][target[t]], 0 where target[t] is ignored.
 * d logits[t] = weight * (softmax(logits[t]) - onehot(target[t])). Nothing reads the logits after the loss, so the
 * gradient is computed with it, in their place: a vocabulary-wide matrix less. */
#include "ops.h"
#include "rows.h"

#include "../base/parallel.h"

typedef struct cross_entropy {
    const int32_t *targets;
    int32_t ignore;
    real weight;
    bool gradient;
    size_t rows, classes;
} cross_entropy;

typedef struct job {
    const brt_kernels *kernels;
    const cross_entropy *how;
    real *logits, *loss;
} job;

static void forward_task(void *context, size_t task, int thread)
{
    const job *j = context;
    const cross_entropy *how = j->how;
    size_t group = brt_row_group(how->classes), first = task * group;
    (void)thread;
    j->kernels->cross_entropy(brt_min_size(group, how->rows - first), how->classes, how->targets + first, how->ignore,
                              how->gradient, how->weight, j->logits + first * how->classes, j->loss + first);
}

static void forward(brt_tape *tape, brt_node *node)
{
    const cross_entropy *how = node->attributes;
    job j = {brt_tape_kernels(tape), how, node->in[0]->data, node->out[0]->data};
    brt_parallel_for(brt_tape_threads(tape), brt_ceil_div(how->rows, brt_row_group(how->classes)), forward_task, &j);
}

static void backward(brt_tape *tape, brt_node *node)
{
    brt_tensor *logits = node->in[0];
    (void)tape;
    /* The logits' memory, which the tape frees with them, now holds their gradient. */
    logits->gradient = logits->data;
    logits->has_gradient = true;
}

static const brt_op op = {.name = "cross_entropy", .forward = forward, .backward = backward, .starts_backward = true};

brt_tensor *brt_op_cross_entropy(brt_tape *tape, brt_tensor *logits, const int32_t *targets, int32_t ignore,
                                 real weight)
{
    size_t classes = logits->shape[logits->dims - 1], rows = logits->count / classes;
    cross_entropy how = {targets, ignore, weight, brt_tape_recording(tape), rows, classes};
    brt_tensor *loss = brt_tape_tensor(tape, BRT_SHAPE(rows));
    brt_tape_push(tape, &(brt_node){.op = &op, .in = {logits}, .out = {loss}, .attributes = &how}, sizeof how);
    return loss;
}
