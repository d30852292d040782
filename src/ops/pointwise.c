#include "pointwise.h"

#include "../base/parallel.h"
#include "../base/size.h"

enum { part_reals = 1 << 13 }; /* of one task: a part of each operand stays in the second-level cache */

typedef struct job {
    const brt_kernels *kernels;
    const brt_pointwise *what;
    const brt_node *node;
    real *dx[BRT_MOST_OPERANDS];
} job;

static job make_job(brt_tape *tape, const brt_node *node)
{
    return (job){.kernels = brt_tape_kernels(tape),
                 .what = *(const brt_pointwise *const *)node->attributes,
                 .node = node};
}

static size_t task_count(const brt_node *node)
{
    return brt_ceil_div(node->out[0]->count, part_reals);
}

/* Of the operands from `first` on. */
static void point_at(const job *j, size_t first, const real **x)
{
    for (size_t i = 0; i < j->what->operands; i++)
        x[i] = j->node->in[i]->data + first;
}

static void forward_task(void *context, size_t task, int thread)
{
    const job *j = context;
    const brt_tensor *y = j->node->out[0];
    size_t first = task * part_reals;
    const real *x[BRT_MOST_OPERANDS];
    (void)thread;
    point_at(j, first, x);
    j->what->forward(j->kernels, brt_min_size(part_reals, y->count - first), x, y->data + first);
}

void brt_pointwise_forward(brt_tape *tape, brt_node *node)
{
    job j = make_job(tape, node);
    brt_parallel_for(brt_tape_threads(tape), task_count(node), forward_task, &j);
}

static void backward_task(void *context, size_t task, int thread)
{
    const job *j = context;
    const brt_tensor *y = j->node->out[0];
    size_t first = task * part_reals;
    const real *x[BRT_MOST_OPERANDS];
    real *dx[BRT_MOST_OPERANDS];
    (void)thread;
    point_at(j, first, x);
    for (size_t i = 0; i < j->what->operands; i++)
        dx[i] = j->dx[i] + first;
    j->what->backward(j->kernels, brt_min_size(part_reals, y->count - first), x, y->data + first, y->gradient + first,
                      dx);
}

void brt_pointwise_backward(brt_tape *tape, brt_node *node)
{
    job j = make_job(tape, node);
    brt_gradient gradient[BRT_MOST_OPERANDS];
    brt_tensor *unwanted[BRT_MOST_OPERANDS]; /* room for a gradient that nobody wants */
    for (size_t i = 0; i < j.what->operands; i++) {
        gradient[i] = brt_gradient_open(tape, node->in[i]);
        unwanted[i] = node->in[i]->wants_gradient ? NULL : brt_scratch(tape, node->in[i]->count);
        j.dx[i] = unwanted[i] ? unwanted[i]->data : gradient[i].data;
    }
    if (brt_tape_running(tape))
        brt_parallel_for(brt_tape_threads(tape), task_count(node), backward_task, &j);
    for (size_t i = j.what->operands; i-- > 0;) {
        if (unwanted[i])
            brt_scratch_free(tape, unwanted[i]);
        brt_gradient_close(tape, node->in[i], gradient[i]);
    }
}

brt_tensor *brt_pointwise_push(brt_tape *tape, const brt_pointwise *what, brt_tensor *const *operands)
{
    brt_node node = {.op = what->op, .attributes = &what};
    for (size_t i = 0; i < what->operands; i++)
        node.in[i] = operands[i];
    node.out[0] = brt_tape_tensor(tape, operands[0]->dims, operands[0]->shape);
    brt_tape_push(tape, &node, sizeof what);
    return node.out[0];
}
