#include "ring_search.h"

#include "top_scores.h"

#include "../base/parallel.h"
#include "../base/size.h"

#include <math.h>
#include <string.h>

enum {
    task_keys = 4096,
    /* Keys that are read together. As many are fetched at a time: with more the processor waits for its own fetches
     * (128 take a third longer). */
    stretch_keys = 16,
    run_keys = 64, /* so far ahead they are fetched */
    /* The sample: the first keys of every so many. */
    sampled_keys = 4,
    sample_step = 128,
    others_together = 128, /* keys that are listed, but not wanted */
};

/* ---- room ---------------------------------------------------------------------------------------------------- */

static real *take(real *base, size_t *used, size_t count)
{
    real *at = base ? base + *used : NULL;
    *used += count;
    return at;
}

/* Of one thread: a stretch of keys, widened, its weights, and a task's scores. */
static size_t room_of_thread(const brt_search *s)
{
    return stretch_keys * (s->dim + s->queries) + task_keys * s->queries;
}

size_t brt_search_arrange(brt_search *s, size_t threads, real *base)
{
    size_t used = 0, tasks = brt_ceil_div(s->stride, task_keys);
    s->query = take(base, &used, s->queries * s->dim);
    s->weighted = take(base, &used, tasks * s->queries * s->dim);
    s->room = take(base, &used, threads * room_of_thread(s));
    s->scores = take(base, &used, s->queries * s->stride);
    s->list = (uint32_t *)(void *)take(base, &used, s->queries * s->stride);
    s->least = take(base, &used, s->queries);
    s->weight = take(base, &used, tasks * s->queries);
    s->listed = (uint32_t *)(void *)take(base, &used, tasks * s->queries);
    return used;
}

real *brt_search_room(const brt_search *s, int thread)
{
    return s->room + (size_t)thread * room_of_thread(s);
}

static size_t queries_of_head(const brt_search *s)
{
    return s->queries / s->ring->shape.heads;
}

size_t brt_search_head(const brt_search *s, size_t query)
{
    return query / queries_of_head(s);
}

/* ---- keys that lie side by side ---------------------------------------------------------------------------------- */

/* Where scores and sums go. */
typedef struct pass {
    const brt_search *search;
    size_t task;
    real *keys, *weights; /* [stretch_keys, dim], [queries, stretch_keys]: room */
    real *scores;         /* [queries, stride] */
    size_t stride;
    bool weighs;
} pass;

/* Scores of a head's queries. */
static void score(const pass *p, size_t head, size_t count, brt_vectors keys, real *scores)
{
    const brt_search *s = p->search;
    size_t queries = queries_of_head(s);
    s->kernels->matvec(queries, count, s->dim, s->query + head * queries * s->dim, s->dim, keys.data, s->dim, scores,
                       p->stride, false);
    if (keys.scale)
        s->kernels->scale_columns(queries, count, keys.scale, scores, p->stride, scores, p->stride, false);
}

/* Adds what lies below the bounds to the sums of the task. */
static void weigh(const pass *p, size_t head, size_t count, brt_vectors keys, const real *scores)
{
    const brt_search *s = p->search;
    size_t queries = queries_of_head(s), sums = p->task * s->queries + head * queries;
    s->kernels->exp_below(queries, count, s->sharpness, s->least + head * queries, scores, p->stride, p->weights,
                          stretch_keys, s->weight + sums);
    if (keys.scale)
        s->kernels->scale_columns(queries, count, keys.scale, p->weights, stretch_keys, p->weights, stretch_keys,
                                  false);
    s->kernels->matmul(queries, s->dim, count, p->weights, stretch_keys, 1, keys.data, s->dim,
                       s->weighted + sums * s->dim, s->dim, true);
}

/* Scores `count` positions from `first` on, to the columns of p->scores from `column` on, while those from `next` on
 * are fetched: all after `begin`, all side by side. */
static void scan(const pass *p, size_t first, size_t count, size_t next, size_t column)
{
    const brt_search *s = p->search;
    size_t next_count = brt_ring_stretch(s->ring, s->begin + next, count), here;
    for (size_t head = 0; head < s->ring->shape.heads; head++) {
        size_t index = brt_ring_index(s->ring, s->row, head, s->begin + first);
        size_t next_index = brt_ring_index(s->ring, s->row, head, s->begin + next);
        real *scores = p->scores + head * queries_of_head(s) * p->stride + column;
        for (size_t i = 0; i < count; i += here, scores += here) {
            here = brt_min_size(stretch_keys, count - i);
            if (i + here <= next_count)
                brt_ring_fetch(s->ring, &s->ring->key, next_index + i, here);
            brt_vectors keys = brt_ring_read(s->ring, s->kernels, &s->ring->key, index + i, here, p->keys);
            score(p, head, here, keys, scores);
            if (p->weighs)
                weigh(p, head, here, keys, scores);
        }
    }
}

