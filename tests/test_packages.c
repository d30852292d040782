/* Parts of the model that packages other than the reference have, too: tests/golden/NAME_case.py writes what they
 * compute and tells how ours is the same. BRT_GOLDEN names another folder than tests/golden, with other draws
 * (tests/parity). */
#define _GNU_SOURCE
#include "models.h"

#include "model/model.h"
#include "ops/compression.h"
#include "ops/coordinate_descent.h"

enum { most_tensors = 20 };

/* What a package computed, and our gradients beside it, by name. */
typedef struct oracle {
    brt_tensors *file;
    size_t count;
    brt_tensor_info info[most_tensors];
    float *gradient[most_tensors];
} oracle;

static brt_tensor_info find_info(const oracle *o, const char *name)
{
    brt_tensor_info info;
    assert_ok(brt_tensors_find(o->file, name, &info));
    return info;
}

static oracle open_oracle(const char *name)
{
    char path[1024];
    const char *folder = getenv("BRT_GOLDEN");
    oracle o = {0};
    snprintf(path, sizeof path, "%s/%s/%s.safetensors", folder ? folder : BRT_TEST_DATA, name, name);
    assert_ok(brt_tensors_open(&o.file, path));
    return o;
}

static void close_oracle(oracle *o)
{
    for (size_t i = 0; i < o->count; i++)
        free(o->gradient[i]);
    brt_tensors_close(o->file);
}

/* Number k of a float tensor in a file. */
static float at(const brt_tensor_info *info, size_t k)
{
    float value;
    assert_true(k < info->count);
    memcpy(&value, (const char *)info->data + k * sizeof value, sizeof value);
    return value;
}

static brt_tensor *constant(brt_tape *tape, const oracle *o, const char *name)
{
    brt_tensor_info info = find_info(o, name);
    return brt_tape_external(tape, (real *)info.data, NULL, info.dims, info.shape);
}

/* Where our gradient of what the file has by this name is summed up. */
static float *gradient_of(oracle *o, const char *name)
{
    brt_tensor_info info = find_info(o, name);
    for (size_t i = 0; i < o->count; i++)
        if (o->info[i].data == info.data)
            return o->gradient[i];
    assert_true(o->count < most_tensors);
    o->info[o->count] = info;
    return o->gradient[o->count++] = calloc(info.count, sizeof(float));
}

static brt_tensor *variable(brt_tape *tape, oracle *o, const char *name)
{
    brt_tensor_info info = find_info(o, name);
    return brt_tape_external(tape, (real *)info.data, gradient_of(o, name), info.dims, info.shape);
}

static void expect_values(const oracle *o, const char *name, const float *found)
{
    brt_tensor_info info = find_info(o, name);
    double difference = relative_difference(found, &info);
    if (!(difference < 1e-5))
        fail_msg("%s differs by %g", name, difference);
}

/* Of a value by this name. */
static void expect_gradient(oracle *o, const char *name)
{
    char gradient[64];
    snprintf(gradient, sizeof gradient, "grad.%s", name);
    expect_values(o, gradient, gradient_of(o, name));
}

/* ---- tapes --------------------------------------------------------------------------------------------------- */

typedef void player(brt_tape *tape, oracle *o, void *context);

/* Plans, then plays; with a backward pass where something is given its gradient. */
static void play_on_tape(player *play, oracle *o, void *context)
{
    brt_tape *tape;
    const brt_kernels *kernels;
    assert_ok(brt_kernels_select(&kernels));
    assert_ok(brt_tape_create(&tape, kernels, 2));
    brt_tape_record(tape, true);
    play(tape, o, context);
    brt_tape_backward(tape);
    assert_ok(brt_tape_commit(tape));
    play(tape, o, context);
    brt_tape_backward(tape);
    assert_ok(brt_tape_status(tape));
    brt_tape_close(tape);
}

static void nothing(brt_tape *tape, brt_node *node)
{
    (void)tape, (void)node;
}

