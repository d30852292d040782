/* With u = route / |route|, s_i = temperature * u . k_i over the keys that the row remembers, and p the soft choice of
 * 9/8 tokens by s, all weights below 1 being U:
 *   forward takes the `tokens` keys and values with the largest s;
 *   backward, with g_i = dv_i . v_i for what was taken, 0 for the rest:
 *     ds_i = p_i / epsilon (g_i - G) over U,  G = sum over U of p_i g_i / sum over U of p_i
 *     D = sum of ds_i k_i = (sum over U of p_i g_i k_i - G sum over U of p_i k_i) / epsilon
 *     du = temperature * D,  dtemperature = D . u.
 * The last sum, over all that is remembered, is taken forward by the search that finds what is taken (ring_search.h);
 * so is p of what was taken. A row that remembers no more than `tokens` takes all, and its route has no gradient. */
#include "route.h"

#include "coordinate_descent.h"
#include "ring_search.h"
#include "top_scores.h"

#include "../base/parallel.h"
#include "../base/rng.h"
#include "../base/size.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double epsilon = 0.3; /* a third of the spread of the scores of unrelated keys, at temperature 8 */

typedef struct routing {
    brt_routing how;
    size_t batch, routes, dim;
    brt_tensor *room; /* of forward alone */
} routing;

static double soft_tokens(const routing *r)
{
    return (double)r->how.tokens * 9 / 8;
}

/* What the solver must see one by one. */
static size_t candidate_count(const routing *r)
{
    return (size_t)ceil(soft_tokens(r));
}

/* Saved for the backward pass, of each reader and route: p of what was taken (0 where it is 1) [tokens], the sum over U
 * of p k [dim], and of p [1]. */
static size_t saved_count(const routing *r)
{
    return r->how.tokens + r->dim + 1;
}

/* ---- one reader's look into the memory of its row ------------------------------------------------------------- */

typedef struct job {
    const routing *r;
    size_t reader;
    brt_search search; /* its queries are temperature * u of each route; it finds what is taken, or every candidate */
    uint32_t *taken;   /* [routes, tokens]: which of the candidates are taken */
    real *sorted;      /* [routes, candidates]: scores in descending order */
    bool learns;       /* the backward pass will want weights */
    const real *null_key, *null_value;
    real *key, *value, *saved; /* of this reader */
} job;

static brt_search search_of(const routing *r, brt_tape *tape)
{
    return (brt_search){.kernels = brt_tape_kernels(tape),
                        .ring = r->how.ring,
                        .queries = r->routes,
                        .dim = r->dim,
                        .stride = r->how.capacity};
}

/* Gives a job its room; returns the reals of the whole. base may be NULL. */
static size_t arrange(const routing *r, size_t threads, real *base, job *j)
{
    size_t used = brt_search_arrange(&j->search, threads, base), taken = r->routes * r->how.tokens;
    if (base) {
        j->taken = (uint32_t *)(void *)(base + used);
        j->sorted = base + used + taken;
    }
    return used + taken + r->routes * candidate_count(r);
}

static uint32_t *list_of(const job *j, size_t route)
{
    return j->search.list + route * j->search.stride;
}

static real *scores_of(const job *j, size_t route)
{
    return j->search.scores + route * j->search.stride;
}

/* ---- the choice --------------------------------------------------------------------------------------------- */

/* One of each of `tokens` equal parts of what is remembered. */
static void choose_at_random(job *j)
{
    const brt_routing *how = &j->r->how;
    uint64_t draw = how->draw[j->search.row] + j->reader % how->readers;
    for (size_t route = 0; route < j->r->routes; route++)
        for (size_t i = 0; i < how->tokens; i++) {
            size_t from = i * j->search.count / how->tokens, to = (i + 1) * j->search.count / how->tokens;
            list_of(j, route)[i] = (uint32_t)(from + brt_rng_below(draw, route, i, to - from));
        }
}

static void choose_all(job *j)
{
    for (size_t route = 0; route < j->r->routes; route++)
        for (size_t i = 0; i < j->search.count; i++)
            list_of(j, route)[i] = (uint32_t)i;
}

