#include "recall.h"

#include "ring_search.h"
#include "top_scores.h"

#include "../base/parallel.h"
#include "../base/size.h"

#include <math.h>
#include <string.h>

/* Candidates for each key that is recalled: 8 bits displace few of the best by so many places. */
enum { candidates_each = 4 };

typedef struct recall {
    brt_recall how;
    size_t batch, groups, time, heads, dim; /* heads: of a group */
    bool has_null;
    brt_tensor *room;
} recall;

typedef struct job {
    const recall *r;
    brt_search search;        /* its queries are all heads of one token, what it finds candidates */
    uint32_t *best;           /* [threads, candidates]: of one query */
    real *scores, *vector;    /* [threads, candidates + 1], [threads, dim]: of one query */
    const real *null_key, *null_value;
    real *out, *log_sum;      /* of one token: [queries, dim] and [batch row's groups, time, heads] */
    size_t t;
} job;

static size_t candidate_count(const recall *r)
{
    return candidates_each * r->how.tokens;
}

/* Reals of a query's scores: candidates and the null key. */
static size_t score_count(const recall *r)
{
    return candidate_count(r) + 1;
}

static real *take(real *base, size_t *used, size_t count)
{
    real *at = base ? base + *used : NULL;
    *used += count;
    return at;
}

static brt_search search_of(const recall *r, brt_tape *tape)
{
    return (brt_search){.kernels = brt_tape_kernels(tape),
                        .ring = r->how.scan,
                        .queries = r->groups * r->heads,
                        .dim = r->dim,
                        .stride = r->how.capacity,
                        .wanted = candidate_count(r)};
}

/* Gives a job its room; returns the reals of the whole. base may be NULL. */
static size_t arrange(const recall *r, size_t threads, real *base, job *j)
{
    size_t used = brt_search_arrange(&j->search, threads, base);
    j->best = (uint32_t *)(void *)take(base, &used, threads * candidate_count(r));
    j->scores = take(base, &used, threads * score_count(r));
    j->vector = take(base, &used, threads * r->dim);
    return used;
}

/* ---- one head of one token ----------------------------------------------------------------------------------- */

/* Products of the query with the listed keys as the ring keeps them; `key` [dim] is room. */
static void score_exactly(const job *j, size_t query, size_t count, const uint32_t *list, real *key, real *scores)
{
    const recall *r = j->r;
    const brt_kernels *kernels = j->search.kernels;
    const brt_ring *ring = r->how.ring;
    for (size_t i = 0; i < count; i++) {
        brt_ring_copy(ring, kernels, &ring->key, j->search.row, brt_search_head(&j->search, query),
                      j->search.begin + list[i], key);
        kernels->matvec(1, 1, r->dim, j->search.query + query * r->dim, r->dim, key, r->dim, scores + i, 1, false);
    }
}

/* Of the listed positions, and their scores, the `tokens` best stay; `best` is room. Returns how many there are. */
static size_t keep_best(const job *j, size_t count, uint32_t *list, real *scores, uint32_t *best)
{
    size_t kept = brt_top_select(count, scores, j->r->how.tokens, best);
    for (size_t i = 0; i < kept; i++) {
        list[i] = list[best[i]];
        scores[i] = scores[best[i]];
    }
    return kept;
}

/* out = the listed values, and the null value after them, weighted by the softmax of the scores; returns the logarithm
 * of its sum. `value` [dim] is room. */
static real attend(const job *j, size_t query, size_t count, const uint32_t *list, real *scores, real *value, real *out)
{
    const recall *r = j->r;
    const brt_kernels *kernels = j->search.kernels;
    size_t all = count + r->has_null, group = query / r->heads;
    real most = -(real)INFINITY, sum;
    memset(out, 0, r->dim * sizeof *out);
    if (r->has_null)
        kernels->matvec(1, 1, r->dim, j->search.query + query * r->dim, r->dim, j->null_key + group * r->dim, r->dim,
                        scores + count, 1, false);
    for (size_t i = 0; i < all; i++)
        most = scores[i] > most ? scores[i] : most;
    if (all == 0)
        return -(real)INFINITY;
    kernels->exp_sum(all, r->how.scale, most, scores, &sum);
    for (size_t i = 0; i < all; i++) {
        const real *from = value;
        if (i < count)
            brt_ring_copy(r->how.ring, kernels, &r->how.ring->value, j->search.row, brt_search_head(&j->search, query),
                          j->search.begin + list[i], value);
        else
            from = j->null_value + group * r->dim;
        kernels->scale_add(r->dim, scores[i] / sum, from, 1, out);
    }
    return r->how.scale * most + (real)log((double)sum);
}

