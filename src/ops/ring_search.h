/* Scores of everything that a row remembers in a ring, for some queries. */
#ifndef BRT_OPS_RING_SEARCH_H
#define BRT_OPS_RING_SEARCH_H

#include "../tensor/ring.h"

enum { BRT_SEARCH_TASK = 4096 }; /* positions of one task */

/* A search, and the room it needs; all of it is the caller's. Query q looks at the keys of head q * heads / queries. */
typedef struct brt_search {
    const brt_kernels *kernels;
    const brt_ring *ring;
    size_t row;
    uint64_t begin; /* the row remembers `count` positions from here on */
    size_t count;
    size_t queries;
    size_t stride;       /* between the scores of two queries: count or more */
    real *query;         /* [queries, dim] */
    real *scores;        /* [queries, stride]: query . key */
    uint32_t *histogram; /* [threads, queries, BRT_TOP_BINS]; the first of the threads' becomes that of all scores */
    real *keys;          /* [threads, brt_search_keys(dim)] */
} brt_search;
size_t brt_search_keys(size_t dim);
size_t brt_search_head(const brt_search *search, size_t query);

/* Fills scores and histogram. */
void brt_search_score(brt_search *search, int threads);

/* Calls `visit` for the keys of a task, stretch by stretch and head by head; `first` counts from search->begin. */
typedef void brt_search_visit(void *context, size_t task, size_t head, size_t first, size_t count, brt_vectors keys);
void brt_search_walk(const brt_search *search, size_t task, int thread, brt_search_visit *visit, void *context);

#endif
