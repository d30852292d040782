/* The gradient of every operation that a layer is made of, and of the original's. */
#include "operation_check.h"

#include "ops/attention.h"
#include "ops/ops.h"

/* ---- the operations -------------------------------------------------------------------------------------- */

static void add_rows(check *k, brt_tensor *const *in, const void *options)
{
    (void)options;
    weigh(k, brt_op_add_rows(k->tape, in[0], in[1]));
}

typedef struct attention_options {
    brt_attention how;
    bool twice; /* a second attention, with keys and values exchanged, writes the columns beside the first's */
    bool log_sum_exp;
} attention_options;

static void attention(check *k, brt_tensor *const *in, const void *options)
{
    const attention_options *o = options;
    brt_attention how = o->how;
    size_t batch = in[0]->shape[0] / brt_max_size(1, how.key_heads);
    brt_tensor *out = brt_tape_tensor(k->tape, BRT_SHAPE(batch, in[0]->shape[1], how.out_row));
    how.bias = in[3];
    if (o->log_sum_exp)
        how.log_sum_exp = brt_tape_tensor(k->tape, BRT_SHAPE(in[0]->shape[0], in[0]->shape[1], in[0]->shape[2]));
    brt_op_attention(k->tape, in[0], in[1], in[2], &how, out);
    how.out_offset += in[0]->shape[3];
    if (o->twice)
        brt_op_attention(k->tape, in[0], in[2], in[1], &how, out);
    weigh(k, out);
    if (o->log_sum_exp)
        weigh(k, how.log_sum_exp);
}

typedef struct cross_entropy_options {
    const int32_t *targets;
    double weight;
} cross_entropy_options;

/* The loss gives its own gradient, and takes the place of the logits. */
static void cross_entropy(check *k, brt_tensor *const *in, const void *options)
{
    const cross_entropy_options *o = options;
    push_weighing(k, brt_op_cross_entropy(k->tape, copy(k, in[0]), o->targets, -100, o->weight), o->weight);
}

static void ema(check *k, brt_tensor *const *in, const void *options)
{
    (void)options;
    weigh(k, brt_op_ema(k->tape, in[0], in[1], in[2]));
}

typedef struct embedding_options {
    size_t batch, time;
    const int32_t *tokens;
} embedding_options;

static void embedding(check *k, brt_tensor *const *in, const void *options)
{
    const embedding_options *o = options;
    weigh(k, brt_op_embedding(k->tape, &(brt_table){.rows = in[0]}, o->tokens, o->batch, o->time));
}

enum { feed_forward_x, feed_forward_in, feed_forward_out, feed_forward_residual };

static brt_tensor *push_feed_forward(check *k, brt_tensor *x, brt_tensor *const *in)
{
    brt_linear first = {.weight = in[feed_forward_in], .matrix = k->matrix[feed_forward_in]};
    brt_linear second = {.weight = in[feed_forward_out], .matrix = k->matrix[feed_forward_out]};
    return brt_op_feed_forward(k->tape, x, &first, &second, in[feed_forward_residual]);
}

static void feed_forward(check *k, brt_tensor *const *in, const void *options)
{
    (void)options;
    weigh(k, push_feed_forward(k, in[feed_forward_x], in));
}

/* Of what is forgotten, and computed again for its reader's backward. */
static void forgotten(check *k, brt_tensor *const *in, const void *options)
{
    (void)options;
    brt_tensor *normalised = brt_op_layer_norm(k->tape, in[feed_forward_x], in[most_inputs - 1]);
    weigh(k, push_feed_forward(k, normalised, in));
    brt_tape_forget(k->tape, normalised);
}

/* Any numbers will do as a rotation's. */
enum { rotation_count = 512 };
static real rotation_tables[4][rotation_count];
static const brt_rotation rotation = {rotation_tables[0], rotation_tables[1], rotation_tables[2], rotation_tables[3]};

typedef struct keys_options {
    size_t key_heads;
    const brt_rotation *rotation;
} keys_options;

enum { keys_scale, keys_first };

