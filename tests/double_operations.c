/* The gradient of every operation against finite differences. A case is an entry of the table: the operation's builder,
 * the shapes of its inputs, and its options. */
#include "gradient_check.h"

#include "kernels/kernels.h"
#include "ops/attention.h"
#include "ops/coordinate_descent.h"
#include "ops/ops.h"

enum { most_inputs = 4, most_dims = 4 };

typedef struct input {
    const char *name;
    size_t shape[most_dims]; /* ends at the first 0; none at all: an optional input that is absent */
    bool detached;           /* wants no gradient */
} input;

typedef struct check check;
typedef void build(check *k, brt_tensor *const *in, const void *options);

typedef struct operation_case {
    const char *name;
    build *build;
    input inputs[most_inputs];
    const void *options;
} operation_case;

/* ---- a loss of an operation on a tape ------------------------------------------------------------------- */

struct check {
    const operation_case *c;
    brt_tape *tape;
    bool copied; /* the operation's inputs are activations, not parameters */
    real *x[most_inputs], *gradient[most_inputs];
    size_t dims[most_inputs], count[most_inputs];
    brt_gemm *gemm;
    brt_matrix *matrix[most_inputs]; /* of inputs with two dimensions */
    uint64_t weighings;
    double loss;
};

/* Adds a fixed weighting of a tensor to the loss. */
typedef struct weighing {
    check *k;
    uint64_t stream;
    double weight; /* of all elements; 0: a random one for each */
} weighing;

static double weight_at(const weighing *w, size_t i)
{
    return w->weight != 0 ? w->weight : brt_rng_normal(4, w->stream, i);
}

static void weigh_forward(brt_tape *tape, brt_node *node)
{
    const weighing *w = node->attributes;
    (void)tape;
    for (size_t i = 0; i < node->in[0]->count; i++)
        w->k->loss += weight_at(w, i) * node->in[0]->data[i];
}

static void weigh_backward(brt_tape *tape, brt_node *node)
{
    brt_gradient gradient = brt_gradient_open(tape, node->in[0]);
    for (size_t i = 0; gradient.data && i < node->in[0]->count; i++)
        gradient.data[i] = weight_at(node->attributes, i);
    brt_gradient_close(tape, node->in[0], gradient);
}

static const brt_op weigh_op = {
    .name = "weigh", .forward = weigh_forward, .backward = weigh_backward, .starts_backward = true};

static void push_weighing(check *k, brt_tensor *y, double weight)
{
    weighing w = {k, k->weighings++, weight};
    brt_tape_push(k->tape, &(brt_node){.op = &weigh_op, .in = {y}, .attributes = &w}, sizeof w);
}

static void weigh(check *k, brt_tensor *y)
{
    push_weighing(k, y, 0);
}

static void copy_forward(brt_tape *tape, brt_node *node)
{
    (void)tape;
    memcpy(node->out[0]->data, node->in[0]->data, node->in[0]->count * sizeof(real));
}

static void copy_backward(brt_tape *tape, brt_node *node)
{
    brt_gradient gradient = brt_gradient_open(tape, node->in[0]);
    if (gradient.data)
        memcpy(gradient.data, node->out[0]->gradient, node->in[0]->count * sizeof(real));
    brt_gradient_close(tape, node->in[0], gradient);
}

static const brt_op copy_op = {.name = "copy", .forward = copy_forward, .backward = copy_backward};

static brt_tensor *copy(check *k, brt_tensor *x)
{
    brt_tensor *y = brt_tape_tensor(k->tape, x->dims, x->shape);
    brt_tape_push(k->tape, &(brt_node){.op = &copy_op, .in = {x}, .out = {y}}, 0);
    return y;
}

/* A parameter's gradient is added to; an activation's is overwritten by its first consumer. */
static brt_tensor *enter(check *k, size_t i)
{
    const input *in = &k->c->inputs[i];
    if (k->dims[i] == 0)
        return NULL;
    brt_tensor *x =
        brt_tape_external(k->tape, k->x[i], in->detached ? NULL : k->gradient[i], k->dims[i], in->shape);
    return k->copied ? copy(k, x) : x;
}