/* ---- the bounds, from a sample ----------------------------------------------------------------------------------- */

/* Keys in the sample of the first `count`. */
static size_t sample_size(size_t count)
{
    return count / sample_step * sampled_keys + brt_min_size(count % sample_step, sampled_keys);
}

static void sample_task(void *context, size_t task, int thread)
{
    const brt_search *s = context;
    pass p = {.search = s, .keys = brt_search_room(s, thread), .scores = s->scores, .stride = s->stride};
    size_t end = brt_min_size((task + 1) * task_keys, s->count), count;
    for (size_t group = task * task_keys; group < end; group += sample_step) {
        size_t next = group + sample_step < end ? group + sample_step : group;
        for (size_t i = 0; i < brt_min_size(sampled_keys, end - group); i += count) {
            count = brt_ring_stretch(s->ring, s->begin + group + i, brt_min_size(sampled_keys, end - group) - i);
            scan(&p, group + i, count, next + i, sample_size(group) + i);
        }
    }
}

typedef struct guessing {
    const brt_search *search;
    size_t sampled, rank; /* keys; that of the one at the bound */
} guessing;

/* Half more than wanted, and some, shall reach the bound; twice as many at each new attempt. (A model learning from
 * text made one pass of 170 again, and listed 1.7 times what was wanted.) */
static guessing plan_guess(const brt_search *s, int attempt)
{
    size_t sampled = sample_size(s->count);
    double wanted = (double)s->wanted / (double)s->count * (double)sampled;
    return (guessing){s, sampled, (size_t)(1.5 * wanted + 8) << attempt};
}

/* The least of the `rank` largest of n scores, whose place is room, as `list` is. That of the first few is not above
 * it, and lets a kernel find those that count. */
static real find_bound(const brt_kernels *kernels, size_t n, real *scores, size_t rank, uint32_t *list)
{
    size_t few = n / 16, listed;
    if (few < rank)
        return brt_top_find(n, scores, rank).least;
    kernels->collect_least(n, brt_top_find(few, scores, rank).least, scores, list, &listed);
    for (size_t i = 0; i < listed; i++)
        scores[i] = scores[list[i]];
    return brt_top_find(listed, scores, rank).least;
}

static void guess_task(void *context, size_t query, int thread)
{
    const guessing *g = context;
    const brt_search *s = g->search;
    size_t at = query * s->stride;
    (void)thread;
    s->least[query] = g->rank < g->sampled
                          ? find_bound(s->kernels, g->sampled, s->scores + at, g->rank, s->list + at)
                          : -(real)INFINITY;
}

/* ---- the pass ---------------------------------------------------------------------------------------------------- */

/* Keys that are scanned while the next ones are fetched: up to the end of a unit, or of a part of it. */
static size_t run_length(const brt_search *s, size_t first, size_t end)
{
    uint64_t position = s->begin + first;
    size_t into_run = position % s->ring->shape.unit % run_keys;
    return brt_ring_stretch(s->ring, position, brt_min_size(run_keys - into_run, end - first));
}

/* Lists those of a task's scores that reach the bound, at the task's place. */
static void list_scores(const pass *p, size_t query, size_t first, size_t count)
{
    const brt_search *s = p->search;
    const real *scores = p->scores + query * p->stride;
    size_t at = query * s->stride + first, listed;
    s->kernels->collect_least(count, s->least[query], scores, s->list + at, &listed);
    for (size_t i = 0; i < listed; i++) {
        s->scores[at + i] = scores[s->list[at + i]];
        s->list[at + i] += (uint32_t)first;
    }
    s->listed[p->task * s->queries + query] = (uint32_t)listed;
}

