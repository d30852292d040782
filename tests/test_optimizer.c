/* Updates: decay, clipping, the learning rate's schedule, gradients that are not finite, wrong options. */
#define _GNU_SOURCE
#include "training.h"

#include "train/schedule.h"

/* ---- weight decay -------------------------------------------------------------------------------------- */

/* As PyTorch users decay: matrices of linear layers; not embeddings, gains, biases, gates and states. */
static bool should_decay(const brt_parameter_info *info)
{
    size_t length = strlen(info->name), end = sizeof ".weight" - 1;
    return length > end && strcmp(info->name + length - end, ".weight") == 0 &&
           strcmp(info->name, "token_emb.weight") != 0;
}

/* Without a gradient an update is the decay alone. */
static void only_matrices_of_linear_layers_decay(void **state)
{
    (void)state;
    static const struct {
        float learning_rate, weight_decay;
    } cases[] = {{0.5f, 0.125f}, {0.25f, 1}, {0.5f, 0}, {0, 0.5f}};
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        brt_model *model = load_golden("two_recurrent");
        brt_trainer_options options = plain_options(1);
        options.weight_decay = cases[c].weight_decay;
        brt_trainer *trainer = open_trainer(model, &options);
        float *before = read_all(model, NULL), *at = before;
        double norm;
        assert_ok(brt_trainer_update(trainer, cases[c].learning_rate, &norm));
        assert_true(norm == 0);
        double rate = (double)cases[c].learning_rate * (double)cases[c].weight_decay;
        for (size_t i = 0; i < brt_model_parameter_count(model); i++) {
            brt_parameter_info info;
            assert_ok(brt_model_parameter(model, i, &info));
            double factor = should_decay(&info) ? 1 - rate : 1;
            for (size_t j = 0; j < info.count; j++) {
                double expected = factor * (double)at[j];
                if (fabs((double)info.data[j] - expected) > (factor < 1 ? 1e-7 * fabs(expected) : 0))
                    fail_msg("%s went from %g to %g", info.name, (double)at[j], (double)info.data[j]);
            }
            at += info.count;
        }
        brt_trainer_close(trainer);
        brt_model_close(model);
        free(before);
    }
}

/* ---- clipping ------------------------------------------------------------------------------------------ */

static double norm_of(const float *values, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += (double)values[i] * (double)values[i];
    return sqrt(sum);
}

/* An epsilon far above the gradient makes Adam's first step plain descent: rate * g / (|g| + epsilon). */
static void expect_step(float clip, double scale_at_norm)
{
    const float immense = 1024;
    brt_model *model = load_golden("two_recurrent");
    size_t total = parameter_total(model);
    brt_trainer_options options = plain_options(2);
    options.clip = clip;
    options.epsilon = immense;
    brt_trainer *trainer = open_trainer(model, &options);
    batch b = make_batch(model, 2, 2 * config_of(model, "block_width"), 1);
    run_segment(trainer, &b);
    float *gradients = read_all(model, trainer), *before = read_all(model, NULL);
    double expected_norm = norm_of(gradients, total), norm;
    assert_ok(brt_trainer_update(trainer, immense, &norm));
    assert_true(fabs(norm - expected_norm) < 1e-6 * expected_norm);
    double scale = scale_at_norm > 0 ? scale_at_norm / (norm + 1e-6) : 1;
    float *after = read_all(model, NULL), *left = read_all(model, trainer);
    for (size_t i = 0; i < total; i++) {
        double g = scale * (double)gradients[i], step = (double)immense * g / (fabs(g) + (double)immense);
        if (fabs((double)after[i] - ((double)before[i] - step)) > 1e-6 * (1 + fabs((double)before[i])))
            fail_msg("clip %g: weight %zu went from %g to %g with a gradient of %g", (double)clip, i,
                     (double)before[i], (double)after[i], g);
        assert_true(left[i] == 0);
    }
    brt_trainer_close(trainer);
    brt_model_close(model);
    close_batch(&b);
    free(gradients);
    free(before);
    free(after);
    free(left);
}

static void the_gradient_is_clipped_by_its_norm(void **state)
{
    (void)state;
    expect_step(0, 0); /* never */
    expect_step(1e6f, 0); /* not needed */
    expect_step(0.5f, 0.5);
    expect_step(0.01f, (double)0.01f);
}

/* ---- gradients that are not finite --------------------------------------------------------------------- */

