/* y = a | b along the last dimension. */
#include "ops.h"
#include "rows.h"

#include "../base/parallel.h"

#include <string.h>

typedef struct job {
    size_t rows, a_dim, b_dim, group;
    real *a, *b, *y; /* in backward the gradients; a or b NULL: not wanted */
    bool joins;      /* forward */
} job;

static void copy_task(void *context, size_t task, int thread)
{
    const job *j = context;
    size_t end = brt_min_size((task + 1) * j->group, j->rows);
    (void)thread;
    for (size_t r = task * j->group; r < end; r++) {
        real *a = j->a + r * j->a_dim, *b = j->b + r * j->b_dim, *y = j->y + r * (j->a_dim + j->b_dim);
        if (j->joins) {
            memcpy(y, a, j->a_dim * sizeof(real));
            memcpy(y + j->a_dim, b, j->b_dim * sizeof(real));
            continue;
        }
        if (j->a)
            memcpy(a, y, j->a_dim * sizeof(real));
        if (j->b)
            memcpy(b, y + j->a_dim, j->b_dim * sizeof(real));
    }
}

static void run(brt_tape *tape, const brt_node *node, real *a, real *b, real *y, bool joins)
{
    size_t a_dim = node->in[0]->shape[node->in[0]->dims - 1], b_dim = node->in[1]->shape[node->in[1]->dims - 1];
    job j = {node->in[0]->count / a_dim, a_dim, b_dim, brt_row_group(a_dim + b_dim), a, b, y, joins};
    brt_parallel_for(brt_tape_threads(tape), brt_ceil_div(j.rows, j.group), copy_task, &j);
}

static void forward(brt_tape *tape, brt_node *node)
{
    run(tape, node, node->in[0]->data, node->in[1]->data, node->out[0]->data, true);
}

static void backward(brt_tape *tape, brt_node *node)
{
    brt_gradient da = brt_gradient_open(tape, node->in[0]), db = brt_gradient_open(tape, node->in[1]);
    if (brt_tape_running(tape))
        run(tape, node, da.data, db.data, node->out[0]->gradient, false);
    brt_gradient_close(tape, node->in[1], db);
    brt_gradient_close(tape, node->in[0], da);
}

static const brt_op op = {.name = "concat", .forward = forward, .backward = backward};

brt_tensor *brt_op_concat(brt_tape *tape, brt_tensor *a, brt_tensor *b)
{
    size_t shape[BRT_MAX_DIMS], last = a->dims - 1;
    memcpy(shape, a->shape, a->dims * sizeof *shape);
    shape[last] += b->shape[last];
    brt_tensor *y = brt_tape_tensor(tape, a->dims, shape);
    brt_tape_push(tape, &(brt_node){.op = &op, .in = {a, b}, .out = {y}}, 0);
    return y;
}
