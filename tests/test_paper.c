/* Equality with the code of Hutchins et al. 2022 on the golden values of tests/golden/paper (its README tells where
 * they are from): three segments in a row, logits, losses, caches, states and gradients. */
#define _GNU_SOURCE
#include "models.h"

#include "train/schedule.h"

static const double value_tolerance = 2e-5, gradient_tolerance = 1e-4, loss_tolerance = 2e-5;

typedef struct golden_case {
    const char *name;
    brt_tensors *values;
    brt_model *model;
    brt_trainer *trainer;
    size_t rows, time, classes;
    bool means; /* of losses are what Adafactor is given the gradient of, not sums */
} golden_case;

static const char *tensor_name(const char *prefix, size_t segment)
{
    static char name[32];
    snprintf(name, sizeof name, "%s.%zu", prefix, segment);
    return name;
}

static brt_tensor_info find(const golden_case *c, const char *tensor)
{
    brt_tensor_info info;
    assert_ok(brt_tensors_find(c->values, tensor, &info));
    return info;
}

static bool has_segment(const golden_case *c, size_t segment)
{
    brt_tensor_info info;
    return brt_tensors_find(c->values, tensor_name("tokens", segment), &info) == BRT_OK;
}

static void expect_close(const golden_case *c, const char *tensor, const float *values)
{
    brt_tensor_info info = find(c, tensor);
    double difference = largest_difference(values, &info);
    if (getenv("VERBOSE"))
        printf("%s %s value %g\n", c->name, tensor, difference);
    if (!(difference <= value_tolerance))
        fail_msg("%s: %s differs by %g", c->name, tensor, difference);
}

/* ---- opening ------------------------------------------------------------------------------------------- */

static char *case_directory(const char *name)
{
    static char directory[1100];
    snprintf(directory, sizeof directory, "%s/paper/%s", BRT_TEST_DATA, name);
    return directory;
}

static golden_case open_case(const char *name)
{
    golden_case c = {.name = name};
    char path[1200];
    snprintf(path, sizeof path, "%s/values.safetensors", case_directory(name));
    assert_ok(brt_tensors_open(&c.values, path));
    assert_ok(brt_model_load(&c.model, case_directory(name)));
    brt_tensor_info tokens = find(&c, "tokens.0");
    c.rows = tokens.shape[0];
    c.time = tokens.shape[1];
    c.classes = config_of(c.model, "num_tokens");
    return c;
}

static void open_trainer(golden_case *c, const char *optimizer, bool clears)
{
    brt_trainer_options options = brt_trainer_options_init();
    options.rows = c->rows;
    options.segment_blocks = config_of(c->model, "max_seq_len") / config_of(c->model, "block_width");
    options.threads = 2;
    options.xl_memories_dropout = 0;
    options.state_dropout = clears;
    options.optimizer = optimizer;
    options.weight_decay = options.clip = 0;
    options.summed_loss = strcmp(optimizer, "adafactor") == 0 && !c->means;
    assert_ok(brt_trainer_open(&c->trainer, c->model, &options));
}

static void close_case(golden_case *c)
{
    brt_trainer_close(c->trainer);
    brt_model_close(c->model);
    brt_tensors_close(c->values);
}

/* ---- segments ------------------------------------------------------------------------------------------ */

/* The next token is the target; the last of a segment has none. */
static int32_t *make_targets(const golden_case *c, const int32_t *tokens)
{
    int32_t ignored = (int32_t)brt_config_get(brt_model_config(c->model), "ignore_index");
    int32_t *targets = malloc(c->rows * c->time * sizeof *targets);
    for (size_t i = 0; i < c->rows * c->time; i++)
        targets[i] = (i + 1) % c->time ? tokens[i + 1] : ignored;
    return targets;
}

static bool *read_starts(const golden_case *c, size_t segment)
{
    brt_tensor_info info = find(c, tensor_name("start_of_sequence", segment));
    bool *starts = calloc(c->rows, sizeof *starts);
    for (size_t row = 0; row < c->rows; row++)
        starts[row] = ((const uint8_t *)info.data)[row] != 0;
    return starts;
}

static double run_segment(const golden_case *c, size_t index, bool forward_only, float weight, float *logits)
{
    size_t rows, time;
    int32_t *tokens = read_tokens(c->values, tensor_name("tokens", index), &rows, &time);
    int32_t *targets = make_targets(c, tokens);
    bool *starts = read_starts(c, index);
    double loss;
    brt_segment segment = {.time = time,
                           .tokens = tokens,
                           .targets = targets,
                           .reset = starts,
                           .weight = weight,
                           .forward_only = forward_only,
                           .logits = logits};
    assert_ok(brt_trainer_segment(c->trainer, &segment, &loss, NULL));
    free(tokens);
    free(targets);
    free(starts);
    return loss;
}