static void a_gradient_that_is_not_finite_changes_nothing(void **state)
{
    (void)state;
    const float weights[] = {INFINITY, -INFINITY, NAN};
    for (size_t i = 0; i < 3; i++) {
        brt_model *model = load_golden("two_recurrent");
        brt_trainer_options options = plain_options(2);
        options.weight_decay = 0.1f;
        options.clip = 0.5f;
        brt_trainer *trainer = open_trainer(model, &options);
        batch b = make_batch(model, 2, 2 * config_of(model, "block_width"), 1);
        brt_segment segment = segment_of(&b);
        double loss, norm = 0;
        segment.weight = weights[i];
        float *before = read_all(model, NULL);
        assert_ok(brt_trainer_segment(trainer, &segment, &loss, NULL));
        assert_true(isfinite(loss));
        expect_failure(brt_trainer_update(trainer, 0.01f, &norm), BRT_ERROR_NUMERIC, "not finite");
        assert_false(isfinite(norm));
        float *after = read_all(model, NULL);
        assert_true(same_all(model, before, after));
        brt_trainer_close(trainer);
        close_batch(&b);
        brt_model_close(model);
        free(before);
        free(after);
    }
}

/* ---- schedules ----------------------------------------------------------------------------------------- */

static void the_rate_follows_the_schedule(void **state)
{
    (void)state;
    static const struct {
        const char *kind;
        float floor;
        uint64_t warmup, step;
        double fraction, expected; /* of a peak of 2 */
    } cases[] = {
        {"constant", 0, 0, 0, 0, 2},        {"constant", 0, 0, 1000, 1, 2},    {"constant", 0.5f, 10, 10, 0.5, 2},
        /* The first update has a rate, the last of the warm-up the peak, whatever follows. */
        {"constant", 0, 10, 0, 0, 0.2},     {"constant", 0, 10, 4, 0, 1},      {"constant", 0, 10, 9, 0, 2},
        {"cosine", 0.5f, 10, 0, 0, 0.2},    {"cosine", 0.5f, 10, 9, 0.9, 2},   {"rsqrt", 0, 10, 0, 0, 0.2},
        {"rsqrt", 0, 10, 9, 0, 2},
        {"cosine", 0.5f, 0, 0, 0, 2},       {"cosine", 0.5f, 0, 5, 0.5, 1.25}, {"cosine", 0.5f, 0, 9, 1, 0.5},
        {"cosine", 0.5f, 0, 9, 1.5, 0.5},   {"cosine", 0, 0, 1, 0.25, 1 + 0.70710678118654752},
        {"cosine", 0, 3, 3, 1.0 / 3, 1.5},
        /* Counted from 1: a quarter of the way a half of the root. */
        {"rsqrt", 0, 100, 100, 0, 1.9900743}, {"rsqrt", 0, 100, 399, 0, 1},    {"rsqrt", 0, 100, 9999, 0, 0.2},
        {"rsqrt", 0, 0, 0, 0, 2},           {"rsqrt", 0, 0, 3, 0, 1},          {"rsqrt", 0, 1, 99, 0, 0.2},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        brt_schedule schedule = {.peak = 2, .floor = cases[i].floor, .warmup = cases[i].warmup};
        assert_ok(brt_schedule_parse(cases[i].kind, &schedule.kind));
        double found = (double)brt_schedule_rate(&schedule, cases[i].step, cases[i].fraction);
        if (fabs(found - cases[i].expected) > 1e-6)
            fail_msg("%s, warm-up %llu, step %llu, %g done: %g, expected %g", cases[i].kind,
                     (unsigned long long)cases[i].warmup, (unsigned long long)cases[i].step, cases[i].fraction, found,
                     cases[i].expected);
    }
    brt_schedule_kind kind;
    expect_failure(brt_schedule_parse("linear", &kind), BRT_ERROR_ARGUMENT, "\"linear\"");
}

/* ---- refusals ------------------------------------------------------------------------------------------ */