static void give(brt_tape *tape, brt_node *node)
{
    brt_gradient gradient = brt_gradient_open(tape, node->in[0]);
    if (gradient.data)
        memcpy(gradient.data, node->in[1]->data, node->in[0]->count * sizeof(real));
    brt_gradient_close(tape, node->in[0], gradient);
}

static const brt_op giving = {.name = "give", .forward = nothing, .backward = give, .starts_backward = true};

/* The loss is the sum of y times the gains in the file; keeps y. */
static void weigh(brt_tape *tape, const oracle *o, brt_tensor *y, float *out)
{
    if (brt_tape_running(tape))
        memcpy(out, y->data, y->count * sizeof *out);
    brt_tape_push(tape, &(brt_node){.op = &giving, .in = {y, constant(tape, o, "gains")}}, 0);
}

/* ---- coordinate descent -------------------------------------------------------------------------------------- */

/* As it is defined, step by step, with an epsilon that falls: the weights of n scores. */
static void descend(const brt_tensor_info *scores, size_t first, size_t n, const brt_tensor_info *settings, float *out)
{
    enum { k, smallest, steps, start, decay };
    double a = 0, epsilon = fmax((double)at(settings, start), (double)at(settings, smallest));
    for (int step = 0; step < (int)at(settings, steps); step++) {
        double sum = 0; /* b, which starts as -s, is 0 where s + b has not been cut to -a */
        for (size_t i = 0; i < n; i++)
            sum += exp((step ? fmin((double)at(scores, first + i), -a) : 0) / epsilon);
        a = epsilon * (log((double)at(settings, k)) - log(sum));
        epsilon = fmax(epsilon * (double)at(settings, decay), (double)at(settings, smallest));
    }
    for (size_t i = 0; i < n; i++)
        out[i] = (float)exp(fmin((double)at(scores, first + i) + a, 0) / epsilon);
}

/* The weights of n scores in the limit. */
static void solve(const brt_tensor_info *scores, size_t first, size_t n, const brt_tensor_info *settings, float *out)
{
    double epsilon = (double)at(settings, 1);
    size_t saturated;
    for (size_t i = 0; i < n; i++)
        out[i] = at(scores, first + i);
    brt_sort_descending(n, out);
    double a = brt_coordinate_descent(n, out, -(double)INFINITY, (double)at(settings, 0), epsilon, &saturated);
    for (size_t i = 0; i < n; i++)
        out[i] = (float)exp(fmin((double)at(scores, first + i) + a, 0) / epsilon);
}

static void the_descent_ends_where_that_of_colt5_attention_does(void **state)
{
    oracle o = open_oracle("descent");
    brt_tensor_info scores = find_info(&o, "scores"), settings = find_info(&o, "settings");
    float *weights = malloc(scores.count * sizeof *weights);
    size_t n = scores.shape[1];
    (void)state;
    for (size_t row = 0; row < scores.shape[0]; row++)
        descend(&scores, row * n, n, &settings, weights + row * n);
    expect_values(&o, "weights", weights);
    for (size_t row = 0; row < scores.shape[0]; row++)
        solve(&scores, row * n, n, &settings, weights + row * n);
    expect_values(&o, "limit", weights);
    free(weights);
    close_oracle(&o);
}

/* ---- the conditional feed-forward ---------------------------------------------------------------------------- */

/* A parameter has the value, and maybe the gradient, of a tensor of the file. */
static void take_parameter(brt_model *model, oracle *o, const char *prefix, const char *name, bool learns)
{
    brt_tensor_info info = find_info(o, name);
    brt_parameter *parameter = brt_parameters_find(&model->parameters, "%s.%s", prefix, name);
    assert_non_null(parameter);
    assert_int_equal(parameter->tensor.count, info.count);
    memcpy(parameter->tensor.data, info.data, info.count * sizeof(float));
    if (!learns)
        return;
    parameter->tensor.gradient = gradient_of(o, name);
    parameter->tensor.wants_gradient = parameter->tensor.has_gradient = true;
}

