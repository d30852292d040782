/* The feed-forward of a layer with GEGLU (Shazeer 2020) and the exact error function:
 *   h = x W1^T = a | g,  z = a * gelu(g),  y = z W2^T + residual,
 *   gelu(g) = g * phi(g),  phi(g) = (1 + erf(g / sqrt 2)) / 2
 *   dz = dy W2,  dW2 = dy^T z,  da = dz * gelu(g),  dg = dz * a * (phi(g) + g * exp(-g^2 / 2) / sqrt(2 pi))
 *   dx = dh W1,  dW1 = dh^T x.
 * A task takes some rows all the way from x to y, or from dy to dx, so that what one product leaves to the next stays
 * in the second-level cache; the gradients of the weights follow, of many rows at once. h alone is kept for backward,
 * which computes z again and puts dh in the place of h. On a tape that uses bf16 h, z and dh exist in bf16 only, and
 * backward leaves all that the gradients of the weights are made of in pairs of rows, as those products read it. */
#include "ops.h"
#include "product.h"
#include "rows.h"

#include "../base/parallel.h"

enum {
    most_rows = 64,      /* of a task */
    least_rows = 32,     /* where there are fewer for each thread, all threads share one task's products */
    tasks_each = 4,      /* for each thread, that none waits long for another */
    most_at_once = 2048, /* rows whose z are kept for the gradients of the weights */
};

typedef struct feed_forward {
    brt_linear in, out;
    size_t rows, dim, inner;
    size_t step;      /* rows of a task */
    bool rounds;      /* h, z and dh are in bf16 */
    brt_tensor *room; /* of forward */
} feed_forward;

enum { x_input, in_input, out_input, residual_input };
enum { y_output, kept_output };

/* ---- sizes --------------------------------------------------------------------------------------------------- */

/* Rows of a task: all of them where they are few. */
static size_t choose_step(size_t rows, size_t threads)
{
    if (rows < least_rows * threads)
        return brt_max_size(rows, 1);
    size_t share = rows / (tasks_each * threads);
    return brt_min_size(most_rows, brt_max_size(least_rows, share - share % 2));
}

/* Threads that take tasks. The products of a single task are shared by all. */
static size_t takers(const brt_tape *tape, const feed_forward *how)
{
    return brt_min_size((size_t)brt_tape_threads(tape), brt_max_size(1, brt_ceil_div(how->rows, how->step)));
}

/* Reals that the rows take: of x in bf16, of h and of z. */
static size_t x_row(const feed_forward *how)
{
    return how->rounds ? brt_bf16_row(how->dim) / 2 : 0;
}

static size_t h_row(const feed_forward *how)
{
    return how->rounds ? how->inner : 2 * how->inner;
}

static size_t z_row(const feed_forward *how)
{
    return how->rounds ? brt_bf16_row(how->inner) / 2 : how->inner;
}

/* Of a task: its z, its x where that is rounded, and its h where that is not kept. */
static size_t forward_room(const feed_forward *how, bool kept)
{
    return how->step * (z_row(how) + x_row(how) + (kept ? 0 : h_row(how)));
}

/* Of a task: its dz, which in f32 is in the place of z, and its dh by rows. */
static size_t backward_room(const feed_forward *how)
{
    return how->rounds ? how->step * (how->inner + h_row(how)) : 0;
}

/* Pairs of so many rows. */
static size_t pairs_room(size_t rows, size_t columns)
{
    return brt_ceil_div(rows, 2) * columns;
}

/* ---- the middle ---------------------------------------------------------------------------------------------- */

/* Some rows of h, z and dz, which in f32 may be in the place of z. If they are rounded, h and z are in bf16, and
 * backward z and the dh that takes the place of h are in pairs of rows, while dh is by rows. */
typedef struct middle {
    const brt_kernels *kernels;
    const feed_forward *how;
    size_t rows;
    real *h, *z;
    const real *dz; /* NULL in forward */
    real *dh;       /* NULL in forward and in f32 */
} middle;

static uint16_t *as_bf16(real *rounded)
{
    return (uint16_t *)(void *)rounded;
}

static uint32_t *as_pairs(real *rounded)
{
    return (uint32_t *)(void *)rounded;
}

/* Rows of a group, an even number. */
static size_t group_rows(const feed_forward *how)
{
    size_t rows = brt_row_group(2 * how->inner);
    return rows + rows % 2;
}

static middle part_of_middle(const middle *whole, size_t task)
{
    const feed_forward *how = whole->how;
    size_t group = group_rows(how), first = task * group;
    middle part = *whole;
    part.rows = brt_min_size(group, whole->rows - first);
    part.h += first * h_row(how);
    part.z += part.dh ? pairs_room(first, how->inner) : first * z_row(how);
    if (part.dz)
        part.dz += first * how->inner;
    if (part.dh)
        part.dh += first * h_row(how);
    return part;
}

/* h -> z */
static void gate_task(void *context, size_t task, int thread)
{
    middle m = part_of_middle(context, task);
    (void)thread;
    if (m.how->rounds)
        m.kernels->geglu_forward_bf16(m.rows, m.how->inner, as_bf16(m.h), as_bf16(m.z));
    else
        m.kernels->geglu_forward(m.rows, m.how->inner, m.h, m.z);
}