static void scan_task(void *context, size_t task, int thread)
{
    const brt_search *s = context;
    real *keys = brt_search_room(s, thread), *weights = keys + stretch_keys * s->dim;
    pass p = {s, task, keys, weights, weights + stretch_keys * s->queries, task_keys, s->sharpness > 0};
    size_t first = task * task_keys, end = brt_min_size(first + task_keys, s->count), sums = task * s->queries;
    if (p.weighs) {
        memset(s->weight + sums, 0, s->queries * sizeof *s->weight);
        memset(s->weighted + sums * s->dim, 0, s->queries * s->dim * sizeof *s->weighted);
    }
    for (size_t at = first, count; at < end; at += count) {
        count = run_length(s, at, end);
        scan(&p, at, count, at + count < end ? at + count : at, at - first);
    }
    for (size_t query = 0; query < s->queries; query++)
        list_scores(&p, query, first, end - first);
}

/* What the tasks have listed for a query, side by side; how many that are stands in the first task's place. */
static void join_task(void *context, size_t query, int thread)
{
    const brt_search *s = context;
    real *scores = s->scores + query * s->stride;
    uint32_t *list = s->list + query * s->stride, joined = 0;
    (void)thread;
    for (size_t task = 0; task < brt_ceil_div(s->count, task_keys); task++) {
        uint32_t listed = s->listed[task * s->queries + query];
        memmove(list + joined, list + task * task_keys, listed * sizeof *list);
        memmove(scores + joined, scores + task * task_keys, listed * sizeof *scores);
        joined += listed;
    }
    s->listed[query] = joined;
}

static bool listed_enough(const brt_search *s)
{
    for (size_t query = 0; query < s->queries; query++)
        if (s->listed[query] < s->wanted)
            return false;
    return true;
}

/* ---- what was listed --------------------------------------------------------------------------------------------- */

/* The sums of all tasks, in their order, to the first one's place. Their weights were made with the bound in place of
 * the least score. */
static void combine_sums(const brt_search *s, size_t query, real bound)
{
    real *weight = s->weight + query, *weighted = s->weighted + query * s->dim;
    real unit = (real)exp((double)s->sharpness * ((double)bound - (double)s->least[query]));
    for (size_t task = 1; task < brt_ceil_div(s->count, task_keys); task++) {
        *weight += weight[task * s->queries];
        s->kernels->add(s->dim, weighted + task * s->queries * s->dim, weighted);
    }
    *weight *= unit;
    s->kernels->scale(s->dim, unit, weighted, weighted);
}

void brt_search_add(const brt_search *s, int thread, size_t query, size_t count, const uint32_t *list,
                    const real *weights, real *sum)
{
    real *keys = brt_search_room(s, thread);
    for (size_t i = 0, here; i < count; i += here) {
        here = brt_min_size(stretch_keys, count - i);
        brt_ring_gather(s->ring, s->kernels, &s->ring->key, s->row, brt_search_head(s, query), s->begin, list + i, here,
                        keys);
        s->kernels->matmul(1, s->dim, here, weights + i, here, 1, keys, s->dim, sum, s->dim, true);
    }
}

/* Of what reached the bound, the largest stay listed; the others go to the sums. */
static void settle_task(void *context, size_t query, int thread)
{
    const brt_search *s = context;
    real *scores = s->scores + query * s->stride, *weighted = s->weighted + query * s->dim, weights[others_together];
    uint32_t *list = s->list + query * s->stride, others[others_together];
    size_t listed = s->listed[query], kept = 0, left_out = 0;
    brt_top top = brt_top_find(listed, scores, s->wanted);
    real bound = s->least[query];
    s->least[query] = top.least;
    if (s->sharpness > 0)
        combine_sums(s, query, bound);
    for (size_t i = 0; i < listed; i++) {
        if (brt_top_takes(&top, scores[i])) {
            list[kept] = list[i];
            scores[kept++] = scores[i];
        } else if (s->sharpness > 0) {
            others[left_out] = list[i];
            weights[left_out] = (real)exp((double)s->sharpness * ((double)scores[i] - (double)top.least));
            s->weight[query] += weights[left_out++];
        }
        if (left_out == others_together || i + 1 == listed) {
            brt_search_add(s, thread, query, left_out, others, weights, weighted);
            left_out = 0;
        }
    }
}

void brt_search_run(brt_search *s, int threads)
{
    size_t tasks = brt_ceil_div(s->count, task_keys);
    int attempt = 0;
    do {
        brt_parallel_for(threads, tasks, sample_task, s);
        guessing g = plan_guess(s, attempt++);
        brt_parallel_for(threads, s->queries, guess_task, &g);
        brt_parallel_for(threads, tasks, scan_task, s);
        brt_parallel_for(threads, s->queries, join_task, s);
    } while (!listed_enough(s));
    brt_parallel_for(threads, s->queries, settle_task, s);
}
