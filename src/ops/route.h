/* Looking up a long memory (a ring) by coordinate descent: each route scores every key that its row remembers and takes
 * the `tokens` best, as keys and values for attention to attend to.
 *   s_i = temperature * cosine(route, key_i),  p = the soft choice of 9/8 tokens by s (coordinate_descent.h)
 * What is chosen enters with weight 1; backward, that weight is p_i, which multiplies the value: so the route, and what
 * it was made of, learn what to look up. Keys and values themselves are constants. */
#ifndef BRT_OPS_ROUTE_H
#define BRT_OPS_ROUTE_H

#include "../tensor/ring.h"
#include "../tensor/tape.h"

typedef struct brt_routing {
    const brt_ring *ring;
    size_t capacity;       /* the most positions a row remembers */
    const uint64_t *begin; /* [batch]: a row remembers positions from here (lives until backward) .. */
    uint64_t end;          /* .. up to here: where the ring ends, or ended when the same was read before */
    size_t readers;        /* of each batch row, with routes of their own: the parts of a block */
    size_t tokens;         /* chosen by each route */
    bool random;           /* for comparison: what is chosen has nothing to do with the route */
    const uint64_t *draw;  /* [batch]: which random choice a row's first reader makes; the next ones follow */
} brt_routing;

/* Keys and values [batch * readers * routes, tokens + 1, dim]: the null key and value of the route after
 * brt_routing_first_key unused rows of zeros, then what it chose, oldest first. */
typedef struct brt_routed {
    brt_tensor *key, *value;
} brt_routed;

/* route [batch * readers, routes, dim], temperature [routes], null_key and null_value [routes, dim]. Route r looks at
 * the keys of the ring's head r * heads / routes. */
brt_routed brt_op_route(brt_tape *tape, brt_tensor *route, brt_tensor *temperature, brt_tensor *null_key,
                        brt_tensor *null_value, const brt_routing *how);

/* The first key that is not one of the unused, for a row that remembers `count` positions. */
size_t brt_routing_first_key(size_t tokens, uint64_t count);

#endif
