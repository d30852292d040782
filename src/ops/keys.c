/* Keys and values as attention reads them, from raw projections [key | value] of memories and of a block:
 *   key'[j] = turn(scale * key[j] / max(|key[j]|, 1e-12), j),  value'[j] = value[j]
 * with j counted over the parts, the oldest first. Raw keys are what is carried: every reader has its own scale, and
 * positions move on with each block. A raw row has the keys of all key heads, then their values. */
#include "ops.h"

#include "../base/parallel.h"
#include "../base/size.h"

#include <string.h>

enum { scale_input, first_part, most_parts = BRT_MAX_INPUTS - first_part, most_groups = 32 };

typedef struct keys {
    brt_rotation rotation;
    bool turned;
    size_t batch, key_heads, dim_head;
    size_t parts, end[most_parts]; /* one past each part's last key */
} keys;

typedef struct job {
    const brt_kernels *kernels;
    const keys *how;
    const real *raw[most_parts], *scale; /* raw rows of 2 * key_heads * dim_head */
    real *key, *value;                   /* outputs; in backward their gradients */
    real *draw[most_parts];              /* NULL where not wanted */
    real *dscale;                        /* [groups, dim_head] or NULL */
    real *unwanted;                      /* [groups, raw row]: for the gradient of a part that wants none */
    size_t group;                        /* rows of a task */
} job;

static size_t key_count(const keys *how)
{
    return how->end[how->parts - 1];
}

static size_t raw_row(const keys *how)
{
    return 2 * how->key_heads * how->dim_head;
}

/* Where the raw row of key j of batch row b is: its part, and the offset there. */
typedef struct place {
    size_t part, offset;
} place;

static place find(const keys *how, size_t b, size_t j)
{
    size_t part = 0;
    while (j >= how->end[part])
        part++;
    size_t first = part ? how->end[part - 1] : 0, length = how->end[part] - first;
    return (place){part, (b * length + j - first) * raw_row(how)};
}

/* Offset of key j of batch row b in key head `head` of the outputs. */
static size_t key_offset(const keys *how, size_t b, size_t head, size_t j)
{
    return ((b * how->key_heads + head) * key_count(how) + j) * how->dim_head;
}

static const real *table_row(const keys *how, const real *table, size_t j)
{
    return how->turned ? table + j * how->dim_head : NULL;
}

static void forward_task(void *context, size_t task, int thread)
{
    const job *j = context;
    const keys *how = j->how;
    size_t all = key_count(how), dim = how->dim_head, end = brt_min_size((task + 1) * j->group, how->batch * all);
    (void)thread;
    for (size_t i = task * j->group; i < end; i++) {
        size_t index = i % all;
        place at = find(how, i / all, index);
        const real *raw = j->raw[at.part] + at.offset;
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
    size_t all = key_count(how), dim = how->dim_head, end = brt_min_size((task + 1) * j->group, how->batch * all);
    real *dscale = j->dscale ? j->dscale + task * dim : NULL;
    (void)thread;
    if (dscale)
        memset(dscale, 0, dim * sizeof *dscale);
    for (size_t i = task * j->group; i < end; i++) {
        size_t index = i % all;
        place at = find(how, i / all, index);
        const real *raw = j->raw[at.part] + at.offset;
        real *draw = j->draw[at.part] ? j->draw[at.part] + at.offset : j->unwanted + task * raw_row(how);
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
    job j = {.kernels = brt_tape_kernels(tape),
             .how = how,
             .scale = node->in[scale_input] ? node->in[scale_input]->data : NULL,
             .group = brt_ceil_div(how->batch * key_count(how), most_groups)};
    for (size_t i = 0; i < how->parts; i++)
        j.raw[i] = node->in[first_part + i]->data;
    return j;
}

static size_t group_count(const job *j)
{
    return brt_ceil_div(j->how->batch * key_count(j->how), j->group);
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
    size_t dim_head = j.how->dim_head, groups = group_count(&j), parts = j.how->parts;
    brt_gradient draw[most_parts];
    for (size_t i = 0; i < parts; i++)
        j.draw[i] = (draw[i] = brt_gradient_open(tape, node->in[first_part + i])).data;
    real *dscale = node->in[scale_input] ? brt_gradient_accumulate(tape, node->in[scale_input]) : NULL;
    brt_tensor *partial = brt_scratch(tape, groups * (dim_head + raw_row(j.how)));
    if (brt_tape_running(tape)) {
        j.key = node->out[0]->gradient;
        j.value = node->out[1]->gradient;
        j.dscale = dscale ? partial->data : NULL;
        j.unwanted = partial->data + groups * dim_head;
        brt_parallel_for(brt_tape_threads(tape), groups, backward_task, &j);
        for (size_t i = 0; dscale && i < groups; i++)
            j.kernels->add(dim_head, partial->data + i * dim_head, dscale);
    }
    brt_scratch_free(tape, partial);
    for (size_t i = parts; i-- > 0;)
        brt_gradient_close(tape, node->in[first_part + i], draw[i]);
}

static const brt_op op = {.name = "keys", .repeatable = true, .forward = forward, .backward = backward};

brt_keys brt_op_keys(brt_tape *tape, size_t parts, brt_tensor *const *raw, size_t key_heads, brt_tensor *scale,
                     const brt_rotation *rotation)
{
    keys how = {.batch = raw[0]->shape[0],
                .key_heads = key_heads,
                .dim_head = raw[0]->shape[2] / (2 * key_heads),
                .parts = parts};
    brt_node node = {.op = &op, .in[scale_input] = scale, .attributes = &how};
    size_t count = 0;
    for (size_t i = 0; i < parts; i++) {
        node.in[first_part + i] = raw[i];
        how.end[i] = count += raw[i]->shape[1];
    }
    if (rotation) {
        how.rotation = *rotation;
        how.turned = true;
    }
    brt_keys out = {brt_tape_tensor(tape, BRT_SHAPE(how.batch * key_heads, count, how.dim_head)),
                    brt_tape_tensor(tape, BRT_SHAPE(how.batch * key_heads, count, how.dim_head))};
    node.out[0] = out.key;
    node.out[1] = out.value;
    brt_tape_push(tape, &node, sizeof how);
    return out;
}
