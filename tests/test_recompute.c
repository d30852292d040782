/* Backward passes that compute activations again have the numbers of those that keep them, bit by bit. */
#include "fixture.h"

typedef struct shape {
    const char *name;
    const char *recurrent, *read; /* layers */
    const char *block_width, *state_vectors;
    size_t rows, blocks;
} shape;

static const shape shapes[] = {
    {"one recurrent layer", "[2]", "[2]", "16", "8", 2, 4},
    {"read earlier, two writers", "[3, 2]", "[1, 1]", "12", "5", 3, 3},
    {"first and last layer", "[1, 3]", "[1, 2]", "7", "9", 1, 6},
    {"no recurrence", "[]", "[]", "10", "4", 2, 3},
    {"narrow blocks", "[2]", "[1]", "3", "2", 2, 8},
};

static brt_model *create_model(const shape *s)
{
    const char *const arguments[][2] = {
        {"num_tokens", "31"},       {"dim", "24"},
        {"depth", "3"},             {"dim_head", "8"},
        {"heads", "3"},             {"max_seq_len", s->block_width},
        {"block_width", s->block_width}, {"recurrent_layers", s->recurrent},
        {"read_recurrent_layers", s->read}, {"num_state_vectors", s->state_vectors},
    };
    brt_config *config;
    brt_model *model;
    assert_ok(brt_config_create(&config));
    for (size_t i = 0; i < sizeof arguments / sizeof arguments[0]; i++)
        assert_ok(brt_config_set(config, arguments[i][0], arguments[i][1]));
    assert_ok(brt_model_create(&model, config, 5));
    brt_config_close(config);
    return model;
}

static brt_trainer *open_trainer(brt_model *model, const shape *s, bool recompute)
{
    brt_trainer_options options = brt_trainer_options_init();
    options.rows = s->rows;
    options.segment_blocks = s->blocks;
    options.recompute = recompute;
    options.xl_memories_dropout = options.state_dropout = 0.3f;
    brt_trainer *trainer;
    assert_ok(brt_trainer_open(&trainer, model, &options));
    return trainer;
}

/* A segment of tokens that depend on `number`; every fifth target is ignored, row 0 starts anew in segment 2. */
static double run_segment(brt_trainer *trainer, const shape *s, size_t time, uint32_t number)
{
    int32_t *tokens = calloc(s->rows * time, sizeof *tokens), *targets = calloc(s->rows * time, sizeof *targets);
    bool *reset = calloc(s->rows, sizeof *reset);
    uint32_t x = number * 747796405u + 1;
    for (size_t i = 0; i < s->rows * time; i++) {
        x = x * 1664525u + 1013904223u;
        tokens[i] = (int32_t)((x >> 16) % 31);
        targets[i] = x % 5 == 0 ? -100 : (int32_t)((x >> 8) % 31);
    }
    reset[0] = number == 2;
    double loss;
    brt_segment segment = {.time = time, .tokens = tokens, .targets = targets, .reset = reset, .weight = 1};
    assert_ok(brt_trainer_segment(trainer, &segment, &loss, NULL));
    free(tokens);
    free(targets);
    free(reset);
    return loss;
}

static void expect_same_gradients(const char *name, const brt_model *model, const brt_trainer *a, const brt_trainer *b)
{
    for (size_t i = 0; i < brt_model_parameter_count(model); i++) {
        brt_parameter_info parameter;
        assert_ok(brt_model_parameter(model, i, &parameter));
        float *left = malloc(parameter.count * sizeof *left), *right = malloc(parameter.count * sizeof *right);
        assert_ok(brt_trainer_gradient(a, i, left));
        assert_ok(brt_trainer_gradient(b, i, right));
        for (size_t j = 0; j < parameter.count; j++)
            if (left[j] != right[j])
                fail_msg("%s: gradient of %s[%zu] is %.9g kept, %.9g computed again", name, parameter.name, j,
                         (double)left[j], (double)right[j]);
        free(left);
        free(right);
    }
}

/* Three segments of different lengths, the second ending inside a block, with what they carry on. */
static void check(const shape *s)
{
    brt_model *model_a = create_model(s), *model_b = create_model(s);
    brt_trainer *kept = open_trainer(model_a, s, false), *again = open_trainer(model_b, s, true);
    size_t width = (size_t)brt_config_get(brt_model_config(model_a), "block_width");
    const size_t times[] = {s->blocks * width, s->blocks * width - 1, s->blocks * width, 1, width};
    for (uint32_t i = 0; i < sizeof times / sizeof times[0]; i++) {
        double a = run_segment(kept, s, times[i], i), b = run_segment(again, s, times[i], i);
        if (a != b)
            fail_msg("%s: the loss of segment %u is %.17g kept, %.17g computed again", s->name, i, a, b);
    }
    expect_same_gradients(s->name, model_a, kept, again);
    brt_trainer_close(kept);
    brt_trainer_close(again);
    brt_model_close(model_a);
    brt_model_close(model_b);
}

static void numbers_are_the_same(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        check(&shapes[i]);
}

static uint64_t bytes_of(const brt_model *model, size_t blocks, bool recompute)
{
    brt_trainer_options options = brt_trainer_options_init();
    options.segment_blocks = blocks;
    options.recompute = recompute;
    uint64_t bytes;
    assert_ok(brt_trainer_measure(model, &options, &bytes));
    return bytes;
}

/* Only what a block starts from grows with the blocks. */
static void memory_hardly_grows(void **state)
{
    (void)state;
    brt_model *model = create_model(&shapes[0]);
    uint64_t carry = 4 * (3 * 16 * 2 * 8 + 8 * 24) * sizeof(float); /* [rows, layers, width, 2 * dim_head], states */
    assert_int_equal(bytes_of(model, 64, true) - bytes_of(model, 4, true), 60 * carry);
    assert_true(bytes_of(model, 64, false) > 5 * bytes_of(model, 64, true));
    brt_model_close(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_the_same),
        cmocka_unit_test(memory_hardly_grows),
    };
    return cmocka_run_group_tests_name("recompute", tests, NULL, NULL);
}