/* ---- weights, for the backward pass ------------------------------------------------------------------------- */

/* Solves for the weights and saves what the backward pass needs; of the candidates, the taken ones stay in the list. */
static void save_task(void *context, size_t route, int thread)
{
    const job *j = context;
    const routing *r = j->r;
    const brt_search *s = &j->search;
    size_t count = candidate_count(r), saturated;
    uint32_t *list = list_of(j, route), *taken = j->taken + route * r->how.tokens;
    real *weights = scores_of(j, route), *sorted = j->sorted + route * count;
    real *saved = j->saved + route * saved_count(r), *weighted = saved + r->how.tokens, *mass = weighted + r->dim;
    brt_top_select(count, weights, r->how.tokens, taken);
    memcpy(sorted, weights, count * sizeof *sorted);
    brt_sort_descending(count, sorted);
    double least = (double)s->least[route], log_rest = least / epsilon + log((double)s->weight[route]);
    double a = brt_coordinate_descent(count, sorted, log_rest, soft_tokens(r), epsilon, &saturated);
    real unit = (real)exp((least + a) / epsilon);
    s->kernels->scale(r->dim, unit, s->weighted + route * r->dim, weighted);
    *mass = unit * s->weight[route];
    for (size_t i = 0; i < count; i++) {
        real p = (real)exp(fmin((double)weights[i] + a, 0) / epsilon);
        weights[i] = p >= 1 ? 0 : p;
        *mass += weights[i];
    }
    brt_search_add(s, thread, route, count, list, weights, weighted);
    for (size_t i = 0; i < r->how.tokens; i++) {
        saved[i] = weights[taken[i]];
        list[i] = list[taken[i]];
    }
}

/* ---- forward ------------------------------------------------------------------------------------------------ */

/* Keys, or values, of one route to `out` [tokens + 1, dim]: unused rows, the null vector, what was taken. */
static void copy_taken(const job *j, size_t route, const brt_stored *stored, const real *null_vector, real *out)
{
    const brt_search *s = &j->search;
    size_t tokens = j->r->how.tokens, dim = j->r->dim, unused = brt_routing_first_key(tokens, s->count);
    memset(out, 0, unused * dim * sizeof *out);
    memcpy(out + unused * dim, null_vector + route * dim, dim * sizeof *out);
    brt_ring_gather(s->ring, s->kernels, stored, s->row, brt_search_head(s, route), s->begin, list_of(j, route),
                    tokens - unused, out + (unused + 1) * dim);
}

static void copy_task(void *context, size_t route, int thread)
{
    const job *j = context;
    size_t at = route * (j->r->how.tokens + 1) * j->r->dim;
    (void)thread;
    copy_taken(j, route, &j->search.ring->key, j->null_key, j->key + at);
    copy_taken(j, route, &j->search.ring->value, j->null_value, j->value + at);
}

/* temperature * route / |route|, for each route of a reader. */
static void make_query(job *j, const real *route, const real *temperature)
{
    size_t dim = j->r->dim;
    real *scale = brt_search_room(&j->search, 0);
    for (size_t r = 0; r < j->r->routes; r++) {
        for (size_t i = 0; i < dim; i++)
            scale[i] = temperature[r];
        j->search.kernels->rotary_forward(1, dim, route + r * dim, dim, scale, NULL, NULL, j->search.query + r * dim,
                                          dim);
    }
}

static void read_memory(job *j, int threads)
{
    const brt_routing *how = &j->r->how;
    if (j->search.count <= how->tokens)
        choose_all(j);
    else if (how->random)
        choose_at_random(j);
    else
        brt_search_run(&j->search, threads);
    if (j->learns)
        brt_parallel_for(threads, j->r->routes, save_task, j);
    else if (j->saved)
        memset(j->saved, 0, j->r->routes * saved_count(j->r) * sizeof *j->saved);
    brt_parallel_for(threads, j->r->routes, copy_task, j);
}

enum { route_input, temperature_input, null_key_input, null_value_input };

