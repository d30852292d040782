/* The feed-forward of a layer with GEGLU (Shazeer 2020) and the exact error function:
 *   h = x W1^T = a | g,  z = a * gelu(g),  y = z W2^T + residual,
 *   gelu(g) = g * phi(g),  phi(g) = (1 + erf(g / sqrt 2)) / 2
 *   dz = dy W2,  dW2 = dy^T z,  da = dz * gelu(g),  dg = dz * a * (phi(g) + g * exp(-g^2 / 2) / sqrt(2 pi))
 *   dx = dh W1,  dW1 = dh^T x.
 * Rows are taken `chunk` at a time, so that what a product leaves to the next stays in the third-level cache. h alone
 * is kept for backward, which computes z again: in bf16 on a tape that uses it (forward's z is that of h as it was),
 * else in f32. */
#include "ops.h"
#include "product.h"
#include "rows.h"

#include "../base/parallel.h"

enum { chunk = 512 };

typedef struct feed_forward {
    brt_linear in, out;
    size_t rows, dim, inner;
    bool rounds;       /* h is kept in bf16 */
    brt_tensor *h, *z; /* [chunk, 2 * inner] (NULL where h is kept in f32) and [chunk, inner], of forward alone */
} feed_forward;

enum { x_input, in_input, out_input, residual_input };
enum { y_output, kept_output };

/* ---- what is kept -------------------------------------------------------------------------------------------- */

/* h from row `first` on in bf16; NULL where it is not kept, or in f32. */
static uint16_t *rounded_h(const brt_node *node, size_t first)
{
    const feed_forward *how = node->attributes;
    const brt_tensor *kept = node->out[kept_output];
    return kept && how->rounds ? (uint16_t *)(void *)kept->data + first * 2 * how->inner : NULL;
}

/* The same in f32, where the chunk's h is computed; it is in `room` where it is not kept so. */
static real *h_of_chunk(const brt_node *node, size_t first, real *room)
{
    const feed_forward *how = node->attributes;
    const brt_tensor *kept = node->out[kept_output];
    return kept && !how->rounds ? kept->data + first * 2 * how->inner : room;
}

/* ---- the middle ---------------------------------------------------------------------------------------------- */

/* Of a chunk: h and rounded [rows, 2 * inner], z [rows, inner]. */
typedef struct middle {
    const brt_kernels *kernels;
    size_t rows, inner;
    real *h, *z;
    uint16_t *rounded; /* or NULL */
} middle;

/* A task's rows of it. */
static middle part_of(const middle *whole, size_t task)
{
    size_t group = brt_row_group(2 * whole->inner), first = task * group, at = first * whole->inner;
    middle part = *whole;
    part.rows = brt_min_size(group, whole->rows - first);
    part.h += 2 * at;
    part.z += at;
    part.rounded = part.rounded ? part.rounded + 2 * at : NULL;
    return part;
}

/* h -> z and rounded */
static void gate_task(void *context, size_t task, int thread)
{
    middle m = part_of(context, task);
    (void)thread;
    m.kernels->geglu_forward(m.rows, m.inner, m.h, m.z);
    if (m.rounded)
        m.kernels->to_bf16(m.rows * 2 * m.inner, m.h, m.rounded);
}

/* h, or rounded, and dz in the place of z -> dh in the place of h, and z */
static void gate_backward_task(void *context, size_t task, int thread)
{
    middle m = part_of(context, task);
    (void)thread;
    if (m.rounded)
        m.kernels->widen_bf16(m.rows * 2 * m.inner, m.rounded, m.h);
    m.kernels->geglu_backward(m.rows, m.inner, m.h, m.z, m.h, m.z);
}

static void run_middle(brt_tape *tape, brt_task *task, const middle *m)
{
    brt_parallel_for(brt_tape_threads(tape), brt_ceil_div(m->rows, brt_row_group(2 * m->inner)), task, (void *)m);
}

/* ---- the operation ------------------------------------------------------------------------------------------- */

static void forward(brt_tape *tape, brt_node *node)
{
    const feed_forward *how = node->attributes;
    const real *x = node->in[x_input]->data;
    const real *residual = node->in[residual_input] ? node->in[residual_input]->data : NULL;
    real *y = node->out[y_output]->data, *room = how->h ? how->h->data : NULL;
    for (size_t first = 0; first < how->rows; first += chunk) {
        size_t rows = brt_min_size(chunk, how->rows - first), at = first * how->dim;
        middle m = {.kernels = brt_tape_kernels(tape),
                    .rows = rows,
                    .inner = how->inner,
                    .h = h_of_chunk(node, first, room),
                    .z = how->z->data,
                    .rounded = rounded_h(node, first)};
        brt_product(tape, &how->in, rows, x + at, NULL, m.h);
        run_middle(tape, gate_task, &m);
        brt_product(tape, &how->out, rows, m.z, residual ? residual + at : NULL, y + at);
    }
}