static brt_model *make_conditional(oracle *o)
{
    static const char *const names[] = {"router.weight", "1.weight", "3.weight", "light.1.weight", "light.3.weight"};
    brt_tensor_info x = find_info(o, "x"), settings = find_info(o, "settings");
    char json[512];
    snprintf(json, sizeof json,
             "{\"num_tokens\": 2, \"dim\": %zu, \"depth\": 1, \"dim_head\": 2, \"heads\": 1, \"recurrent_layers\": [],"
             " \"block_width\": %zu, \"max_seq_len\": %zu, \"ff_mult\": %g, \"light_ff_mult\": %g,"
             " \"conditional_ff_layers\": [1], \"conditional_ff_tokens\": %d}",
             x.shape[2], x.shape[1], x.shape[1], (double)at(&settings, 1), (double)at(&settings, 2),
             (int)at(&settings, 0));
    brt_model *model = make_model(json);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        take_parameter(model, o, "layers.0.1", names[i], true);
    assert_ok(brt_parameters_enable(&model->parameters, false, true));
    return model;
}

typedef struct conditional {
    const brt_layer *layer;
    float *y;
} conditional;

/* The text is the block before itself. */
static void play_conditional(brt_tape *tape, oracle *o, void *context)
{
    const conditional *c = context;
    const brt_layer *layer = c->layer;
    brt_tensor *x = variable(tape, o, "x");
    brt_tensor *scores = brt_op_linear(tape, x, &layer->conditional.router, NULL);
    brt_choice choice = {.price = brt_conditional_ff_price(tape, &layer->conditional, scores)};
    weigh(tape, o,
          brt_conditional_ff_forward(tape, &layer->conditional, &layer->ff_in, &layer->ff_out, x, NULL, &choice), c->y);
}

static void the_conditional_feed_forward_is_that_of_colt5_attention(void **state)
{
    static const char *const names[] = {"x",        "router.weight",  "1.weight",
                                        "3.weight", "light.1.weight", "light.3.weight"};
    oracle o = open_oracle("conditional");
    brt_model *model = make_conditional(&o);
    conditional c = {model->layers, malloc(find_info(&o, "y").count * sizeof(float))};
    (void)state;
    play_on_tape(play_conditional, &o, &c);
    expect_values(&o, "y", c.y);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        expect_gradient(&o, names[i]);
    free(c.y);
    brt_model_close(model);
    close_oracle(&o);
}

/* ---- Memformer's memory -------------------------------------------------------------------------------------- */

static brt_tensor *parameter_of(const brt_model *model, const char *name)
{
    brt_parameter *found = brt_parameters_find(&model->parameters, "layers.0.0.state_container.%s", name);
    assert_non_null(found);
    return &found->tensor;
}

static void fill(const brt_model *model, const char *name, float value)
{
    brt_tensor *tensor = parameter_of(model, name);
    for (size_t i = 0; i < tensor->count; i++)
        tensor->data[i] = value;
}

/* A new state is what was heard: the gate lets in all of it, and nothing is forgotten. */
static brt_model *make_memformer(oracle *o)
{
    static const char *const names[] = {"q_from_state.weight", "state_to_kv.weight", "to_state_out.weight",
                                        "state_out_to_gate.bias"};
    brt_tensor_info heard = find_info(o, "heard"), sharpness = find_info(o, "sharpness");
    size_t dim = heard.shape[2];
    char json[512];
    snprintf(json, sizeof json,
             "{\"num_tokens\": 2, \"dim\": %zu, \"depth\": 1, \"dim_head\": %zu, \"heads\": 1, \"num_state_vectors\": "
             "%zu, \"recurrent_layers\": [1], \"state_cell\": \"memformer\"}",
             dim, dim, heard.shape[1]);
    brt_model *model = make_model(json);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        take_parameter(model, o, "layers.0.0.state_container", names[i], false);
    fill(model, "forget_bias", 0);
    fill(model, "state_pos_ids", 0);
    fill(model, "learned_ema_beta", 100);
    fill(model, "from_state_cross_attn.q_scale", at(&sharpness, 0));
    fill(model, "state_out_to_gate.weight", 0);
    for (size_t i = 0; i < dim; i++)
        parameter_of(model, "state_out_to_gate.weight")->data[i * dim + i] = 1;
    assert_ok(brt_parameters_enable(&model->parameters, false, false));
    return model;
}

