/* Keys and values as attention reads them, from raw projections [key | value] of a memory and of a block:
 *   key'[j] = turn(scale * key[j] / max(|key[j]|, 1e-12), j),  value'[j] = value[j]
 * with j counted over memory, then block. Raw keys are what is carried: every reader has its own scale, and positions
 * move on with each block. A raw row has the keys of all key heads, then their values. */
#include "ops.h"

#include "../base/parallel.h"
#include "../base/size.h"

#include <string.h>

typedef struct keys {
    brt_rotation rotation;
    bool turned;
    size_t batch, memory, block; /* rows of the two parts */
    size_t key_heads, dim_head;
} keys;

enum { most_groups = 32 };

typedef struct job {
    const brt_kernels *kernels;
    const keys *how;
    const real *memory, *block, *scale; /* raw rows of 2 * key_heads * dim_head */
    real *key, *value;                  /* outputs; in backward their gradients */
    real *dmemory, *dblock;             /* NULL where not wanted */
    real *dscale;                       /* [groups, dim_head] or NULL */
    real *unwanted;                     /* [groups, raw row]: for the gradient of a part that wants none */
    size_t group;                       /* rows of a task */
} job;

/* Offset of the raw row of key j of batch row b in its part. */
static size_t raw_offset(const keys *how, size_t b, size_t j)
{
    size_t row = j < how->memory ? b * how->memory + j : b * how->block + j - how->memory;
    return row * 2 * how->key_heads * how->dim_head;
}

/* Offset of key j of batch row b in key head `head` of the outputs. */
static size_t key_offset(const keys *how, size_t b, size_t head, size_t j)
{
    return ((b * how->key_heads + head) * (how->memory + how->block) + j) * how->dim_head;
}

static const real *table_row(const keys *how, const real *table, size_t j)
{
    return how->turned ? table + j * how->dim_head : NULL;
}

static void forward_task(void *context, size_t task, int thread)
{
    const job *j = context;
    const keys *how = j->how;
    size_t all = how->memory + how->block, dim = how->dim_head;
    size_t end = brt_min_size((task + 1) * j->group, how->batch * all);
    (void)thread;
    for (size_t i = task * j->group; i < end; i++) {
        size_t index = i % all;
        const real *raw = (index < how->memory ? j->memory : j->block) + raw_offset(how, i / all, index);
        for (size_t head = 0; head < how->key_heads; head++) {
            size_t to = key_offset(how, i / all, head, index);
            j->kernels->rotary_forward(1, dim, raw + head * dim, dim, j->scale,
                                       table_row(how, how->rotation.key_cosine, index),
                                       table_row(how, how->rotation.key_sine, index), j->key + to, dim);
            memcpy(j->value + to, raw + (how->key_heads + head) * dim, dim * sizeof(real));
        }
    }
}

static void backward_task(void *context, size_t task, int thread)
{
    const job *j = context;
    const keys *how = j->how;
    size_t all = how->memory + how->block, dim = how->dim_head;
    size_t end = brt_min_size((task + 1) * j->group, how->batch * all);
    real *dscale = j->dscale ? j->dscale + task * dim : NULL;
    (void)thread;
    if (dscale)
        memset(dscale, 0, dim * sizeof *dscale);
    for (size_t i = task * j->group; i < end; i++) {
        size_t index = i % all, offset = raw_offset(how, i / all, index);
        real *draw = index < how->memory ? j->dmemory : j->dblock;
        draw = draw ? draw + offset : j->unwanted + task * 2 * how->key_heads * dim;
        const real *raw = (index < how->memory ? j->memory : j->block) + offset;
        for (size_t head = 0; head < how->key_heads; head++) {
            size_t from = key_offset(how, i / all, head, index);
            j->kernels->rotary_backward(1, dim, raw + head * dim, dim, j->scale,
                                        table_row(how, how->rotation.key_cosine, index),
                                        table_row(how, how->rotation.key_sine, index), j->key + from, dim,
                                        draw + head * dim, dim, dscale);
            memcpy(draw + (how->key_heads + head) * dim, j->value + from, dim * sizeof(real));
        }
    }
}

static job make_job(brt_tape *tape, const brt_node *node)
{
    const keys *how = node->attributes;
    return (job){.kernels = brt_tape_kernels(tape),
                 .how = how,
                 .memory = node->in[0] ? node->in[0]->data : NULL,
                 .block = node->in[1]->data,
                 .scale = node->in[2] ? node->in[2]->data : NULL,
                 .group = brt_ceil_div(how->batch * (how->memory + how->block), most_groups)};
}

static size_t group_count(const job *j)
{
    return brt_ceil_div(j->how->batch * (j->how->memory + j->how->block), j->group);
}

static void forward(brt_tape *tape, brt_node *node)
{
    job j = make_job(tape, node);
    j.key = node->out[0]->data;
    j.value = node->out[1]->data;
    brt_parallel_for(brt_tape_threads(tape), group_count(&j), forward_task, &j);
}

static void backward(brt_tape *tape, brt_node *node)
{
    job j = make_job(tape, node);
    size_t dim_head = j.how->dim_head, groups = group_count(&j);
    brt_gradient dmemory = {0}, dblock = brt_gradient_open(tape, node->in[1]);
    if (node->in[0])
        dmemory = brt_gradient_open(tape, node->in[0]);
    real *dscale = node->in[2] ? brt_gradient_accumulate(tape, node->in[2]) : NULL;
    brt_tensor *partial = brt_scratch(tape, groups * (1 + 2 * j.how->key_heads) * dim_head);
    if (brt_tape_running(tape)) {
        j.key = node->out[0]->gradient;
        j.value = node->out[1]->gradient;
        j.dmemory = dmemory.data;
        j.dblock = dblock.data;
        j.dscale = dscale ? partial->data : NULL;
        j.unwanted = partial->data + groups * dim_head;
        brt_parallel_for(brt_tape_threads(tape), groups, backward_task, &j);
        for (size_t i = 0; dscale && i < groups; i++)
            j.kernels->add(dim_head, partial->data + i * dim_head, dscale);
    }
    brt_scratch_free(tape, partial);
    if (node->in[0])
        brt_gradient_close(tape, node->in[0], dmemory);
    brt_gradient_close(tape, node->in[1], dblock);
}

static const brt_op op = {.name = "keys", .forward = forward, .backward = backward};

brt_keys brt_op_keys(brt_tape *tape, brt_tensor *memory, brt_tensor *block, size_t key_heads, brt_tensor *scale,
                     const brt_rotation *rotation)
{
    keys how = {.batch = block->shape[0],
                .memory = memory ? memory->shape[1] : 0,
                .block = block->shape[1],
                .key_heads = key_heads,
                .dim_head = block->shape[2] / (2 * key_heads)};
    if (rotation) {
        how.rotation = *rotation;
        how.turned = true;
    }
    brt_keys out = {brt_tape_tensor(tape, BRT_SHAPE(how.batch * key_heads, how.memory + how.block, how.dim_head)),
                    brt_tape_tensor(tape, BRT_SHAPE(how.batch * key_heads, how.memory + how.block, how.dim_head))};
    brt_tape_push(tape,
                  &(brt_node){.op = &op,
                              .in = {memory, block, scale},
                              .out = {out.key, out.value},
                              .attributes = &how},
                  sizeof how);
    return out;
}
