/* How much attention keys got: usage[j] = sum over all heads of all queries of p_j, where with the logarithm of the
 * softmax's sum, which attention left,
 *   p_j = exp(scale * (q . k_j + bias) - log_sum_exp) over the keys that a query sees.
 * A task sums over some of the tiles of rows (queries * heads) of one key head of a row of the batch. */
#include "compression.h"

#include "attention_sight.h"

#include "../base/parallel.h"

#include <string.h>

enum {
    row_tile = 16,
    few_rows = 64, /* up to here keys are read as they are; for more they are turned first */
    most_groups = 16,
};

typedef struct usage {
    attention a;                  /* as far as it says who sees what */
    size_t first, count;          /* the keys */
    brt_tensor *scores, *partial; /* room: [threads, row_tile, count], [batch * key_heads, groups, count] */
    brt_tensor *turned;           /* room: [batch * key_heads, dim, count], for many rows; else NULL */
} usage;

typedef struct job {
    const brt_kernels *kernels;
    const usage *u;
    const real *query, *key, *bias, *log_sum_exp;
} job;

static const real *keys_of(const job *j, size_t batch_row)
{
    return j->key + (batch_row * j->u->a.key_rows + j->u->first) * j->u->a.dim;
}

static void turn_keys(void *context, size_t batch_row, int thread)
{
    const job *j = context;
    const usage *u = j->u;
    (void)thread;
    j->kernels->transpose(u->count, u->a.dim, keys_of(j, batch_row), u->a.dim,
                          u->turned->data + batch_row * u->a.dim * u->count, u->count);
}

/* scores [rows, count] of some rows */
static void multiply(const job *j, size_t batch_row, size_t row, size_t rows, real *scores)
{
    const usage *u = j->u;
    size_t dim = u->a.dim, count = u->count;
    const real *query = j->query + (batch_row * u->a.rows + row) * dim;
    if (u->turned)
        j->kernels->matmul(rows, count, dim, query, dim, 1, u->turned->data + batch_row * dim * count, count, scores,
                           count, false);
    else
        j->kernels->matvec(rows, count, dim, query, dim, keys_of(j, batch_row), dim, scores, count, false);
}

/* Adds the weights that a row gave; its scores become weights. */
static void add_row(const job *j, size_t batch_row, size_t row, real *scores, real *sums)
{
    const usage *u = j->u;
    const attention *a = &u->a;
    size_t query = a->how.first_query + row / a->how.heads, head = row % a->how.heads;
    size_t begin = brt_max_size(brt_max_size(first_key(a, batch_row), begin_key(a, row)), u->first);
    size_t end = brt_min_size(end_key(a, row), u->first + u->count);
    if (begin >= end)
        return;
    scores += begin - u->first;
    head += batch_row % a->key_heads * a->how.heads;
    for (size_t i = 0; j->bias && i < end - begin; i++)
        scores[i] += j->bias[head * a->span + query - begin - i];
    /* With this maximum a step's exponentials are the weights. */
    real maximum = j->log_sum_exp[batch_row * a->rows + row] / a->how.scale, sum = 0;
    j->kernels->softmax_step(1, end - begin, a->how.scale, NULL, scores, 0, &maximum, &sum, 0, scores, 0, NULL);
    j->kernels->add(end - begin, scores, sums + begin - u->first);
}

static void task(void *context, size_t index, int thread)
{
    const job *j = context;
    const usage *u = j->u;
    const attention *a = &u->a;
    size_t batch_row = index / a->groups;
    real *scores = u->scores->data + (size_t)thread * row_tile * u->count, *sums = u->partial->data + index * u->count;
    memset(sums, 0, u->count * sizeof *sums);
    for (size_t row = index % a->groups * row_tile; row < a->rows; row += a->groups * row_tile) {
        size_t rows = brt_min_size(row_tile, a->rows - row);
        multiply(j, batch_row, row, rows, scores);
        for (size_t i = 0; i < rows; i++)
            add_row(j, batch_row, row + i, scores + i * u->count, sums);
    }
}

static void forward(brt_tape *tape, brt_node *node)
{
    const usage *u = node->attributes;
    size_t tasks = u->a.batch * u->a.groups, tasks_of_a_row = u->a.groups * u->a.key_heads;
    const brt_tensor *bias = node->in[2];
    job j = {brt_tape_kernels(tape), u, node->in[0]->data, node->in[1]->data, bias ? bias->data : NULL,
             u->a.how.log_sum_exp->data};
    real *out = node->out[0]->data;
    if (u->turned)
        brt_parallel_for(brt_tape_threads(tape), u->a.batch, turn_keys, &j);
    brt_parallel_for(brt_tape_threads(tape), tasks, task, &j);
    memset(out, 0, node->out[0]->count * sizeof *out);
    for (size_t i = 0; i < tasks; i++)
        j.kernels->add(u->count, u->partial->data + i * u->count, out + i / tasks_of_a_row * u->count);
}

/* No backward: what is chosen by usage does not depend on it smoothly. */
static const brt_op op = {.name = "usage", .forward = forward};

void brt_op_usage(brt_tape *tape, brt_tensor *query, brt_tensor *key, const brt_attention *how, size_t first,
                  brt_tensor *out)
{
    usage u = {.a = {.how = *how,
                     .batch = query->shape[0],
                     .rows = query->shape[1] * how->heads,
                     .dim = query->shape[3],
                     .key_heads = brt_max_size(how->key_heads, 1),
                     .span = how->bias ? how->bias->shape[1] : 0,
                     .key_rows = key->shape[1],
                     .keys = key->shape[1]},
               .first = first,
               .count = out->shape[1]};
    u.a.groups = brt_min_size(brt_ceil_div(u.a.rows, row_tile), most_groups);
    u.scores = brt_scratch(tape, (size_t)brt_tape_threads(tape) * row_tile * u.count);
    u.partial = brt_scratch(tape, u.a.batch * u.a.groups * u.count);
    u.turned = u.a.rows > few_rows ? brt_scratch(tape, u.a.batch * u.a.dim * u.count) : NULL;
    brt_tape_push(tape,
                  &(brt_node){.op = &op,
                              .in = {query, key, how->bias},
                              .out = {out},
                              .attributes = &u,
                              .flops = 2 * u.a.batch * u.a.rows * u.count * u.a.dim},
                  sizeof u);
    if (u.turned)
        brt_scratch_free(tape, u.turned);
    brt_scratch_free(tape, u.partial);
    brt_scratch_free(tape, u.scores);
}