static double play(void *context)
{
    check *k = context;
    brt_tensor *in[most_inputs];
    k->loss = 0;
    k->weighings = 0;
    for (size_t i = 0; i < most_inputs; i++)
        in[i] = enter(k, i);
    k->c->build(k, in, k->c->options);
    if (brt_tape_recording(k->tape))
        brt_tape_backward(k->tape);
    else
        brt_tape_reset(k->tape);
    return k->loss;
}

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

typedef struct descent_options {
    double k, epsilon;
} descent_options;

static void coordinate_descent(check *k, brt_tensor *const *in, const void *options)
{
    const descent_options *o = options;
    weigh(k, brt_op_coordinate_descent(k->tape, in[0], o->k, o->epsilon));
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

static void geglu(check *k, brt_tensor *const *in, const void *options)
{
    (void)options;
    weigh(k, brt_op_geglu(k->tape, in[0]));
}

/* Any numbers will do as a rotation's. */
enum { rotation_count = 512 };
static real rotation_tables[4][rotation_count];
static const brt_rotation rotation = {rotation_tables[0], rotation_tables[1], rotation_tables[2], rotation_tables[3]};

typedef struct keys_options {
    size_t key_heads;
    const brt_rotation *rotation;
} keys_options;

static void keys(check *k, brt_tensor *const *in, const void *options)
{
    const keys_options *o = options;
    brt_keys out = brt_op_keys(k->tape, in[0], in[1], o->key_heads, in[2], o->rotation);
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

#define OPTIONS(type, ...) &(const type){__VA_ARGS__}
#define INPUT(name, ...) {name, {__VA_ARGS__}, false}
#define DETACHED(name, ...) {name, {__VA_ARGS__}, true}
#define ATTENTION(batch, queries, keys, heads, dim)                                                    \
    {INPUT("query", batch, queries, heads, dim), INPUT("key", batch, keys, dim), INPUT("value", batch, keys, dim)}

static const operation_case cases[] = {
    {"add_rows", add_rows, {INPUT("x", 3, 5, 7), INPUT("added", 5, 7)}, NULL},

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

    {"concat", concat, {INPUT("a", 2, 3, 5), INPUT("b", 2, 3, 4)}, NULL},
    {"concat, many rows", concat, {INPUT("a", 4, 19, 301), INPUT("b", 4, 19, 2)}, NULL},
    {"concat, a detached", concat, {DETACHED("a", 2, 3, 5), INPUT("b", 2, 3, 4)}, NULL},

    {"coordinate_descent", coordinate_descent, {INPUT("scores", 3, 13)}, OPTIONS(descent_options, 4.5, 0.4)},
    {"coordinate_descent, a few", coordinate_descent, {INPUT("scores", 2, 31)}, OPTIONS(descent_options, 0.7, 1.3)},
    {"coordinate_descent, all", coordinate_descent, {INPUT("scores", 2, 5)}, OPTIONS(descent_options, 5, 0.3)},

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

    {"geglu", geglu, {INPUT("x", 2, 3, 10)}, NULL},

    {"gate_full", gate_full, {INPUT("u", 2, 3, 5), INPUT("z", 2, 3, 5), INPUT("state", 2, 3, 5)}, NULL},
    {"gate_full, carried state", gate_full, {INPUT("u", 2, 3, 5), INPUT("z", 2, 3, 5), DETACHED("state", 2, 3, 5)},
     NULL},
    {"gate_lstm", gate_lstm,
     {INPUT("forget", 2, 3, 5), INPUT("input", 2, 3, 5), INPUT("z", 2, 3, 5), INPUT("state", 2, 3, 5)}, NULL},
    {"gate_lstm, tasks", gate_lstm,
     {INPUT("forget", 3, 29, 97), INPUT("input", 3, 29, 97), INPUT("z", 3, 29, 97), DETACHED("state", 3, 29, 97)}, NULL},

    {"keys", keys, {{0}, INPUT("block", 2, 5, 12)}, OPTIONS(keys_options, 1, NULL)},
    {"keys, scale", keys, {{0}, INPUT("block", 2, 5, 12), INPUT("scale", 6)}, OPTIONS(keys_options, 1, NULL)},
    {"keys, rotation", keys, {{0}, INPUT("block", 2, 5, 12)}, OPTIONS(keys_options, 1, &rotation)},
    {"keys, memory", keys, {INPUT("memory", 2, 3, 12), INPUT("block", 2, 5, 12)}, OPTIONS(keys_options, 1, NULL)},
    {"keys, memory, scale and rotation", keys, {INPUT("memory", 2, 3, 12), INPUT("block", 2, 5, 12), INPUT("scale", 6)},
     OPTIONS(keys_options, 1, &rotation)},
    {"keys, carried memory", keys,
     {DETACHED("memory", 3, 17, 12), INPUT("block", 3, 13, 12), INPUT("scale", 6)},
     OPTIONS(keys_options, 1, &rotation)},
    {"keys, three heads", keys, {INPUT("memory", 2, 3, 24), INPUT("block", 2, 5, 24), INPUT("scale", 4)},
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
enum { case_count = sizeof cases / sizeof cases[0] };

/* ---- the check ------------------------------------------------------------------------------------------- */

static void open_input(check *k, size_t i)
{
    const input *in = &k->c->inputs[i];
    for (k->count[i] = 1; k->dims[i] < most_dims && in->shape[k->dims[i]]; k->dims[i]++)
        k->count[i] *= in->shape[k->dims[i]];
    k->x[i] = draw(k->count[i], i);
    k->gradient[i] = zeros(k->count[i]);
    if (k->dims[i] == 2)
        assert_ok(brt_matrix_create(&k->matrix[i], k->gemm, in->shape[0], in->shape[1], k->x[i]));
}

/* Plans both ways to play: with a backward pass, and for the loss alone. */
static void open_check(check *k, const operation_case *c, bool copied)
{
    const brt_kernels *kernels;
    *k = (check){.c = c, .copied = copied};
    assert_ok(brt_kernels_select(&kernels));
    assert_ok(brt_gemm_create(&k->gemm, kernels));
    for (size_t i = 0; i < most_inputs; i++)
        open_input(k, i);
    assert_ok(brt_tape_create(&k->tape, kernels, 1));
    brt_tape_record(k->tape, true);
    play(k);
    brt_tape_record(k->tape, false);
    play(k);
    assert_ok(brt_tape_commit(k->tape));
}

static void close_check(check *k)
{
    assert_ok(brt_tape_status(k->tape));
    brt_tape_close(k->tape);
    for (size_t i = 0; i < most_inputs; i++) {
        brt_matrix_close(k->matrix[i]);
        free(k->x[i]);
        free(k->gradient[i]);
    }
    brt_gemm_close(k->gemm);
}

/* Two passes, the second in the memory that the first has used: their gradients add up. */
static void compute_gradients(check *k)
{
    brt_tape_record(k->tape, true);
    play(k);
    double loss = play(k);
    brt_tape_record(k->tape, false);
    assert_true(fabs(play(k) - loss) <= 1e-12 * (1 + fabs(loss)));
    for (size_t i = 0; i < most_inputs; i++)
        for (size_t j = 0; j < k->count[i]; j++)
            k->gradient[i][j] /= 2;
}

static void check_operation(void **state)
{
    for (int copied = 0; copied <= 1; copied++) {
        check k;
        open_check(&k, *state, copied);
        compute_gradients(&k);
        for (size_t i = 0; i < most_inputs; i++)
            if (k.dims[i] > 0 && !k.c->inputs[i].detached)
                expect_gradient(&(variable){k.c->inputs[i].name, k.x[i], k.gradient[i], k.count[i], play, &k});
        close_check(&k);
    }
}

int main(void)
{
    struct CMUnitTest tests[case_count];
    for (size_t i = 0; i < case_count; i++)
        tests[i] = (struct CMUnitTest){cases[i].name, check_operation, NULL, NULL, (void *)&cases[i]};
    for (size_t table = 0; table < 4; table++)
        for (size_t i = 0; i < rotation_count; i++)
            rotation_tables[table][i] = brt_rng_normal(5, table, i);
    return cmocka_run_group_tests_name("double operations", tests, NULL, NULL);
}