/* h and dz -> dh in the place of h, and z */
static void gate_backward_task(void *context, size_t task, int thread)
{
    middle m = part_of_middle(context, task);
    (void)thread;
    if (m.how->rounds)
        m.kernels->geglu_backward_bf16(m.rows, m.how->inner, as_bf16(m.h), m.dz, as_bf16(m.dh), as_pairs(m.h),
                                       as_pairs(m.z));
    else
        m.kernels->geglu_backward(m.rows, m.how->inner, m.h, m.dz, m.h, m.z);
}

static void run_middle(int threads, brt_task *task, middle *m)
{
    brt_parallel_for(threads, brt_ceil_div(m->rows, group_rows(m->how)), task, m);
}

/* ---- tasks --------------------------------------------------------------------------------------------------- */

/* Rows of the operation that tasks share, and what they write beside the node's tensors. */
typedef struct pass {
    const brt_tape *tape;
    const brt_node *node;
    size_t first, rows;
    real *room; /* [takers, forward_room or backward_room] */
    /* Of backward. Where they are rounded, z, x and dy are in pairs of rows, [ceil(rows / 2), inner or dim]. */
    real *z; /* [rows, inner] */
    uint32_t *x_pairs, *dy_pairs;
    real *packing_room; /* of the weights' gradients */
    real *dx; /* [the operation's rows, dim], or NULL */
    bool dx_accumulates;
} pass;

/* Rows of a task, and the threads that its products may use. */
typedef struct part {
    size_t first, rows;
    int threads;
} part;

static part part_of_pass(const pass *p, size_t task)
{
    const feed_forward *how = p->node->attributes;
    size_t first = task * how->step;
    return (part){.first = p->first + first,
                  .rows = brt_min_size(how->step, p->rows - first),
                  .threads = takers(p->tape, how) > 1 ? 1 : brt_tape_threads(p->tape)};
}

static middle middle_of(const pass *p, const part *of, real *h, real *z)
{
    return (middle){
        .kernels = brt_tape_kernels(p->tape), .how = p->node->attributes, .rows = of->rows, .h = h, .z = z};
}

/* x -> h, kept or not, and y */
static void forward_task(void *context, size_t task, int thread)
{
    const pass *p = context;
    const feed_forward *how = p->node->attributes;
    const brt_tensor *residual = p->node->in[residual_input], *kept = p->node->out[kept_output];
    part of = part_of_pass(p, task);
    const real *x = p->node->in[x_input]->data + of.first * how->dim;
    const real *added = residual ? residual->data + of.first * how->dim : NULL;
    real *y = p->node->out[y_output]->data + of.first * how->dim;
    real *z = p->room + (size_t)thread * forward_room(how, kept), *rounded_x = z + how->step * z_row(how);
    real *h = kept ? kept->data + of.first * h_row(how) : rounded_x + how->step * x_row(how);
    middle m = middle_of(p, &of, h, z);
    if (how->rounds) {
        brt_round_rows(m.kernels, of.rows, how->dim, x, how->dim, as_bf16(rounded_x));
        brt_matrix_forward_rounded(how->in.matrix, of.threads, of.rows, as_bf16(rounded_x), as_bf16(h));
        run_middle(of.threads, gate_task, &m);
        brt_matrix_forward(how->out.matrix, of.threads, true, of.rows, brt_operand_in(z, true), added, y);
    } else {
        brt_product(p->tape, of.threads, &how->in, of.rows, x, NULL, h);
        run_middle(of.threads, gate_task, &m);
        brt_product(p->tape, of.threads, &how->out, of.rows, z, added, y);
    }
}

/* dy -> z, dh in the place of h, and dx */
static void backward_task(void *context, size_t task, int thread)
{
    const pass *p = context;
    const feed_forward *how = p->node->attributes;
    part of = part_of_pass(p, task);
    const real *dy = p->node->out[y_output]->gradient + of.first * how->dim;
    real *h = p->node->out[kept_output]->data + of.first * h_row(how);
    real *z = p->z + (of.first - p->first) * how->inner;
    middle m = middle_of(p, &of, h, z);
    m.dz = z;
    (void)thread;
    brt_matrix_input_gradient(how->out.matrix, of.threads, false, of.rows, brt_operand_in(dy, false), z, false);
    run_middle(of.threads, gate_backward_task, &m);
    if (p->dx)
        brt_matrix_input_gradient(how->in.matrix, of.threads, false, of.rows, brt_operand_in(h, false),
                                  p->dx + of.first * how->dim, p->dx_accumulates);
}