/* Points the job at a reader. */
static void enter(job *j, const brt_node *node, size_t reader)
{
    const routing *r = j->r;
    size_t rows = r->routes * (r->how.tokens + 1) * r->dim;
    j->reader = reader;
    j->search.row = reader / r->how.readers;
    j->search.begin = r->how.begin[j->search.row];
    j->search.count = (size_t)(r->how.end - j->search.begin);
    j->key = node->out[0]->data + reader * rows;
    j->value = node->out[1]->data + reader * rows;
    j->saved = node->out[2] ? node->out[2]->data + reader * r->routes * saved_count(r) : NULL;
    j->learns = j->saved && !r->how.random && (double)j->search.count > soft_tokens(r);
    j->search.wanted = j->learns ? candidate_count(r) : r->how.tokens;
    j->search.sharpness = j->learns ? (real)(1 / epsilon) : 0;
    make_query(j, node->in[route_input]->data + reader * r->routes * r->dim, node->in[temperature_input]->data);
}

static void forward(brt_tape *tape, brt_node *node)
{
    const routing *r = node->attributes;
    job j = {.r = r,
             .search = search_of(r, tape),
             .null_key = node->in[null_key_input]->data,
             .null_value = node->in[null_value_input]->data};
    arrange(r, (size_t)brt_tape_threads(tape), r->room->data, &j);
    for (size_t reader = 0; reader < r->batch * r->how.readers; reader++) {
        enter(&j, node, reader);
        read_memory(&j, brt_tape_threads(tape));
    }
}

/* ---- backward ----------------------------------------------------------------------------------------------- */

typedef struct backward_job {
    const brt_kernels *kernels;
    const routing *r;
    const brt_node *node;
    real *droute;       /* [readers, routes, dim] */
    real *dtemperature; /* [readers, routes, dim]: parts of the sum D . u */
    real *room;         /* [threads, backward_room] */
} backward_job;

/* D and a scale, [dim], and what each token gains, [tokens]. */
static size_t backward_room(const routing *r)
{
    return 2 * r->dim + r->how.tokens;
}

/* D, [dim]: the gradient of temperature * u. gains [tokens] is room. */
static void query_gradient(const backward_job *j, size_t item, real *gains, real *d)
{
    const routing *r = j->r;
    size_t tokens = r->how.tokens, dim = r->dim, first = (item * (tokens + 1) + 1) * dim;
    const real *saved = j->node->out[2]->data + item * saved_count(r), *weighted = saved + tokens;
    const real *key = j->node->out[0]->data + first, *value = j->node->out[1]->data + first, *dvalue;
    real mass = weighted[dim];
    double pull = 0;
    if (!(mass > 0) || !j->node->out[1]->has_gradient) {
        memset(d, 0, dim * sizeof *d);
        return;
    }
    dvalue = j->node->out[1]->gradient + first;
    for (size_t i = 0; i < tokens; i++) {
        j->kernels->matvec(1, 1, dim, dvalue + i * dim, dim, value + i * dim, dim, gains + i, 1, false);
        gains[i] *= saved[i];
        pull += (double)gains[i];
    }
    j->kernels->matmul(1, dim, tokens, gains, tokens, 1, key, dim, d, dim, false);
    j->kernels->scale_add(dim, (real)(-pull / (double)mass / epsilon), weighted, (real)(1 / epsilon), d);
}

/* One route of one reader. */
static void backward_task(void *context, size_t item, int thread)
{
    const backward_job *j = context;
    const routing *r = j->r;
    size_t dim = r->dim;
    real *d = j->room + (size_t)thread * backward_room(r), *scale = d + dim, *gains = scale + dim;
    const brt_tensor *route = j->node->in[route_input], *temperature = j->node->in[temperature_input];
    real *dtemperature = j->dtemperature + item * dim;
    query_gradient(j, item, gains, d);
    for (size_t i = 0; i < dim; i++)
        scale[i] = temperature->data[item % r->routes];
    memset(dtemperature, 0, dim * sizeof *dtemperature);
    j->kernels->rotary_backward(1, dim, route->data + item * dim, dim, scale, NULL, NULL, d, dim,
                                j->droute + item * dim, dim, dtemperature);
}