static void query_task(void *context, size_t query, int thread)
{
    const job *j = context;
    const recall *r = j->r;
    uint32_t *list = j->search.list + query * r->how.capacity;
    real *scores = j->scores + (size_t)thread * score_count(r), *vector = j->vector + (size_t)thread * r->dim;
    size_t count = brt_min_size(j->search.count, candidate_count(r)), group = query / r->heads;
    for (size_t i = 0; count == j->search.count && i < count; i++)
        list[i] = (uint32_t)i;
    score_exactly(j, query, count, list, vector, scores);
    if (count > r->how.tokens)
        count = keep_best(j, count, list, scores, j->best + (size_t)thread * candidate_count(r));
    j->log_sum[(group * r->time + j->t) * r->heads + query % r->heads] =
        attend(j, query, count, list, scores, vector, j->out + query * r->dim);
}

/* ---- the operation ------------------------------------------------------------------------------------------- */

enum { query_input, null_key_input, null_value_input };

/* The heads of token t of a batch row, group by group. */
static void gather_query(const job *j, const real *query)
{
    const recall *r = j->r;
    size_t count = r->heads * r->dim;
    for (size_t group = 0; group < r->groups; group++)
        memcpy(j->search.query + group * count,
               query + ((j->search.row * r->groups + group) * r->time + j->t) * count, count * sizeof *query);
}

static void forward(brt_tape *tape, brt_node *node)
{
    const recall *r = node->attributes;
    int threads = brt_tape_threads(tape);
    size_t queries = r->groups * r->heads;
    job j = {.r = r,
             .search = search_of(r, tape),
             .null_key = r->has_null ? node->in[null_key_input]->data : NULL,
             .null_value = r->has_null ? node->in[null_value_input]->data : NULL};
    arrange(r, (size_t)threads, r->room->data, &j);
    for (j.search.row = 0; j.search.row < r->batch; j.search.row++) {
        j.search.begin = r->how.begin[j.search.row];
        j.search.count = (size_t)(r->how.end - j.search.begin);
        for (j.t = 0; j.t < r->time; j.t++) {
            j.out = node->out[0]->data + (j.search.row * r->time + j.t) * queries * r->dim;
            j.log_sum = node->out[1]->data + j.search.row * r->time * queries;
            gather_query(&j, node->in[query_input]->data);
            if (j.search.count > candidate_count(r))
                brt_search_run(&j.search, threads);
            brt_parallel_for(threads, queries, query_task, &j);
        }
    }
}

static void backward(brt_tape *tape, brt_node *node)
{
    (void)tape, (void)node;
}

static const brt_op op = {.name = "recall", .forward = forward, .backward = backward};

brt_heard brt_op_recall(brt_tape *tape, brt_tensor *query, brt_tensor *null_key, brt_tensor *null_value,
                        const brt_recall *how, size_t batch)
{
    recall r = {.how = *how,
                .batch = batch,
                .groups = query->shape[0] / batch,
                .time = query->shape[1],
                .heads = query->shape[2],
                .dim = query->shape[3],
                .has_null = null_key != NULL};
    job planned = {.search = search_of(&r, tape)};
    r.room = brt_scratch(tape, arrange(&r, (size_t)brt_tape_threads(tape), NULL, &planned));
    brt_heard heard = {brt_tape_tensor(tape, BRT_SHAPE(batch, r.time, r.groups * r.heads * r.dim)),
                       brt_tape_tensor(tape, BRT_SHAPE(batch * r.groups, r.time, r.heads))};
    brt_tape_push(tape,
                  &(brt_node){.op = &op,
                              .in = {query, null_key, null_value},
                              .out = {heard.out, heard.log_sum_exp},
                              .attributes = &r},
                  sizeof r);
    brt_scratch_free(tape, r.room);
    return heard;
}