/* The same in bf16, with x, dy, z and dh left in pairs of rows. */
static void rounded_backward_task(void *context, size_t task, int thread)
{
    const pass *p = context;
    const feed_forward *how = p->node->attributes;
    const brt_kernels *kernels = brt_tape_kernels(p->tape);
    part of = part_of_pass(p, task);
    size_t at = of.first * how->dim, dim = how->dim, pairs = (of.first - p->first) / 2;
    const real *x = p->node->in[x_input]->data + at, *dy = p->node->out[y_output]->gradient + at;
    real *h = p->node->out[kept_output]->data + of.first * h_row(how);
    real *dz = p->room + (size_t)thread * backward_room(how), *dh = dz + how->step * how->inner;
    middle m = middle_of(p, &of, h, p->z + pairs * how->inner);
    m.dz = dz;
    m.dh = dh;
    kernels->pair_rows(of.rows, dim, x, dim, p->x_pairs + pairs * dim, dim);
    kernels->pair_rows(of.rows, dim, dy, dim, p->dy_pairs + pairs * dim, dim);
    brt_matrix_input_gradient(how->out.matrix, of.threads, true, of.rows, brt_operand_in(dy, false), dz, false);
    run_middle(of.threads, gate_backward_task, &m);
    if (p->dx)
        brt_matrix_input_gradient(how->in.matrix, of.threads, true, of.rows, brt_operand_in(dh, true), p->dx + at,
                                  p->dx_accumulates);
}

static void run_pass(const pass *p, brt_task *task)
{
    const feed_forward *how = p->node->attributes;
    brt_parallel_for(brt_tape_threads(p->tape), brt_ceil_div(p->rows, how->step), task, (void *)p);
}

/* ---- the operation ------------------------------------------------------------------------------------------- */

static void forward(brt_tape *tape, brt_node *node)
{
    const feed_forward *how = node->attributes;
    run_pass(&(pass){.tape = tape, .node = node, .rows = how->rows, .room = how->room->data}, forward_task);
}

/* After the tasks of backward: the gradients of the weights, NULL where not wanted, from the same rows. */
static void weights_backward(const pass *p, real *din, real *dout)
{
    const feed_forward *how = p->node->attributes;
    int threads = brt_tape_threads(p->tape);
    size_t at = p->first * how->dim, rows = p->rows;
    real *dh = p->node->out[kept_output]->data + p->first * h_row(how);
    const real *x = p->node->in[x_input]->data + at, *dy = p->node->out[y_output]->gradient + at;
    if (dout && how->rounds)
        brt_matrix_weight_gradient_of_pairs(how->out.matrix, threads, rows, p->dy_pairs, as_pairs(p->z), dout,
                                            p->packing_room);
    else if (dout)
        brt_matrix_weight_gradient(how->out.matrix, threads, false, rows, dy, p->z, dout, p->packing_room);
    if (din && how->rounds)
        brt_matrix_weight_gradient_of_pairs(how->in.matrix, threads, rows, as_pairs(dh), p->x_pairs, din,
                                            p->packing_room);
    else if (din)
        brt_matrix_weight_gradient(how->in.matrix, threads, false, rows, dh, x, din, p->packing_room);
}

static void backward(brt_tape *tape, brt_node *node)
{
    const feed_forward *how = node->attributes;
    brt_tensor *x = node->in[x_input];
    size_t rows = brt_min_size(most_at_once, how->rows), room = takers(tape, how) * backward_room(how);
    size_t z = how->rounds ? pairs_room(rows, how->inner) : rows * how->inner;
    size_t pairs = how->rounds ? pairs_room(rows, how->dim) : 0;
    size_t packing = brt_matrix_gradient_room(how->in.matrix, brt_tape_threads(tape), false, rows);
    pass p = {.tape = tape, .node = node, .dx_accumulates = x->has_gradient};
    p.dx = brt_gradient_reach(tape, x);
    real *din = brt_gradient_accumulate(tape, node->in[in_input]);
    real *dout = brt_gradient_accumulate(tape, node->in[out_input]);
    brt_tensor *scratch = brt_scratch(tape, packing + z + room + 2 * pairs);
    if (brt_tape_running(tape)) {
        p.packing_room = scratch->data; /* where vectors begin with a cache line */
        p.z = p.packing_room + packing;
        p.room = p.z + z;
        p.x_pairs = as_pairs(p.room + room);
        p.dy_pairs = p.x_pairs + pairs;
        for (; p.first < how->rows; p.first += rows) {
            p.rows = brt_min_size(rows, how->rows - p.first);
            run_pass(&p, how->rounds ? rounded_backward_task : backward_task);
            weights_backward(&p, din, dout);
        }
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
    how.step = choose_step(how.rows, (size_t)brt_tape_threads(tape));
    brt_tensor *y = brt_tape_tensor(tape, x->dims, x->shape), *kept = NULL;
    y->unused = x->unused;
    if (brt_tape_recording(tape))
        kept = brt_tape_tensor(tape, BRT_SHAPE(rows + rows % 2, h_row(&how))); /* whole pairs */
    how.room = brt_scratch(tape, takers(tape, &how) * forward_room(&how, kept));
    brt_tape_push(tape,
                  &(brt_node){.op = &op,
                              .in = {x, in->weight, out->weight, residual},
                              .out = {y, kept},
                              .attributes = &how,
                              .flops = 6 * how.rows * dim * inner,
                              .backward_flops = 12 * how.rows * dim * inner},
                  sizeof how);
    brt_scratch_free(tape, how.room);
    return y;
}