static void add_temperatures(const backward_job *j, real *gradient)
{
    size_t items = j->r->batch * j->r->how.readers * j->r->routes, dim = j->r->dim;
    for (size_t item = 0; gradient && item < items; item++)
        for (size_t i = 0; i < dim; i++)
            gradient[item % j->r->routes] += j->dtemperature[item * dim + i];
}

/* `gradient` [routes, dim] += those of the null rows of one output. */
static void add_null_rows(const backward_job *j, const brt_tensor *output, real *gradient)
{
    const routing *r = j->r;
    for (size_t item = 0; gradient && output->has_gradient && item < r->batch * r->how.readers * r->routes; item++) {
        size_t row = item / r->routes / r->how.readers;
        size_t null_row = brt_routing_first_key(r->how.tokens, r->how.end - r->how.begin[row]);
        j->kernels->add(r->dim, output->gradient + (item * (r->how.tokens + 1) + null_row) * r->dim,
                        gradient + item % r->routes * r->dim);
    }
}

static void backward(brt_tape *tape, brt_node *node)
{
    const routing *r = node->attributes;
    size_t items = r->batch * r->how.readers * r->routes, threads = (size_t)brt_tape_threads(tape);
    brt_gradient droute = brt_gradient_open(tape, node->in[route_input]);
    real *dtemperature = brt_gradient_accumulate(tape, node->in[temperature_input]);
    real *dnull_key = brt_gradient_accumulate(tape, node->in[null_key_input]);
    real *dnull_value = brt_gradient_accumulate(tape, node->in[null_value_input]);
    brt_tensor *parts = brt_scratch(tape, 2 * items * r->dim), *room = brt_scratch(tape, threads * backward_room(r));
    if (brt_tape_running(tape)) {
        backward_job j = {.kernels = brt_tape_kernels(tape),
                          .r = r,
                          .node = node,
                          .droute = droute.data ? droute.data : parts->data + items * r->dim,
                          .dtemperature = parts->data,
                          .room = room->data};
        brt_parallel_for(brt_tape_threads(tape), items, backward_task, &j);
        add_temperatures(&j, dtemperature);
        add_null_rows(&j, node->out[0], dnull_key);
        add_null_rows(&j, node->out[1], dnull_value);
    }
    brt_scratch_free(tape, room);
    brt_scratch_free(tape, parts);
    brt_gradient_close(tape, node->in[route_input], droute);
}

static const brt_op op = {.name = "route", .forward = forward, .backward = backward};

/* Of scores, with everything that the rows remember. */
static size_t count_flops(const routing *r)
{
    size_t keys = 0;
    for (size_t row = 0; r->how.begin && row < r->batch; row++)
        keys += (size_t)(r->how.end - r->how.begin[row]);
    return 2 * keys * r->how.readers * r->routes * r->dim;
}

brt_routed brt_op_route(brt_tape *tape, brt_tensor *route, brt_tensor *temperature, brt_tensor *null_key,
                        brt_tensor *null_value, const brt_routing *how)
{
    size_t threads = (size_t)brt_tape_threads(tape), items = route->count / null_key->count;
    routing r = {
        .how = *how, .batch = items / how->readers, .routes = null_key->shape[0], .dim = null_key->shape[1]};
    job planned = {.search = search_of(&r, tape)};
    r.room = brt_scratch(tape, arrange(&r, threads, NULL, &planned));
    brt_routed out = {brt_tape_tensor(tape, BRT_SHAPE(items * r.routes, how->tokens + 1, r.dim)),
                      brt_tape_tensor(tape, BRT_SHAPE(items * r.routes, how->tokens + 1, r.dim))};
    brt_tensor *saved =
        brt_tape_recording(tape) ? brt_tape_tensor(tape, BRT_SHAPE(items, r.routes, saved_count(&r))) : NULL;
    brt_tape_push(tape,
                  &(brt_node){.op = &op,
                              .in = {route, temperature, null_key, null_value},
                              .out = {out.key, out.value, saved},
                              .attributes = &r,
                              .flops = count_flops(&r)},
                  sizeof r);
    brt_scratch_free(tape, r.room);
    return out;
}

size_t brt_routing_first_key(size_t tokens, uint64_t count)
{
    return count < tokens ? tokens - (size_t)count : 0;
}