/* Gradients that are wanted, NULL where not, and room. */
typedef struct gradients {
    real *dx, *din, *dout;
    bool dx_accumulates;
    real *h, *z; /* [chunk, 2 * inner] where h is rounded, and [chunk, inner] */
    real *room;  /* for gradients of weights */
} gradients;

static void chunk_backward(brt_tape *tape, const brt_node *node, size_t first, const gradients *to)
{
    const feed_forward *how = node->attributes;
    size_t rows = brt_min_size(chunk, how->rows - first);
    int threads = brt_tape_threads(tape);
    bool bf16 = brt_tape_has_bf16(tape);
    const real *x = node->in[x_input]->data + first * how->dim;
    const real *dy = node->out[y_output]->gradient + first * how->dim;
    middle m = {.kernels = brt_tape_kernels(tape),
                .rows = rows,
                .inner = how->inner,
                .h = h_of_chunk(node, first, to->h),
                .z = to->z,
                .rounded = rounded_h(node, first)};
    brt_matrix_input_gradient(how->out.matrix, threads, bf16, rows, dy, m.z, false);
    run_middle(tape, gate_backward_task, &m);
    if (to->dout)
        brt_matrix_weight_gradient(how->out.matrix, threads, bf16, rows, dy, m.z, to->dout, to->room);
    if (to->din)
        brt_matrix_weight_gradient(how->in.matrix, threads, bf16, rows, m.h, x, to->din, to->room);
    if (to->dx)
        brt_matrix_input_gradient(how->in.matrix, threads, bf16, rows, m.h, to->dx + first * how->dim,
                                  to->dx_accumulates);
}

static void backward(brt_tape *tape, brt_node *node)
{
    const feed_forward *how = node->attributes;
    brt_tensor *x = node->in[x_input];
    int threads = brt_tape_threads(tape);
    size_t room = brt_max_size(brt_matrix_gradient_room(how->in.matrix, threads),
                               brt_matrix_gradient_room(how->out.matrix, threads));
    size_t z = brt_min_size(chunk, how->rows) * how->inner, h = how->rounds ? 2 * z : 0;
    gradients to = {.dx_accumulates = x->has_gradient};
    to.dx = brt_gradient_reach(tape, x);
    to.din = brt_gradient_accumulate(tape, node->in[in_input]);
    to.dout = brt_gradient_accumulate(tape, node->in[out_input]);
    brt_tensor *scratch = brt_scratch(tape, room + z + h);
    if (brt_tape_running(tape)) {
        to.room = scratch->data;
        to.z = to.room + room;
        to.h = to.z + z;
        for (size_t first = 0; first < how->rows; first += chunk)
            chunk_backward(tape, node, first, &to);
    }
    brt_scratch_free(tape, scratch);
    if (node->in[residual_input])
        brt_gradient_hand_on(tape, node->out[y_output], node->in[residual_input]);
}

static const brt_op op = {.name = "feed_forward", .forward = forward, .backward = backward};

brt_tensor *brt_op_feed_forward(brt_tape *tape, brt_tensor *x, const brt_linear *in, const brt_linear *out,
                                brt_tensor *residual)
{
    size_t dim = x->shape[x->dims - 1], inner = out->weight->shape[1], rows = x->count / dim;
    feed_forward how = {.in = *in, .out = *out, .rows = rows - x->unused, .dim = dim, .inner = inner};
    how.rounds = brt_tape_has_bf16(tape);
    brt_tensor *y = brt_tape_tensor(tape, x->dims, x->shape), *kept = NULL;
    y->unused = x->unused;
    if (brt_tape_recording(tape)) /* two numbers in bf16 take the place of a real */
        kept = brt_tape_tensor(tape, BRT_SHAPE(rows, how.rounds ? inner : 2 * inner));
    if (!kept || how.rounds)
        how.h = brt_scratch(tape, brt_min_size(chunk, rows) * 2 * inner);
    how.z = brt_scratch(tape, brt_min_size(chunk, rows) * inner);
    brt_tape_push(tape,
                  &(brt_node){.op = &op,
                              .in = {x, in->weight, out->weight, residual},
                              .out = {y, kept},
                              .attributes = &how,
                              .flops = 6 * how.rows * dim * inner,
                              .backward_flops = 12 * how.rows * dim * inner},
                  sizeof how);
    brt_scratch_free(tape, how.z);
    if (how.h)
        brt_scratch_free(tape, how.h);
    return y;
}