typedef struct memory {
    const brt_state_container *container;
    float *heard;
} memory;

static void play_memformer(brt_tape *tape, oracle *o, void *context)
{
    const memory *m = context;
    brt_state_view view = brt_state_open(tape, m->container, constant(tape, o, "state"));
    brt_tensor *next = brt_state_write(tape, m->container, &view, NULL, constant(tape, o, "text"));
    if (brt_tape_running(tape))
        memcpy(m->heard, next->data, next->count * sizeof *m->heard);
}

static void memory_slots_hear_as_those_of_memformer(void **state)
{
    oracle o = open_oracle("memformer");
    brt_model *model = make_memformer(&o);
    memory m = {model->container, malloc(find_info(&o, "heard").count * sizeof(float))};
    (void)state;
    play_on_tape(play_memformer, &o, &m);
    expect_values(&o, "heard", m.heard);
    free(m.heard);
    brt_model_close(model);
    close_oracle(&o);
}

/* ---- reconstruction ------------------------------------------------------------------------------------------ */

/* One head of queries and keys; the mean over the rows of the batch. */
static void play_reconstruction(brt_tape *tape, oracle *o, void *found)
{
    brt_tensor *queries = constant(tape, o, "queries"), *weight = variable(tape, o, "weight");
    size_t count = queries->shape[0], dim = queries->shape[2];
    brt_compressor compressor = {.compression = BRT_COMPRESSION_CONVOLUTION,
                                 .factor = weight->shape[2],
                                 .weight = weight,
                                 .bias = variable(tape, o, "bias")};
    brt_layer layer = {.key_heads = 1, .heads = 1, .dim_head = dim, .scale = 1 / (real)sqrt((double)dim)};
    const brt_tensor *loss = brt_compressor_loss(tape, &compressor, &layer, queries, constant(tape, o, "window"), NULL,
                                                 1 / (real)count);
    float *mean = found;
    *mean = 0;
    for (size_t row = 0; brt_tape_running(tape) && row < count; row++)
        *mean += loss->data[row] / (float)count;
}

/* Our gradients of the keys' and of the values' convolutions together are that of their one. */
static void expect_gradients_of_one_convolution(oracle *o)
{
    brt_tensor_info scale = find_info(o, "scale"), info = find_info(o, "weight");
    size_t dim = info.shape[1], taps = info.shape[2], keys = dim * dim * taps;
    const float *ours = gradient_of(o, "weight"), *our_bias = gradient_of(o, "bias");
    float *weight = malloc(keys * sizeof *weight), *bias = malloc(dim * sizeof *bias);
    for (size_t out = 0; out < dim; out++) {
        size_t rolled = (out + 1) % dim;
        bias[out] = at(&scale, out) * our_bias[out] + our_bias[dim + rolled];
        for (size_t in = 0; in < dim; in++)
            for (size_t tap = 0; tap < taps; tap++)
                weight[(out * dim + in) * taps + tap] =
                    at(&scale, out) / at(&scale, in) * ours[(out * dim + in) * taps + tap] +
                    ours[keys + (rolled * dim + (in + 1) % dim) * taps + tap];
    }
    expect_values(o, "grad.weight", weight);
    expect_values(o, "grad.bias", bias);
    free(weight);
    free(bias);
}

static void the_reconstruction_loss_is_that_of_the_compressive_transformer(void **state)
{
    oracle o = open_oracle("reconstruction");
    float found;
    (void)state;
    play_on_tape(play_reconstruction, &o, &found);
    expect_values(&o, "loss", &found);
    expect_gradients_of_one_convolution(&o);
    close_oracle(&o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_descent_ends_where_that_of_colt5_attention_does),
        cmocka_unit_test(the_conditional_feed_forward_is_that_of_colt5_attention),
        cmocka_unit_test(memory_slots_hear_as_those_of_memformer),
        cmocka_unit_test(the_reconstruction_loss_is_that_of_the_compressive_transformer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
