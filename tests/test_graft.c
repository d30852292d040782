/* Recurrent layers grafted onto a trained model: the same logits at first, bit by bit, and new weights that learn. */
#define _GNU_SOURCE
#include "feeding.h"

static const char plain[] = "{\"num_tokens\": 40, \"dim\": 48, \"depth\": 3, \"heads\": 3, \"dim_head\": 16,"
                            " \"block_width\": 24, \"max_seq_len\": 96, \"recurrent_layers\": []}";

static brt_config *config_with(const char *base, const char *layers, const char *reads)
{
    brt_config *config = make_config(base);
    assert_ok(brt_config_set(config, "recurrent_layers", layers));
    assert_ok(brt_config_set(config, "read_recurrent_layers", reads));
    assert_ok(brt_config_set(config, "recurrent_qk_rmsnorm", "false"));
    return config;
}

static void expect_same_logits(brt_model *source, brt_model *grafted)
{
    input in = make_input(source, 2, 4), same = in;
    same.model = grafted;
    const size_t parts[] = {in.time, 1, 7};
    for (size_t i = 0; i < 3; i++) {
        float *expected = feed_in_parts(&in, parts[i]), *found = feed_in_parts(&same, parts[i]);
        assert_memory_equal(found, expected, in.rows * in.time * in.classes * sizeof *found);
        free(expected);
        free(found);
    }
    free(in.tokens);
}

static void nothing_changes_at_first(void **state)
{
    (void)state;
    static const char *const layers[][3] = {{"[1]", "[1]", "[]"},
                                            {"[2, 3]", "[2, 3]", "[]"},
                                            {"[3, 2]", "[1, 1]", "[]"},
                                            {"[]", "[]", "[2]"},
                                            {"[2]", "[2]", "[1, 3]"}};
    for (size_t i = 0; i < sizeof layers / sizeof layers[0]; i++) {
        brt_model *source = make_model(plain), *grafted;
        brt_config *config = config_with(plain, layers[i][0], layers[i][1]);
        assert_ok(brt_config_set(config, "routed_layers", layers[i][2]));
        assert_ok(brt_config_set(config, "routes", "3"));
        assert_ok(brt_config_set(config, "routed_tokens", "10"));
        assert_ok(brt_config_set(config, "state_cell", i % 2 ? "memformer" : "block_recurrent"));
        assert_ok(brt_model_graft(&grafted, source, config, 7));
        expect_same_logits(source, grafted);
        brt_config_close(config);
        brt_model_close(grafted);
        brt_model_close(source);
    }
}

/* Of what reads the state in layer 2: the columns of to_out after the window's. */
static double reading_gradient(const brt_model *model, const brt_trainer *trainer)
{
    for (size_t i = 0;; i++) {
        brt_parameter_info info;
        assert_ok(brt_model_parameter(model, i, &info));
        if (strcmp(info.name, "layers.1.0.to_out.weight") != 0)
            continue;
        float *gradient = malloc(info.count * sizeof *gradient);
        assert_ok(brt_trainer_gradient(trainer, i, gradient));
        double sum = 0;
        for (size_t j = 0; j < info.count; j++)
            if (j % info.shape[1] >= info.shape[1] / 2)
                sum += fabs((double)gradient[j]);
        free(gradient);
        return sum;
    }
}

static void the_new_weights_learn(void **state)
{
    (void)state;
    brt_model *source = make_model(plain), *grafted;
    brt_config *config = config_with(plain, "[2]", "[2]");
    assert_ok(brt_model_graft(&grafted, source, config, 7));
    brt_trainer_options options = brt_trainer_options_init();
    options.rows = 1;
    options.segment_blocks = 4;
    brt_trainer *trainer;
    assert_ok(brt_trainer_open(&trainer, grafted, &options));
    int32_t *tokens = draw_tokens(grafted, 97, 5);
    brt_segment segment = {.time = 96, .tokens = tokens, .targets = tokens + 1, .weight = 1};
    double loss;
    assert_ok(brt_trainer_segment(trainer, &segment, &loss, NULL));
    assert_true(reading_gradient(grafted, trainer) > 0);
    free(tokens);
    brt_trainer_close(trainer);
    brt_config_close(config);
    brt_model_close(grafted);
    brt_model_close(source);
}

static void what_would_change_the_model_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *source_layers, *key, *value, *part;
    } cases[] = {
        {"[]", "recurrent_qk_rmsnorm", "true", "layer 2 would begin to normalise"},
        {"[]", "window", "exact", "another argument of the model differs"},
        {"[]", "depth", "4", "another argument of the model differs"},
        {"[1]", "recurrent_qk_rmsnorm", "false", "has recurrent layers already"},
        {"[2]", "read_recurrent_layers", "[1]", "another argument of the model differs"},
        {"[2]", "qk_logit_scale", "4", "another argument of the model differs"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        brt_config *source_config = config_with(plain, cases[i].source_layers, cases[i].source_layers);
        brt_config *config = config_with(plain, "[2]", "[2]");
        brt_model *source, *grafted = NULL;
        assert_ok(brt_config_set(config, cases[i].key, cases[i].value));
        assert_ok(brt_model_create(&source, source_config, 1));
        expect_failure(brt_model_graft(&grafted, source, config, 1), BRT_ERROR_MISMATCH, cases[i].part);
        assert_null(grafted);
        brt_model_close(source);
        brt_config_close(source_config);
        brt_config_close(config);
    }
}

static void weights_in_few_bits_are_refused(void **state)
{
    (void)state;
    brt_model *source = make_model(plain), *quantized, *grafted = NULL;
    brt_config *config = config_with(plain, "[2]", "[2]");
    assert_ok(brt_model_quantize(&quantized, source, "int8"));
    expect_failure(brt_model_graft(&grafted, quantized, config, 1), BRT_ERROR_UNSUPPORTED, "is held in int8");
    assert_null(grafted);
    brt_config_close(config);
    brt_model_close(quantized);
    brt_model_close(source);
}

/* Of a model that has routed memories: their routes, and how much they choose. */
static void routed_memories_stay_as_they_are(void **state)
{
    (void)state;
    static const struct {
        const char *source_layers, *routed_tokens, *part;
    } cases[] = {
        {"[2]", "11", "another argument of the model differs"},
        {"[]", "10", "routes would be made from the states"},
    };
    for (size_t i = 0; i < 2; i++) {
        brt_config *configs[2] = {config_with(plain, cases[i].source_layers, cases[i].source_layers),
                                  config_with(plain, "[2]", "[2]")};
        for (size_t c = 0; c < 2; c++) {
            assert_ok(brt_config_set(configs[c], "routed_layers", "[3]"));
            assert_ok(brt_config_set(configs[c], "routes", "3"));
            assert_ok(brt_config_set(configs[c], "routed_tokens", c ? cases[i].routed_tokens : "10"));
        }
        brt_model *source, *grafted = NULL;
        assert_ok(brt_model_create(&source, configs[0], 1));
        expect_failure(brt_model_graft(&grafted, source, configs[1], 1), BRT_ERROR_MISMATCH, cases[i].part);
        brt_model_close(source);
        brt_config_close(configs[0]);
        brt_config_close(configs[1]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_changes_at_first),
        cmocka_unit_test(the_new_weights_learn),
        cmocka_unit_test(what_would_change_the_model_is_refused),
        cmocka_unit_test(weights_in_few_bits_are_refused),
        cmocka_unit_test(routed_memories_stay_as_they_are),
    };
    return cmocka_run_group_tests(tests, enter_scratch, leave_scratch);
}