static void wrong_options_are_refused(void **state)
{
    (void)state;
    brt_trainer_options cases[12];
    static const char *const parts[] = {
        "0 rows",   "1048577 rows",    "segment_blocks is 0", "\"sgd\"", "weight_decay", "dropouts",
        "dropouts", "beta1 and beta2", "beta1 and beta2",     "clip",    "epsilon",      "brt_trainer_options_init"};
    for (size_t i = 0; i < 12; i++)
        cases[i] = brt_trainer_options_init();
    cases[0].rows = 0;
    cases[1].rows = (1 << 20) + 1;
    cases[2].segment_blocks = 0;
    cases[3].optimizer = "sgd";
    cases[4].optimizer = "adam"; /* the default decay is AdamW's */
    cases[5].xl_memories_dropout = 1.5f;
    cases[6].state_dropout = NAN;
    cases[7].beta1 = 1;
    cases[8].beta2 = -0.1f;
    cases[9].clip = -1;
    cases[10].epsilon = 0;
    cases[11].size = 1;
    brt_model *model = load_golden("odd_sizes");
    for (size_t i = 0; i < 12; i++) {
        brt_trainer *trainer;
        uint64_t bytes;
        expect_failure(brt_trainer_open(&trainer, model, &cases[i]), BRT_ERROR_ARGUMENT, parts[i]);
        expect_failure(brt_trainer_measure(model, &cases[i], &bytes), BRT_ERROR_ARGUMENT, parts[i]);
    }
    brt_model_close(model);
}

/* Nor do they change what is carried, or the gradient. */
static void wrong_segments_are_refused(void **state)
{
    (void)state;
    brt_model *model = load_golden("odd_sizes");
    brt_trainer_options options = plain_options(2);
    brt_trainer *trainer = open_trainer(model, &options), *control;
    batch b = make_batch(model, 2, config_of(model, "block_width"), 1);
    double expected[2] = {run_segment(trainer, &b)}, loss;
    static const struct {
        size_t time, at;
        int32_t token, target;
        const char *part;
    } cases[] = {
        {0, 0, 0, 0, "0 tokens per row"},
        {21, 0, 0, 0, "it must have 1 to 20"},
        {5, 4, 11, 0, "token 11 at position 4"},
        {5, 9, -1, 0, "token -1 at position 9"},
        {5, 3, 0, 11, "target 11 at position 3"},
        {5, 8, 0, -1, "target -1 at position 8"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int32_t tokens[2 * 21] = {0}, targets[2 * 21] = {0};
        const bool reset[] = {true, true};
        tokens[cases[i].at] = cases[i].token;
        targets[cases[i].at] = cases[i].target;
        brt_segment segment = {
            .time = cases[i].time, .tokens = tokens, .targets = targets, .reset = reset, .weight = 1};
        expect_failure(brt_trainer_segment(trainer, &segment, &loss, NULL), BRT_ERROR_ARGUMENT, cases[i].part);
    }
    expected[1] = run_segment(trainer, &b);
    float *found = read_all(model, trainer);
    expect_failure(brt_trainer_gradient(trainer, 1000, found), BRT_ERROR_ARGUMENT, "no parameter 1000");
    brt_trainer_close(trainer);
    control = open_trainer(model, &options);
    for (size_t i = 0; i < 2; i++)
        assert_true(run_segment(control, &b) == expected[i]);
    float *gradients = read_all(model, control);
    assert_true(same_all(model, found, gradients));
    brt_trainer_close(control);
    close_batch(&b);
    brt_model_close(model);
    free(found);
    free(gradients);
}

/* Its gradients are the model's. */
static void a_second_trainer_is_refused(void **state)
{
    (void)state;
    brt_model *model = make_model(medium_model);
    brt_trainer_options options = plain_options(2);
    batch b = make_batch(model, 2, 80, 1);
    brt_trainer *trainer = open_trainer(model, &options), *second;
    uint64_t bytes;
    expect_failure(brt_trainer_open(&second, model, &options), BRT_ERROR_ARGUMENT, "has a trainer already");
    expect_failure(brt_trainer_measure(model, &options, &bytes), BRT_ERROR_ARGUMENT, "has a trainer already");
    run_segment(trainer, &b);
    float *found = read_all(model, trainer);
    brt_trainer_close(trainer);
    trainer = open_trainer(model, &options);
    run_segment(trainer, &b);
    float *expected = read_all(model, trainer);
    assert_true(same_all(model, found, expected));
    brt_trainer_close(trainer);
    close_batch(&b);
    brt_model_close(model);
    free(found);
    free(expected);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_matrices_of_linear_layers_decay),
        cmocka_unit_test(the_gradient_is_clipped_by_its_norm),
        cmocka_unit_test(a_gradient_that_is_not_finite_changes_nothing),
        cmocka_unit_test(the_rate_follows_the_schedule),
        cmocka_unit_test(wrong_options_are_refused),
        cmocka_unit_test(wrong_segments_are_refused),
        cmocka_unit_test(a_second_trainer_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