static void expect_loss(const golden_case *c, size_t segment, double loss)
{
    brt_tensor_info info = find(c, tensor_name("loss", segment));
    float found = (float)loss;
    if (!(largest_difference(&found, &info) <= loss_tolerance))
        fail_msg("%s: loss %zu is %g", c->name, segment, loss);
}

/* A kernel is [in, out] in files. */
static void to_file_layout(const brt_parameter_info *parameter, float *values)
{
    if (!parameter->transposed)
        return;
    size_t out = parameter->shape[0], in = parameter->shape[1];
    float *copy = malloc(parameter->count * sizeof *copy);
    memcpy(copy, values, parameter->count * sizeof *copy);
    for (size_t i = 0; i < out; i++)
        for (size_t j = 0; j < in; j++)
            values[j * out + i] = copy[i * in + j];
    free(copy);
}

/* The fixture has some parameters' gradients, or all. */
static size_t expect_gradients(const golden_case *c, size_t segment)
{
    size_t compared = 0;
    for (size_t i = 0; i < brt_model_parameter_count(c->model); i++) {
        brt_parameter_info parameter;
        brt_tensor_info info;
        char tensor[160];
        assert_ok(brt_model_parameter(c->model, i, &parameter));
        snprintf(tensor, sizeof tensor, "grad.%zu/%s", segment, parameter.name);
        if (brt_tensors_find(c->values, tensor, &info) != BRT_OK)
            continue;
        float *gradient = malloc(parameter.count * sizeof *gradient);
        assert_ok(brt_trainer_gradient(c->trainer, i, gradient));
        to_file_layout(&parameter, gradient);
        double difference = relative_difference(gradient, &info);
        if (getenv("VERBOSE"))
            printf("%s %s %g\n", c->name, tensor, difference);
        if (!(difference <= gradient_tolerance))
            fail_msg("%s: %s differs by %g of its norm", c->name, tensor, difference);
        free(gradient);
        compared++;
    }
    return compared;
}

/* ---- what is carried ----------------------------------------------------------------------------------- */

static void expect_memories(const golden_case *c, size_t segment)
{
    size_t layers = config_of(c->model, "depth"), width = config_of(c->model, "block_width");
    size_t count = c->rows * width * config_of(c->model, "heads") * config_of(c->model, "dim_head");
    float *both = malloc(2 * count * sizeof *both);
    for (size_t layer = 0; layer < layers; layer++) {
        char tensor[96];
        assert_ok(brt_trainer_memories(c->trainer, layer, both));
        snprintf(tensor, sizeof tensor, "state.%zu/transformer%zu/previous_keys_test", segment, layer);
        expect_close(c, tensor, both);
        snprintf(tensor, sizeof tensor, "state.%zu/transformer%zu/previous_values_test", segment, layer);
        expect_close(c, tensor, both + count);
    }
    free(both);
}

static void expect_states(const golden_case *c, size_t segment)
{
    size_t found = 0;
    for (size_t layer = 0; layer < config_of(c->model, "depth"); layer++) {
        char tensor[96];
        brt_tensor_info info;
        snprintf(tensor, sizeof tensor, "state.%zu/transformer%zu/recurrent_state_test", segment, layer);
        if (brt_tensors_find(c->values, tensor, &info) != BRT_OK)
            continue;
        float *state = malloc(info.count * sizeof *state);
        assert_ok(brt_trainer_states(c->trainer, found++, state));
        expect_close(c, tensor, state);
        free(state);
    }
    assert_int_equal(found, config_of(c->model, "recurrent_layers"));
}

/* ---- cases --------------------------------------------------------------------------------------------- */

/* Gradients of segment `wanted` alone: the others go forward only, or, where every segment starts from the initial
 * state, which training can be told to do, with weight 0. */
static void check_segments(const char *name, size_t wanted, bool clears)
{
    golden_case c = open_case(name);
    size_t segment = 0;
    open_trainer(&c, "adam", clears);
    float *logits = malloc(c.rows * c.time * c.classes * sizeof *logits);
    for (; has_segment(&c, segment); segment++) {
        double loss = run_segment(&c, segment, !clears && segment != wanted, segment == wanted, logits);
        expect_loss(&c, segment, loss);
        expect_close(&c, tensor_name("logits", segment), logits);
        if (segment == wanted)
            expect_gradients(&c, segment);
    }
    expect_memories(&c, segment - 1);
    if (!clears)
        expect_states(&c, segment - 1);
    free(logits);
    close_case(&c);
}

typedef struct listing {
    const char *name;
    bool clears;
} listing;