static void keys(check *k, brt_tensor *const *in, const void *options)
{
    const keys_options *o = options;
    size_t parts = 0;
    while (keys_first + parts < most_inputs && in[keys_first + parts])
        parts++;
    brt_keys out = brt_op_keys(k->tape, parts, in + keys_first, o->key_heads, in[keys_scale], o->rotation);
    weigh(k, out.key);
    weigh(k, out.value);
}

static void layer_norm(check *k, brt_tensor *const *in, const void *options)
{
    (void)options;
    weigh(k, brt_op_layer_norm(k->tape, in[0], in[1]));
}

static void rms_norm(check *k, brt_tensor *const *in, const void *options)
{
    (void)options;
    weigh(k, brt_op_rms_norm(k->tape, in[0], in[1]));
}

static void silu(check *k, brt_tensor *const *in, const void *options)
{
    (void)options;
    weigh(k, brt_op_silu(k->tape, in[0]));
}

static void transpose(check *k, brt_tensor *const *in, const void *options)
{
    (void)options;
    weigh(k, brt_op_transpose(k->tape, in[0]));
}

static void relu(check *k, brt_tensor *const *in, const void *options)
{
    (void)options;
    weigh(k, brt_op_relu(k->tape, in[0]));
}

static void hyperbolic_tangent(check *k, brt_tensor *const *in, const void *options)
{
    (void)options;
    weigh(k, brt_op_tanh(k->tape, in[0]));
}

static void magnitude(check *k, brt_tensor *const *in, const void *options)
{
    (void)options;
    weigh(k, brt_op_magnitude(k->tape, in[0]));
}

static void scale(check *k, brt_tensor *const *in, const void *options)
{
    weigh(k, brt_op_scale(k->tape, in[0], in[1], *(const real *)options));
}

static void concat(check *k, brt_tensor *const *in, const void *options)
{
    (void)options;
    weigh(k, brt_op_concat(k->tape, in[0], in[1]));
}

static void unit(check *k, brt_tensor *const *in, const void *options)
{
    weigh(k, brt_op_unit(k->tape, in[0], *(const size_t *)options, in[1]));
}

static void gate_full(check *k, brt_tensor *const *in, const void *options)
{
    (void)options;
    weigh(k, brt_op_gate_full(k->tape, in[0], in[1], in[2]));
}

static void gate_lstm(check *k, brt_tensor *const *in, const void *options)
{
    (void)options;
    weigh(k, brt_op_gate_lstm(k->tape, in[0], in[1], in[2], in[3]));
}

static void dropout(check *k, brt_tensor *const *in, const void *options)
{
    weigh(k, brt_op_dropout(k->tape, in[0], in[1], options));
}

static void distance_bias(check *k, brt_tensor *const *in, const void *options)
{
    static real basis[5 * 7];
    (void)options;
    for (size_t i = 0; i < 5 * 7; i++)
        basis[i] = brt_rng_normal(5, 0, i);
    weigh(k, brt_op_distance_bias(k->tape, in[0], basis, 7));
}

/* Some distances are above the bound, some below, for one of the heads at least. */
static void network_bias(check *k, brt_tensor *const *in, const void *options)
{
    (void)options;
    weigh(k, brt_op_network_bias(k->tape, in[0], in[1], in[2], 9));
}

static void alibi(check *k, brt_tensor *const *in, const void *options)
{
    weigh(k, brt_op_alibi(k->tape, in[0], in[1], *(const real *)options, 3, 9));
}

enum { linear_x, linear_weight, linear_bias, linear_residual };

static brt_linear linear_of(const check *k, brt_tensor *const *in)
{
    return (brt_linear){.weight = in[linear_weight], .bias = in[linear_bias], .matrix = k->matrix[linear_weight]};
}

static void linear(check *k, brt_tensor *const *in, const void *options)
{
    brt_linear how = linear_of(k, in);
    (void)options;
    weigh(k, brt_op_linear(k->tape, in[linear_x], &how, in[linear_residual]));
}

