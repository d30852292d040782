/* A convolution with the stride of its taps, as a product. With the taps that entry n of group g sees,
 *   patch[n][i, j] = x[rest + n * factor + factor - 1 - (factor - 1 - j) * dilation][g, i],  0 before the block,
 *   y[n][g] = weight[g] patch[n] + bias[g];
 *   dpatch[n] = weight[g]^T dy[n][g],  dweight[g] = sum of dy[n][g] patch[n]^T,
 * where rest = block % factor and weight[g] is the [group, group * factor] part of the weight. */
#include "compression.h"

#include "../base/parallel.h"
#include "../base/size.h"

#include <string.h>

enum { weight_rows = 16 }; /* rows of the weight's gradient in one task */

typedef struct convolution {
    size_t batch, block, width;              /* of x */
    size_t entries, factor, dilation, group; /* of y; taps; columns of a group */
} convolution;

typedef struct job {
    const brt_kernels *kernels;
    const convolution *how;
    const real *x, *weight, *bias, *dy;
    real *y, *dx, *dweight;
    real *patches; /* [batch, groups, entries, group * factor] */
    real *turned;  /* [groups, group * factor, group]: the weight of each group, transposed */
} job;

static size_t groups(const convolution *how)
{
    return how->width / how->group;
}

static size_t patch_reals(const convolution *how)
{
    return how->group * how->factor;
}

static size_t all_patches(const convolution *how)
{
    return how->batch * groups(how) * how->entries * patch_reals(how);
}

/* One row of the batch and one group. */
typedef struct part {
    size_t row, group;
    real *patches; /* [entries, group * factor] */
} part;

static part part_of(const job *j, size_t task)
{
    const convolution *how = j->how;
    return (part){task / groups(how), task % groups(how), j->patches + task * how->entries * patch_reals(how)};
}

/* The row of the block under an entry's tap; false where it is before the block. */
static bool row_under(const convolution *how, size_t entry, size_t tap, size_t *row)
{
    size_t last = how->block % how->factor + (entry + 1) * how->factor - 1;
    size_t back = (how->factor - 1 - tap) * how->dilation;
    *row = last - back;
    return back <= last;
}

static void gather(const job *j, const part *p)
{
    const convolution *how = j->how;
    const real *x = j->x + p->row * how->block * how->width + p->group * how->group;
    real *patch = p->patches;
    for (size_t entry = 0; entry < how->entries; entry++, patch += patch_reals(how))
        for (size_t tap = 0, row; tap < how->factor; tap++) {
            bool inside = row_under(how, entry, tap, &row);
            for (size_t i = 0; i < how->group; i++)
                patch[i * how->factor + tap] = inside ? x[row * how->width + i] : 0;
        }
}

/* Adds the gradients of the patches to their rows. */
static void scatter(const job *j, const part *p)
{
    const convolution *how = j->how;
    real *dx = j->dx + p->row * how->block * how->width + p->group * how->group;
    const real *patch = p->patches;
    for (size_t row = 0; row < how->block; row++)
        memset(dx + row * how->width, 0, how->group * sizeof *dx);
    for (size_t entry = 0; entry < how->entries; entry++, patch += patch_reals(how))
        for (size_t tap = 0, row; tap < how->factor; tap++)
            if (row_under(how, entry, tap, &row))
                for (size_t i = 0; i < how->group; i++)
                    dx[row * how->width + i] += patch[i * how->factor + tap];
}

static void turn_weights(const job *j)
{
    const convolution *how = j->how;
    size_t count = how->group * patch_reals(how);
    for (size_t g = 0; g < groups(how); g++)
        j->kernels->transpose(how->group, patch_reals(how), j->weight + g * count, patch_reals(how),
                              j->turned + g * count, how->group);
}

static void forward_task(void *context, size_t task, int thread)
{
    const job *j = context;
    const convolution *how = j->how;
    part p = part_of(j, task);
    size_t column = p.group * how->group;
    real *y = j->y + p.row * how->entries * how->width + column;
    (void)thread;
    gather(j, &p);
    for (size_t entry = 0; entry < how->entries; entry++)
        memcpy(y + entry * how->width, j->bias + column, how->group * sizeof *y);
    j->kernels->matmul(how->entries, how->group, patch_reals(how), p.patches, patch_reals(how), 1,
                       j->turned + column * patch_reals(how), how->group, y, how->width, true);
}

static job make_job(brt_tape *tape, const brt_node *node)
{
    return (job){.kernels = brt_tape_kernels(tape),
                 .x = node->in[0]->data,
                 .weight = node->in[1]->data,
                 .bias = node->in[2]->data};
}

typedef struct attributes {
    convolution how;
    brt_tensor *patches, *turned; /* room, of forward alone */
} attributes;