static const listing cases[] = {
    /* Gates and updates. */
    {"bias_dual", false},
    {"lstm_skip", false},
    {"lstm_single", false},
    {"full_dual", false},
    {"full_skip", false},
    {"full_single", false},
    {"residual_skip", false},
    {"residual_dual", false},
    {"odd_lstm_dual", false},
    {"odd_bias_single_feedback", false},
    {"lstm_dual_feedback", false},
    {"two_recurrent_feedback", false},
    {"bias_skip_always_clear", true},
    /* Attention and positions. */
    {"no_norm_bias_skip", false},
    {"xl_window24", false},
    {"t5_far_xl", false},
    {"pos_absolute_bias_skip", false},
    {"pos_rotary_bias_skip", false},
    {"pos_fourier_bias_skip", false},
    {"pos_alibi_bias_skip", false},
    {"pos_alibi_fixed_bound_bias_skip", false},
    {"pos_nn_bias_skip", false},
    {"pos_orthogonal_bias_skip", false},
    {"pos_ortho_asinh_bias_skip", false},
    /* The release of 2022. */
    {"m22_bias_skip", false},
    {"m22_bias_skip_feedback", false},
};
enum { case_count = sizeof cases / sizeof cases[0] };

static void segments_equal_the_original(void **state)
{
    (void)state;
    for (size_t i = 0; i < case_count; i++)
        for (size_t wanted = 0; wanted < 2; wanted++)
            check_segments(cases[i].name, wanted, cases[i].clears);
}

/* ---- training ------------------------------------------------------------------------------------------ */

static const double training_tolerance = 1e-4;
enum { training_steps = 10 };

static void expect_trained(const golden_case *c, const char *prefix)
{
    for (size_t i = 0; i < brt_model_parameter_count(c->model); i++) {
        brt_parameter_info parameter;
        char tensor[160];
        assert_ok(brt_model_parameter(c->model, i, &parameter));
        snprintf(tensor, sizeof tensor, "%sparam/%s", prefix, parameter.name);
        brt_tensor_info info = find(c, tensor);
        float *values = malloc(parameter.count * sizeof *values);
        memcpy(values, parameter.data, parameter.count * sizeof *values);
        to_file_layout(&parameter, values);
        double difference = largest_difference(values, &info);
        if (!(difference <= training_tolerance))
            fail_msg("%s: %s differs by %g", c->name, tensor, difference);
        free(values);
    }
}

/* Ten updates, what is carried going on. */
static void train(golden_case *c, const size_t *order, const char *schedule, uint64_t warmup, float factor,
                  const char *losses)
{
    brt_tensor_info info = find(c, losses);
    brt_schedule rates = {.peak = factor, .warmup = warmup, .steps = 100000};
    assert_ok(brt_schedule_parse(schedule, &rates.kind));
    for (size_t step = 0; step < training_steps; step++) {
        double norm, loss = run_segment(c, order[step], false, true, NULL);
        float expected;
        memcpy(&expected, (const char *)info.data + step * sizeof expected, sizeof expected);
        if (!(fabs(loss - (double)expected) <= training_tolerance))
            fail_msg("%s: loss of step %zu is %.7g, %s has %.7g", c->name, step, loss, losses, (double)expected);
        assert_ok(brt_trainer_update(c->trainer, brt_schedule_rate(&rates, step, 0), &norm));
    }
}

static void training_equals_the_original(void **state)
{
    static const size_t order[training_steps] = {0, 1, 2, 0, 1, 2, 0, 1, 2, 0};
    static const struct {
        const char *name, *schedule;
        uint64_t warmup;
        bool has_weights;
    } runs[] = {
        {"warmup4", "rsqrt_decay_std", 4, true},
        {"warmup1000", "rsqrt_decay_std", 1000, false},
        {"cosine_warmup4", "cosine_decay", 4, false},
    };
    (void)state;
    for (size_t i = 0; i < sizeof runs / sizeof runs[0]; i++) {
        golden_case c = open_case("bias_dual");
        char losses[64], prefix[64];
        snprintf(losses, sizeof losses, "%s.losses", runs[i].name);
        snprintf(prefix, sizeof prefix, "%s.", runs[i].name);
        open_trainer(&c, "adafactor", false);
        train(&c, order, runs[i].schedule, runs[i].warmup, 1, losses);
        if (runs[i].has_weights)
            expect_trained(&c, prefix);
        close_case(&c);
    }
}

/* Ten updates at one rate, of the gradient of the mean, by another program around the original's model. */
static void training_at_one_rate_equals_the_original(void **state)
{
    static const size_t order[training_steps] = {0, 1, 2, 2, 1, 2, 1, 2, 1, 2};
    (void)state;
    golden_case c = open_case("lstm_skip_trained");
    c.means = true;
    open_trainer(&c, "adafactor", false);
    train(&c, order, "constant", 0, 0.02f, "adafactor.losses");
    expect_trained(&c, "adafactor.");
    close_case(&c);
}

int main(int argc, char **argv)
{
    if (argc > 1) {
        for (int i = 1; i < argc; i++)
            for (size_t wanted = 0; wanted < 2; wanted++)
                check_segments(argv[i], wanted, strstr(argv[i], "always_clear"));
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(segments_equal_the_original),
        cmocka_unit_test(training_equals_the_original),
        cmocka_unit_test(training_at_one_rate_equals_the_original),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
