/* Routed memory: a layer's keys and values of blocks that have left the window, up to `routed_capacity` of them, in a
 * ring (ring.h) that is data beside the tape. Routes, made from the states as a block finds them and, with route_every,
 * from the layer's input at the last token before each part of the block, choose by coordinate descent (route.h) what
 * the part's heads attend to beside the window. No position and no gradient is kept with what is stored. */
#ifndef BRT_MODEL_ROUTED_H
#define BRT_MODEL_ROUTED_H

#include "../ops/attention.h"
#include "../ops/ops.h"
#include "../ops/recall.h"
#include "../ops/route.h"
#include "declaration.h"

/* The router of one layer. */
typedef struct brt_router {
    size_t ring;                  /* which of the model's rings */
    size_t routes, heads, dim;    /* heads: of one route; dim: of a head */
    size_t part;                  /* tokens that share routes */
    size_t tokens, capacity;
    bool random;
    brt_tensor *route;            /* [routes, dim]: what is looked for whatever was read */
    brt_tensor *state_gain;       /* NULL without recurrent layers, from_states too */
    brt_linear from_states;
    brt_tensor *input_gain;       /* NULL without route_every, from_input too */
    brt_linear from_input;
    brt_tensor *temperature, *null_key, *null_value;
    brt_tensor *q_scale;
    brt_tensor *gate;             /* [routes * heads]: how far a head lets in what was chosen; 1 at first, 0 is not */
} brt_router;

/* Its parameters, of the same names in both arithmetics. Leaves a prefix of its own. */
void brt_router_declare(brt_declaration *d, const brt_config *config, size_t layer);
void brt_router_bind(brt_router *router, const brt_parameters *parameters, const brt_config *config, size_t layer);

/* Parts of `time` tokens. */
size_t brt_router_parts(const brt_router *router, size_t time);

/* What looks up a block's memories: states [batch, vectors, dim] as the block finds them, the layer's input
 * x [batch, time, dim], and its last row before that [batch, 1, dim] -> routes [batch * parts, routes * dim]. */
brt_tensor *brt_router_routes(brt_tape *tape, const brt_router *router, brt_tensor *const *states, size_t count,
                              brt_tensor *x, brt_tensor *before);

/* What the rows of a batch remember at a block: positions [begin, end) of every ring. */
typedef struct brt_remembered {
    brt_ring *rings;         /* [routed layers] */
    const uint64_t *begin;   /* [batch] */
    uint64_t end;
    const size_t *first_key; /* [batch * parts]: brt_routing_first_key of each reader */
    const uint64_t *draw;    /* [batch]: of random routes, the parts of a row before this one */
} brt_remembered;            /* its arrays live until backward */
brt_routed brt_router_look_up(brt_tape *tape, const brt_router *router, brt_tensor *routes, size_t parts,
                              const brt_remembered *remembered);
/* The same routes' heads, each token by itself, to the keys of its own choice. */
brt_heard brt_router_recall(brt_tape *tape, const brt_router *router, brt_tensor *projected, const brt_recall *recall);
/* projected [batch, time, heads * dim], the layer's queries, attend to what was chosen. */
brt_heard brt_router_attend(brt_tape *tape, const brt_router *router, brt_tensor *projected, const brt_routed *chosen,
                            const size_t *first_key);

/* ---- rings of a model ---- */

/* The ring of a layer for a batch of `rows`; what is overwritten stays for `blocks` blocks more. */
brt_ring_shape brt_routed_ring_shape(const brt_config *config, size_t capacity, size_t rows, size_t blocks);
/* `count` rings of one shape; NULL for none. */
brt_status brt_rings_create(brt_ring **rings, const brt_ring_shape *shape, size_t count);
void brt_rings_close(brt_ring *rings, size_t count);
/* Of all routed layers. */
uint64_t brt_routed_bytes(const brt_config *config, size_t rows, size_t blocks);
/* One row of a ring: the newest `count` positions to the end of [length, heads * dim], keys and values apart, zeros
 * before them. */
void brt_routed_copy(const brt_ring *ring, const brt_kernels *kernels, size_t row, size_t count, size_t length,
                     real *keys, real *values);
/* The sentence of a routed memory that is not there, of so many. */
brt_status brt_routed_check(size_t memories, size_t index);
/* Positions that a row remembers after `past` full blocks of `width`: all but the last one's, up to `capacity`. */
size_t brt_routed_remembered(size_t capacity, size_t width, uint64_t past);

#endif