/* Input, weight and bias are used twice; the first result is the second's residual. */
static void linear_twice(check *k, brt_tensor *const *in, const void *options)
{
    brt_linear how = linear_of(k, in);
    (void)options;
    brt_tensor *first = brt_op_linear(k->tape, in[linear_x], &how, in[linear_residual]);
    weigh(k, first);
    weigh(k, brt_op_linear(k->tape, in[linear_x], &how, first));
}

static void linear_around(check *k, brt_tensor *const *in, const void *options)
{
    brt_linear how = linear_of(k, in);
    (void)options;
    weigh(k, brt_op_linear(k->tape, in[linear_x], &how, in[linear_x]));
}

typedef struct queries_options {
    size_t key_heads, heads;
    const brt_rotation *rotation;
    size_t position;
} queries_options;

static void queries(check *k, brt_tensor *const *in, const void *options)
{
    const queries_options *o = options;
    weigh(k, brt_op_queries(k->tape, in[0], o->key_heads, o->heads, in[1], o->rotation, o->position));
}

typedef struct part_options {
    size_t part, key_heads, heads;
} part_options;

static void queries_in_parts(check *k, brt_tensor *const *in, const void *options)
{
    const part_options *o = options;
    weigh(k, brt_op_queries_in_parts(k->tape, in[0], o->part, o->key_heads, o->heads, in[1]));
}

/* Beside columns of others. */
static void join(check *k, brt_tensor *const *in, const void *options)
{
    const size_t *shape = options; /* of the result */
    brt_heard one = {in[0], in[1]}, other = {in[2], in[3]};
    brt_tensor *out = brt_tape_tensor(k->tape, BRT_SHAPE(shape[0], shape[1], 2 * shape[2]));
    brt_op_join(k->tape, in[4]->count, &one, &other, in[4], out, 0);
    brt_op_join(k->tape, in[4]->count, &other, &one, in[4], out, shape[2]);
    weigh(k, out);
}

static void join_parts(check *k, brt_tensor *const *in, const void *options)
{
    const size_t *shape = options;
    brt_heard one = {in[0], in[1]}, other = {in[2], in[3]};
    brt_tensor *out = brt_tape_tensor(k->tape, BRT_SHAPE(shape[0], shape[1], shape[2]));
    brt_op_join(k->tape, in[4]->count, &one, &other, in[4], out, 0);
    weigh(k, out);
}

typedef struct pick_options {
    ptrdiff_t first;
    size_t step, count;
} pick_options;

static void pick(check *k, brt_tensor *const *in, const void *options)
{
    const pick_options *o = options;
    weigh(k, brt_op_pick(k->tape, in[0], in[1], o->first, o->step, o->count));
}

static void repeat(check *k, brt_tensor *const *in, const void *options)
{
    weigh(k, brt_op_repeat(k->tape, in[0], *(const size_t *)options));
}

typedef struct select_state_options {
    size_t batch;
    const bool *reset;
} select_state_options;

static void select_state(check *k, brt_tensor *const *in, const void *options)
{
    const select_state_options *o = options;
    weigh(k, brt_op_select_state(k->tape, in[0], in[1], o->reset, o->batch));
}

/* ---- the cases ------------------------------------------------------------------------------------------- */

#define ATTENTION(batch, queries, keys, heads, dim)                                                    \
    {INPUT("query", batch, queries, heads, dim), INPUT("key", batch, keys, dim), INPUT("value", batch, keys, dim)}

