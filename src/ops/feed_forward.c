/* The feed-forward of a layer with GEGLU (Shazeer 2020) and the exact error function:
 *   h = x W1^T = a | g,  z = a * gelu(g),  y = z W2^T + residual,  gelu(g) = g * phi(g),  phi(g) = (1 + erf(g / sqrt 2)) / 2
 *   dz = dy W2,  dW2 = dy^T z,  da = dz * gelu(g),  dg = dz * a * (phi(g) + g * exp(-g^2 / 2) / sqrt(2 pi))
 *   dx = dh W1,  dW1 = dh^T x.
 * Rows are taken `chunk` at a time, so that what a product leaves to the next stays in the third-level cache. h alone is
 * kept for backward, which computes z again and puts dh in the place of h. */
#include "ops.h"
#include "product.h"
#include "rows.h"

#include "../base/parallel.h"

enum { chunk = 1024 };

typedef struct feed_forward {
    brt_linear in, out;
    size_t rows, dim, inner;
    brt_tensor *z; /* [chunk, inner], of forward alone */
} feed_forward;

enum { x_input, in_input, out_input, residual_input };

static size_t rows_of_chunk(const feed_forward *how)
{
    return brt_min_size(chunk, how->rows);
}

/* ---- the middle ---------------------------------------------------------------------------------------------- */

typedef struct job {
    const brt_kernels *kernels;
    size_t rows, inner;
    real *h, *z;    /* [rows, 2 * inner], [rows, inner] */
    const real *dz; /* NULL forward */
} job;

static void middle_task(void *context, size_t task, int thread)
{
    const job *j = context;
    size_t inner = j->inner, group = brt_row_group(2 * inner), first = task * group;
    size_t rows = brt_min_size(group, j->rows - first);
    real *h = j->h + first * 2 * inner;
    (void)thread;
    if (j->dz)
        j->kernels->geglu_backward(rows, inner, h, j->dz + first * inner, h);
    else
        j->kernels->geglu_forward(rows, inner, h, j->z + first * inner);
}

static void run_middle(brt_tape *tape, const job *j)
{
    brt_parallel_for(brt_tape_threads(tape), brt_ceil_div(j->rows, brt_row_group(2 * j->inner)), middle_task,
                     (void *)j);
}

/* z of so many rows of h */
static void gate(brt_tape *tape, const feed_forward *how, size_t rows, real *h, real *z)
{
    run_middle(tape, &(job){brt_tape_kernels(tape), rows, how->inner, h, z, NULL});
}

/* dh in the place of h */
static void gate_backward(brt_tape *tape, const feed_forward *how, size_t rows, real *h, const real *dz)
{
    run_middle(tape, &(job){brt_tape_kernels(tape), rows, how->inner, h, NULL, dz});
}

/* ---- the operation ------------------------------------------------------------------------------------------- */

static void forward(brt_tape *tape, brt_node *node)
{
    const feed_forward *how = node->attributes;
    const real *x = node->in[x_input]->data, *residual = node->in[residual_input] ? node->in[residual_input]->data : NULL;
    real *y = node->out[0]->data, *h = node->out[1]->data, *z = how->z->data;
    for (size_t first = 0; first < how->rows; first += chunk) {
        size_t rows = brt_min_size(chunk, how->rows - first);
        real *here = h + first * 2 * how->inner;
        brt_product(tape, &how->in, rows, x + first * how->dim, NULL, here);
        gate(tape, how, rows, here, z);
        brt_product(tape, &how->out, rows, z, residual ? residual + first * how->dim : NULL, y + first * how->dim);
    }
}

/* Gradients that are wanted, NULL where not, and room. */
typedef struct gradients {
    real *dx, *din, *dout;
    bool dx_accumulates;
    real *z, *dz; /* [chunk, inner] */
    real *room;   /* for gradients of weights */
} gradients;

static void chunk_backward(brt_tape *tape, const brt_node *node, size_t first, const gradients *to)
{
    const feed_forward *how = node->attributes;
    size_t rows = brt_min_size(chunk, how->rows - first);
    int threads = brt_tape_threads(tape);
    bool bf16 = brt_tape_has_bf16(tape);
    const real *x = node->in[x_input]->data + first * how->dim, *dy = node->out[0]->gradient + first * how->dim;
    real *h = node->out[1]->data + first * 2 * how->inner;
    gate(tape, how, rows, h, to->z);
    if (to->dout)
        brt_matrix_weight_gradient(how->out.matrix, threads, bf16, rows, dy, to->z, to->dout, to->room);
    brt_matrix_input_gradient(how->out.matrix, threads, bf16, rows, dy, to->dz, false);
    gate_backward(tape, how, rows, h, to->dz);
    if (to->din)
        brt_matrix_weight_gradient(how->in.matrix, threads, bf16, rows, h, x, to->din, to->room);
    if (to->dx)
        brt_matrix_input_gradient(how->in.matrix, threads, bf16, rows, h, to->dx + first * how->dim,
                                  to->dx_accumulates);
}

static void backward(brt_tape *tape, brt_node *node)
{
    const feed_forward *how = node->attributes;
    brt_tensor *x = node->in[x_input];
    int threads = brt_tape_threads(tape);
    size_t room = brt_max_size(brt_matrix_gradient_room(how->in.matrix, threads),
                               brt_matrix_gradient_room(how->out.matrix, threads));
    gradients to = {.dx_accumulates = x->has_gradient};
    to.dx = brt_gradient_reach(tape, x);
    to.din = brt_gradient_accumulate(tape, node->in[in_input]);
    to.dout = brt_gradient_accumulate(tape, node->in[out_input]);
    brt_tensor *scratch = brt_scratch(tape, room + 2 * rows_of_chunk(how) * how->inner);
    to.room = scratch->data;
    if (brt_tape_running(tape)) {
        to.z = to.room + room;
        to.dz = to.z + rows_of_chunk(how) * how->inner;
        for (size_t first = 0; first < how->rows; first += chunk)
            chunk_backward(tape, node, first, &to);
    }
    brt_scratch_free(tape, scratch);
    if (node->in[residual_input])
        brt_gradient_hand_on(tape, node->out[0], node->in[residual_input]);
}

static const brt_op op = {.name = "feed_forward", .forward = forward, .backward = backward};

brt_tensor *brt_op_feed_forward(brt_tape *tape, brt_tensor *x, const brt_linear *in, const brt_linear *out,
                                brt_tensor *residual)
{
    size_t dim = x->shape[x->dims - 1], inner = out->weight->shape[1];
    feed_forward how = {.in = *in, .out = *out, .rows = x->count / dim - x->unused, .dim = dim, .inner = inner};
    brt_tensor *y = brt_tape_tensor(tape, x->dims, x->shape);
    brt_tensor *h = brt_tape_tensor(tape, BRT_SHAPE(x->count / dim, 2 * inner));
    y->unused = x->unused;
    how.z = brt_scratch(tape, brt_min_size(chunk, x->count / dim) * inner);
    brt_tape_push(tape,
                  &(brt_node){.op = &op,
                              .in = {x, in->weight, out->weight, residual},
                              .out = {y, h},
                              .attributes = &how,
                              .flops = 6 * how.rows * dim * inner,
                              .backward_flops = 12 * how.rows * dim * inner},
                  sizeof how);
    brt_scratch_free(tape, how.z);
    return y;
}
