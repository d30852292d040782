#include "ring_search.h"

#include "top_scores.h"

#include "../base/parallel.h"
#include "../base/size.h"

#include <string.h>

enum { stretch_keys = 128 }; /* read together: widened, they stay in the first-level cache */

size_t brt_search_keys(size_t dim)
{
    return stretch_keys * dim;
}

static size_t queries_of_head(const brt_search *search)
{
    return search->queries / search->ring->shape.heads;
}

size_t brt_search_head(const brt_search *search, size_t query)
{
    return query / queries_of_head(search);
}

void brt_search_walk(const brt_search *search, size_t task, int thread, brt_search_visit *visit, void *context)
{
    const brt_ring *ring = search->ring;
    size_t end = brt_min_size((task + 1) * BRT_SEARCH_TASK, search->count), count;
    real *keys = search->keys + (size_t)thread * brt_search_keys(ring->shape.dim);
    for (size_t first = task * BRT_SEARCH_TASK; first < end; first += count) {
        uint64_t position = search->begin + first;
        count = brt_ring_stretch(ring, position, brt_min_size(stretch_keys, end - first));
        for (size_t head = 0; head < ring->shape.heads; head++)
            visit(context, task, head, first, count,
                  brt_ring_read(ring, search->kernels, &ring->key, search->row, head, position, count, keys));
    }
}

static void score_stretch(void *context, size_t task, size_t head, size_t first, size_t count, brt_vectors keys)
{
    const brt_search *s = context;
    size_t queries = queries_of_head(s), dim = s->ring->shape.dim;
    real *scores = s->scores + head * queries * s->stride + first;
    (void)task;
    s->kernels->matvec(queries, count, dim, s->query + head * queries * dim, dim, keys.data, dim, scores, s->stride,
                       false);
    if (keys.scale)
        s->kernels->scale_columns(queries, count, keys.scale, scores, s->stride, scores, s->stride, false);
}

static void score_task(void *context, size_t task, int thread)
{
    brt_search *s = context;
    size_t first = task * BRT_SEARCH_TASK, count = brt_min_size(BRT_SEARCH_TASK, s->count - first);
    uint32_t *histogram = s->histogram + (size_t)thread * s->queries * BRT_TOP_BINS;
    brt_search_walk(s, task, thread, score_stretch, s);
    for (size_t q = 0; q < s->queries; q++)
        brt_top_count(count, s->scores + q * s->stride + first, histogram + q * BRT_TOP_BINS);
}

void brt_search_score(brt_search *search, int threads)
{
    size_t bins = search->queries * BRT_TOP_BINS;
    memset(search->histogram, 0, (size_t)threads * bins * sizeof *search->histogram);
    brt_parallel_for(threads, brt_ceil_div(search->count, BRT_SEARCH_TASK), score_task, search);
    for (size_t i = bins; i < (size_t)threads * bins; i++)
        search->histogram[i % bins] += search->histogram[i];
}