static const operation_case cases[] = {
    {"add_rows", add_rows, {INPUT("x", 3, 5, 7), INPUT("added", 5, 7)}, NULL},

    {"network_bias", network_bias, {INPUT("weight", 5), INPUT("shift", 5), INPUT("table", 3, 5)}, NULL},

    {"alibi", alibi, {INPUT("scale", 1), INPUT("bound", 1)}, OPTIONS(real, 0)},
    {"alibi, fixed bound", alibi, {INPUT("scale", 1)}, OPTIONS(real, 0.3)},

    {"attention, no mask", attention, ATTENTION(2, 7, 13, 3, 5),
     OPTIONS(attention_options, .how = {.heads = 3, .scale = 0.4, .out_row = 15, .out_head = 5})},
    {"attention, causal", attention, ATTENTION(2, 5, 5, 1, 3),
     OPTIONS(attention_options, .how = {.heads = 1, .scale = 0.6, .causal = true, .out_row = 3, .out_head = 3})},
    {"attention, rows of different age", attention, ATTENTION(3, 9, 16, 2, 5),
     OPTIONS(attention_options, .how = {.heads = 2, .scale = 0.4, .causal = true, .first_query = 7, .out_row = 10,
                                        .out_head = 5, .first_key = (const size_t[]){7, 0, 3}})},
    {"attention, queries that see nothing", attention, ATTENTION(3, 5, 9, 2, 3),
     OPTIONS(attention_options, .how = {.heads = 2, .scale = 0.5, .causal = true, .first_query = 2, .out_row = 6,
                                        .out_head = 3, .first_key = (const size_t[]){0, 4, 9}})},
    {"attention, room past the last query", attention, ATTENTION(1, 9, 31, 2, 3),
     OPTIONS(attention_options, .how = {.heads = 2, .scale = 0.5, .causal = true, .first_query = 11, .out_row = 6,
                                        .out_head = 3})},
    {"attention, tiles of keys and queries", attention, ATTENTION(2, 35, 291, 2, 3),
     OPTIONS(attention_options, .how = {.heads = 2, .scale = 0.5, .causal = true, .first_query = 255, .out_row = 6,
                                        .out_head = 3, .first_key = (const size_t[]){140, 0}})},
    {"attention, few queries", attention, ATTENTION(2, 3, 301, 3, 5),
     OPTIONS(attention_options, .how = {.heads = 3, .scale = 0.4, .causal = true, .first_query = 297, .out_row = 15,
                                        .out_head = 5, .first_key = (const size_t[]){5, 0}})},
    {"attention, two beside each other in every head", attention, ATTENTION(2, 5, 7, 3, 3),
     OPTIONS(attention_options, .how = {.heads = 3, .scale = 0.5, .out_row = 18, .out_head = 6}, .twice = true)},

    {"attention, a head of keys for every two", attention, ATTENTION(6, 5, 9, 2, 3),
     OPTIONS(attention_options, .how = {.key_heads = 3, .heads = 2, .scale = 0.5, .causal = true, .first_query = 4,
                                        .out_row = 18, .out_head = 3, .first_key = (const size_t[]){0, 2}})},
    {"attention, a window strictly before", attention, ATTENTION(1, 40, 150, 2, 3),
     OPTIONS(attention_options, .how = {.heads = 2, .scale = 0.5, .causal = true, .strict = true, .window = 30,
                                        .first_query = 109, .out_row = 6, .out_head = 3})},
    {"attention, a bias and the sum's logarithm", attention,
     {INPUT("query", 4, 7, 2, 3), INPUT("key", 4, 12, 3), INPUT("value", 4, 12, 3), INPUT("bias", 4, 13)},
     OPTIONS(attention_options, .how = {.key_heads = 2, .heads = 2, .scale = 0.5, .causal = true, .window = 6,
                                        .first_query = 5, .out_row = 12, .out_head = 3}, .log_sum_exp = true)},
    {"attention, dropout", attention, ATTENTION(2, 35, 291, 2, 3),
     OPTIONS(attention_options, .how = {.heads = 2, .scale = 0.5, .causal = true, .strict = true, .first_query = 255,
                                        .out_row = 6, .out_head = 3, .first_key = (const size_t[]){0, 140},
                                        .dropout = {.rate = 0.4, .seed = 1, .stream = 2, .index = 3}})},
    {"attention, dropout, groups of heads, a bias and the sum's logarithm", attention,
     {INPUT("query", 4, 7, 2, 3), INPUT("key", 4, 12, 3), INPUT("value", 4, 12, 3), INPUT("bias", 4, 13)},
     OPTIONS(attention_options, .how = {.key_heads = 2, .heads = 2, .scale = 0.5, .causal = true, .window = 6,
                                        .first_query = 5, .out_row = 12, .out_head = 3,
                                        .dropout = {.rate = 0.4, .seed = 1, .stream = 2, .index = 3}},
             .log_sum_exp = true)},

    {"concat", concat, {INPUT("a", 2, 3, 5), INPUT("b", 2, 3, 4)}, NULL},
    {"concat, many rows", concat, {INPUT("a", 4, 19, 301), INPUT("b", 4, 19, 2)}, NULL},
    {"concat, a detached", concat, {DETACHED("a", 2, 3, 5), INPUT("b", 2, 3, 4)}, NULL},


    {"cross_entropy", cross_entropy, {INPUT("logits", 2, 3, 7)},
     OPTIONS(cross_entropy_options, (const int32_t[]){0, -100, 6, 3, 3, -100}, 0.3)},
    {"cross_entropy, every target", cross_entropy, {INPUT("logits", 3, 5)},
     OPTIONS(cross_entropy_options, (const int32_t[]){4, 0, 2}, 1)},

    {"distance_bias", distance_bias, {INPUT("table", 3, 5)}, NULL},

    {"dropout", dropout, {INPUT("x", 2, 3, 7)}, OPTIONS(brt_dropout, .rate = 0.4, .seed = 1, .stream = 2, .index = 3)},
    {"dropout, residual", dropout, {INPUT("x", 2, 131, 5), INPUT("residual", 2, 131, 5)},
     OPTIONS(brt_dropout, .rate = 0.4, .seed = 1, .stream = 2, .index = 3, .first = 100)},

    {"ema", ema, {INPUT("beta", 5), INPUT("z", 2, 3, 5), INPUT("state", 2, 3, 5)}, NULL},
    {"ema, many rows", ema, {INPUT("beta", 3), INPUT("z", 5, 13, 3), INPUT("state", 5, 13, 3)}, NULL},
    {"ema, detached update", ema, {INPUT("beta", 5), DETACHED("z", 2, 3, 5), INPUT("state", 2, 3, 5)}, NULL},
    {"ema, carried state", ema, {INPUT("beta", 5), INPUT("z", 2, 3, 5), DETACHED("state", 2, 3, 5)}, NULL},

    {"embedding, repeated tokens", embedding, {INPUT("table", 7, 5)},
     OPTIONS(embedding_options, 2, 3, (const int32_t[]){1, 6, 1, 0, 6, 1})},
    {"embedding, wide", embedding, {INPUT("table", 3, 131)},
     OPTIONS(embedding_options, 1, 5, (const int32_t[]){2, 2, 0, 2, 0})},

    {"feed_forward", feed_forward, {INPUT("x", 2, 3, 5), INPUT("in", 14, 5), INPUT("out", 5, 7)}, NULL},
    {"feed_forward, residual", feed_forward,
     {INPUT("x", 2, 3, 5), INPUT("in", 14, 5), INPUT("out", 5, 7), INPUT("residual", 2, 3, 5)}, NULL},
    {"feed_forward, chunks of rows", feed_forward,
     {INPUT("x", 2, 515, 2), INPUT("in", 6, 2), INPUT("out", 2, 3), INPUT("residual", 2, 515, 2)}, NULL},
    {"feed_forward of a layer norm that was forgotten", forgotten,
     {INPUT("x", 2, 3, 5), INPUT("in", 14, 5), INPUT("out", 5, 7), {0}, INPUT("gain", 5)}, NULL},

    {"gate_full", gate_full, {INPUT("u", 2, 3, 5), INPUT("z", 2, 3, 5), INPUT("state", 2, 3, 5)}, NULL},
    {"gate_full, carried state", gate_full, {INPUT("u", 2, 3, 5), INPUT("z", 2, 3, 5), DETACHED("state", 2, 3, 5)},
     NULL},
    {"gate_lstm", gate_lstm,
     {INPUT("forget", 2, 3, 5), INPUT("input", 2, 3, 5), INPUT("z", 2, 3, 5), INPUT("state", 2, 3, 5)}, NULL},
    {"gate_lstm, tasks", gate_lstm,
     {INPUT("forget", 3, 29, 97), INPUT("input", 3, 29, 97), INPUT("z", 3, 29, 97), DETACHED("state", 3, 29, 97)},
     NULL},

    {"keys", keys, {{0}, INPUT("block", 2, 5, 12)}, OPTIONS(keys_options, 1, NULL)},
    {"keys, scale", keys, {INPUT("scale", 6), INPUT("block", 2, 5, 12)}, OPTIONS(keys_options, 1, NULL)},
    {"keys, rotation", keys, {{0}, INPUT("block", 2, 5, 12)}, OPTIONS(keys_options, 1, &rotation)},
    {"keys, memory", keys, {{0}, INPUT("memory", 2, 3, 12), INPUT("block", 2, 5, 12)}, OPTIONS(keys_options, 1, NULL)},
    {"keys, memory, scale and rotation", keys, {INPUT("scale", 6), INPUT("memory", 2, 3, 12), INPUT("block", 2, 5, 12)},
     OPTIONS(keys_options, 1, &rotation)},
    {"keys, carried memory", keys, {INPUT("scale", 6), DETACHED("memory", 3, 17, 12), INPUT("block", 3, 13, 12)},
     OPTIONS(keys_options, 1, &rotation)},
    {"keys, two memories", keys,
     {INPUT("scale", 6), INPUT("compressed", 3, 2, 12), DETACHED("memory", 3, 4, 12), INPUT("block", 3, 5, 12)},
     OPTIONS(keys_options, 1, &rotation)},
    {"keys, three heads", keys, {INPUT("scale", 4), INPUT("memory", 2, 3, 24), INPUT("block", 2, 5, 24)},
     OPTIONS(keys_options, 3, &rotation)},

    {"layer_norm", layer_norm, {INPUT("x", 2, 3, 7), INPUT("gain", 7)}, NULL},
    {"layer_norm, many rows", layer_norm, {INPUT("x", 5, 13, 5), INPUT("gain", 5)}, NULL},

    {"linear", linear, {INPUT("x", 2, 3, 5), INPUT("weight", 7, 5)}, NULL},
    {"linear, bias", linear, {INPUT("x", 2, 3, 5), INPUT("weight", 7, 5), INPUT("bias", 7)}, NULL},
    {"linear, residual", linear, {INPUT("x", 2, 3, 5), INPUT("weight", 7, 5), {0}, INPUT("residual", 2, 3, 7)}, NULL},
    {"linear, tiles of rows", linear,
     {INPUT("x", 129, 5), INPUT("weight", 37, 5), INPUT("bias", 37), INPUT("residual", 129, 37)}, NULL},
    {"linear, shared inputs", linear_twice,
     {INPUT("x", 2, 3, 5), INPUT("weight", 7, 5), INPUT("bias", 7), INPUT("residual", 2, 3, 7)}, NULL},
    {"linear, its input the residual", linear_around, {INPUT("x", 2, 3, 5), INPUT("weight", 5, 5)}, NULL},

    {"magnitude", magnitude, {INPUT("x", 5)}, NULL},

    {"queries", queries, {INPUT("x", 2, 5, 18)}, OPTIONS(queries_options, 1, 3, NULL, 0)},
    {"queries, scale", queries, {INPUT("x", 2, 5, 18), INPUT("scale", 6)}, OPTIONS(queries_options, 1, 3, NULL, 0)},
    {"queries, rotation", queries, {INPUT("x", 2, 5, 18)}, OPTIONS(queries_options, 1, 3, &rotation, 4)},
    {"queries, scale and rotation", queries, {INPUT("x", 3, 17, 12), INPUT("scale", 6)},
     OPTIONS(queries_options, 1, 2, &rotation, 13)},
    {"queries, two of each of three key heads", queries, {INPUT("x", 2, 5, 24), INPUT("scale", 4)},
     OPTIONS(queries_options, 3, 2, &rotation, 4)},
    {"queries, detached", queries, {DETACHED("x", 2, 5, 18), INPUT("scale", 6)},
     OPTIONS(queries_options, 1, 3, NULL, 0)},

    {"silu", silu, {INPUT("x", 2, 3, 7)}, NULL},
    {"transpose", transpose, {INPUT("x", 3, 7)}, NULL},
    {"relu", relu, {INPUT("x", 2, 3, 7)}, NULL},

    {"rms_norm", rms_norm, {INPUT("x", 2, 3, 7), INPUT("gain", 7)}, NULL},
    {"rms_norm, many rows", rms_norm, {INPUT("x", 5, 13, 5), INPUT("gain", 5)}, NULL},

    {"scale", scale, {INPUT("x", 5)}, OPTIONS(real, 0.3)},
    {"scale, by rows", scale, {INPUT("x", 3, 5), INPUT("scale", 3)}, OPTIONS(real, 0.3)},

    {"queries, parts", queries_in_parts, {INPUT("x", 2, 7, 12), INPUT("scale", 3)}, OPTIONS(part_options, 3, 2, 2)},

    {"join", join,
     {INPUT("one", 2, 3, 8), INPUT("one's sums", 4, 3, 2), INPUT("other", 2, 3, 8), INPUT("other's sums", 8, 3, 1),
      INPUT("gate", 4)},
     &(const size_t[]){2, 3, 8}},
    {"join, detached", join,
     {INPUT("one", 2, 3, 6), DETACHED("one's sums", 2, 3, 2), DETACHED("other", 2, 3, 6),
      INPUT("other's sums", 2, 3, 2), INPUT("gate", 2)},
     &(const size_t[]){2, 3, 6}},
    {"join, parts", join_parts,
     {INPUT("one", 2, 7, 6), INPUT("one's sums", 2, 7, 2), INPUT("other", 6, 3, 6), INPUT("other's sums", 12, 3, 1),
      INPUT("gate", 2)},
     &(const size_t[]){2, 7, 6}},

    {"pick", pick, {INPUT("x", 2, 7, 3), INPUT("before", 2, 1, 3)}, OPTIONS(pick_options, -1, 3, 3)},
    {"pick, the last", pick, {INPUT("x", 2, 7, 3)}, OPTIONS(pick_options, 6, 1, 1)},
    {"repeat", repeat, {INPUT("x", 2, 5)}, &(const size_t){3}},

    {"select_state, initial", select_state, {{0}, INPUT("initial", 3, 5)}, OPTIONS(select_state_options, 2, NULL)},
    {"select_state, previous", select_state, {INPUT("previous", 2, 3, 5), INPUT("initial", 3, 5)},
     OPTIONS(select_state_options, 2, NULL)},
    {"select_state, rows that start anew", select_state, {INPUT("previous", 3, 3, 5), INPUT("initial", 3, 5)},
     OPTIONS(select_state_options, 3, (const bool[]){true, false, true})},
    {"select_state, carried state", select_state,
     {DETACHED("previous", 3, 3, 5), INPUT("initial", 3, 5)},
     OPTIONS(select_state_options, 3, (const bool[]){true, false, true})},

    {"tanh", hyperbolic_tangent, {INPUT("x", 2, 3, 7)}, NULL},

    {"unit", unit, {INPUT("x", 2, 5, 18)}, OPTIONS(size_t, 3)},
    {"unit, scale", unit, {INPUT("x", 2, 25, 18), INPUT("scale", 3)}, OPTIONS(size_t, 3)},
    {"unit, detached", unit, {DETACHED("x", 2, 5, 18), INPUT("scale", 3)}, OPTIONS(size_t, 3)},
};

int main(void)
{
    for (size_t table = 0; table < 4; table++)
        for (size_t i = 0; i < rotation_count; i++)
            rotation_tables[table][i] = brt_rng_normal(5, table, i);
    return check_operations("double operations", cases, sizeof cases / sizeof cases[0]);
}