static void forward(brt_tape *tape, brt_node *node)
{
    const attributes *taken = node->attributes;
    job j = make_job(tape, node);
    j.how = &taken->how;
    j.y = node->out[0]->data;
    j.patches = taken->patches->data;
    j.turned = taken->turned->data;
    turn_weights(&j);
    brt_parallel_for(brt_tape_threads(tape), j.how->batch * groups(j.how), forward_task, &j);
}

/* ---- backward -------------------------------------------------------------------------------------------- */

static void gather_task(void *context, size_t task, int thread)
{
    const job *j = context;
    part p = part_of(j, task);
    (void)thread;
    gather(j, &p);
}

/* How many tasks share the gradient of a group's weight. */
static size_t weight_tasks(const convolution *how)
{
    return brt_ceil_div(how->group, weight_rows);
}

/* Some rows of the weight's gradient, over the whole batch in order. */
static void weight_task(void *context, size_t task, int thread)
{
    const job *j = context;
    const convolution *how = j->how;
    size_t group = task / weight_tasks(how), first = task % weight_tasks(how) * weight_rows;
    size_t rows = brt_min_size(weight_rows, how->group - first), o = group * how->group + first;
    size_t columns = patch_reals(how), entries = how->entries;
    (void)thread;
    for (size_t b = 0; b < how->batch; b++)
        j->kernels->matmul(rows, columns, entries, j->dy + b * entries * how->width + o, 1, how->width,
                           j->patches + (b * groups(how) + group) * entries * columns, columns,
                           j->dweight + o * columns, columns, true);
}

/* Overwrites the patches by their gradients. */
static void input_task(void *context, size_t task, int thread)
{
    const job *j = context;
    const convolution *how = j->how;
    part p = part_of(j, task);
    size_t column = p.group * how->group, columns = patch_reals(how);
    (void)thread;
    j->kernels->matmul(how->entries, columns, how->group, j->dy + p.row * how->entries * how->width + column,
                       how->width, 1, j->weight + column * columns, columns, p.patches, columns, false);
    scatter(j, &p);
}

static void backward(brt_tape *tape, brt_node *node)
{
    const convolution *how = &((const attributes *)node->attributes)->how;
    int threads = brt_tape_threads(tape);
    brt_gradient dx = brt_gradient_open(tape, node->in[0]);
    real *dweight = brt_gradient_accumulate(tape, node->in[1]), *dbias = brt_gradient_accumulate(tape, node->in[2]);
    brt_tensor *patches = brt_scratch(tape, all_patches(how));
    if (brt_tape_running(tape)) {
        job j = make_job(tape, node);
        j.how = how;
        j.dy = node->out[0]->gradient;
        j.dx = dx.data;
        j.dweight = dweight;
        j.patches = patches->data;
        brt_parallel_for(threads, how->batch * groups(how), gather_task, &j);
        if (dweight)
            brt_parallel_for(threads, groups(how) * weight_tasks(how), weight_task, &j);
        if (dx.data)
            brt_parallel_for(threads, how->batch * groups(how), input_task, &j);
        for (size_t i = 0; dbias && i < how->batch * how->entries; i++)
            j.kernels->add(how->width, j.dy + i * how->width, dbias);
    }
    brt_scratch_free(tape, patches);
    brt_gradient_close(tape, node->in[0], dx);
}

static const brt_op op = {.name = "convolve", .forward = forward, .backward = backward};

brt_tensor *brt_op_convolve(brt_tape *tape, brt_tensor *x, brt_tensor *weight, brt_tensor *bias, size_t dilation)
{
    attributes taken = {.how = {.batch = x->shape[0],
                                .block = x->shape[1],
                                .width = x->shape[2],
                                .entries = x->shape[1] / weight->shape[2],
                                .factor = weight->shape[2],
                                .dilation = dilation,
                                .group = weight->shape[1]}};
    const convolution *how = &taken.how;
    size_t flops = 2 * how->batch * how->entries * how->width * patch_reals(how);
    brt_tensor *y = brt_tape_tensor(tape, BRT_SHAPE(how->batch, how->entries, how->width));
    taken.patches = brt_scratch(tape, all_patches(how));
    taken.turned = brt_scratch(tape, weight->count);
    brt_tape_push(tape,
                  &(brt_node){.op = &op,
                              .in = {x, weight, bias},
                              .out = {y},
                              .attributes = &taken,
                              .flops = flops,
                              .backward_flops = (x->wants_gradient ? 2 : 1) * flops},
                  sizeof taken);
    brt_scratch_free(tape, taken.turned);
    brt_scratch_free(tape, taken.patches);
    return y;
}
