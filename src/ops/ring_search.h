/* What a row remembers in a ring, scored for some queries: the largest scores, and weighted sums over all other keys,
 * in one pass over the keys.
 *
 * Such sums leave out what the pass has yet to find; but to read all keys a second time costs as much again, since
 * there are more of them than the caches hold. So a sample is scored first, and a bound is guessed from it which a few
 * more scores than wanted will reach. The pass adds a key whose score lies below the bound to the sums while it is in
 * the first-level cache. What reaches it is listed, and what is not among the largest after all is added one by one.
 * Where too few reach it, all is done again with a lower bound. So nothing depends on the guess but the rounding of the
 * sums. */
#ifndef BRT_OPS_RING_SEARCH_H
#define BRT_OPS_RING_SEARCH_H

#include "../tensor/ring.h"

/* A search, and the room it needs; all of it is the caller's. Query q looks at the keys of head q * heads / queries. */
typedef struct brt_search {
    const brt_kernels *kernels;
    const brt_ring *ring;
    size_t row;
    uint64_t begin; /* the row remembers `count` positions from here on */
    size_t count;
    size_t queries, dim;
    size_t stride;  /* the most positions that a row remembers */
    size_t wanted;  /* find so many of each query's largest scores; 0 < wanted <= count */
    real sharpness; /* .. and sums with weights exp(sharpness * (score - the least of them)); 0: without sums */
    real *query;    /* [queries, dim] */
    /* What is found. */
    uint32_t *list; /* [queries, stride], `wanted` of each: positions after `begin`, ascending */
    real *scores;   /* [queries, stride]: theirs, query . key */
    real *least;    /* [queries]: the least of these */
    real *weight;   /* [queries]: the sum of the weights of all other keys; behind it, those of tasks */
    real *weighted; /* [queries, dim]: the sum of weights times keys; likewise */
    uint32_t *listed; /* [tasks, queries] */
    real *room;       /* [threads, keys, weights and scores] */
} brt_search;

/* Points a search, whose queries, dim and stride are set, to its room from `base` on (base NULL: to nothing). Returns
 * how many reals it takes. */
size_t brt_search_arrange(brt_search *search, size_t threads, real *base);
void brt_search_run(brt_search *search, int threads);

/* Adds weights times listed keys, as a query looks at them, to sum [dim]. It uses the thread's room. */
void brt_search_add(const brt_search *search, int thread, size_t query, size_t count, const uint32_t *list,
                    const real *weights, real *sum);

/* The ring's head that a query looks at. */
size_t brt_search_head(const brt_search *search, size_t query);
/* A vector, [dim], that a thread may use while nobody searches. */
real *brt_search_room(const brt_search *search, int thread);

#endif
