/* Training with products in bf16: near f32, and as reproducible. */
#define _GNU_SOURCE
#include "training.h"

/* Models of tests/golden with gains and gates away from their initial values. */
static const char *const models[] = {"default_like", "read_earlier_two_writers_one_reader", "all_qk_rmsnorm",
                                     "odd_sizes"};

#define EACH_MODEL size_t i = 0; i < sizeof models / sizeof models[0]; i++

typedef struct outcome {
    double loss;
    float *gradients;
} outcome;

static brt_trainer_options options_of(const char *dtype, int threads, bool recompute)
{
    brt_trainer_options options = plain_options(3);
    options.dtype = dtype;
    options.threads = threads;
    options.recompute = recompute;
    return options;
}

/* Two segments, the second with what the first carries on. */
static outcome train(const char *name, const char *dtype, int threads, bool recompute)
{
    brt_model *model = load_golden(name);
    brt_trainer_options options = options_of(dtype, threads, recompute);
    brt_trainer *trainer = open_trainer(model, &options);
    batch b = make_batch(model, 3, 4 * config_of(model, "block_width"), 7);
    outcome result = {run_segment(trainer, &b), NULL};
    result.loss += run_segment(trainer, &b);
    result.gradients = read_all(model, trainer);
    close_batch(&b);
    brt_trainer_close(trainer);
    brt_model_close(model);
    return result;
}

static void skip_without_bf16(void)
{
    brt_model *model = load_golden(models[0]);
    brt_trainer_options options = options_of("bf16", 1, false);
    brt_trainer *trainer = NULL;
    brt_status status = brt_trainer_open(&trainer, model, &options);
    if (status != BRT_OK)
        expect_failure(status, BRT_ERROR_UNSUPPORTED, "train in f32");
    brt_trainer_close(trainer);
    brt_model_close(model);
    if (status != BRT_OK)
        skip();
}

static double distance(const float *a, const float *b, size_t count)
{
    double difference = 0, norm = 0;
    for (size_t i = 0; i < count; i++) {
        difference += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        norm += (double)b[i] * (double)b[i];
    }
    return sqrt(difference / norm);
}

/* bf16 has 8 bits of precision: each operand is within 0.4 % of its f32. */
static void near_f32(void **state)
{
    (void)state;
    skip_without_bf16();
    for (EACH_MODEL) {
        brt_model *model = load_golden(models[i]);
        outcome bf16 = train(models[i], "bf16", 2, false), f32 = train(models[i], "f32", 2, false);
        assert_true(bf16.loss != f32.loss);
        double error = distance(bf16.gradients, f32.gradients, parameter_total(model));
        if (!(fabs(bf16.loss - f32.loss) < 2e-3 * f32.loss && error < 0.02))
            fail_msg("%s: loss %.6f in bf16, %.6f in f32; gradients differ by %.4f of their norm", models[i], bf16.loss,
                     f32.loss, error);
        free(bf16.gradients);
        free(f32.gradients);
        brt_model_close(model);
    }
}

static void expect_same(const char *name, outcome a, outcome b)
{
    brt_model *model = load_golden(name);
    assert_true(a.loss == b.loss);
    assert_true(same_all(model, a.gradients, b.gradients));
    free(b.gradients);
    brt_model_close(model);
}

static void same_for_any_threads_and_recomputed(void **state)
{
    (void)state;
    skip_without_bf16();
    for (EACH_MODEL) {
        outcome one = train(models[i], "bf16", 1, false);
        expect_same(models[i], one, train(models[i], "bf16", 2, false));
        expect_same(models[i], one, train(models[i], "bf16", 3, false));
        expect_same(models[i], one, train(models[i], "bf16", 2, true));
        free(one.gradients);
    }
}

/* More rows than the feed-forward keeps z of at once, and tasks for several threads. */
static void many_rows_in_tasks(void **state)
{
    (void)state;
    skip_without_bf16();
    enum { many = 60 };
    outcome of[4];
    for (int i = 0; i < 4; i++) {
        brt_model *model = make_model(medium_model);
        brt_trainer_options options = options_of(i < 3 ? "bf16" : "f32", i + 1, false);
        options.rows = many;
        brt_trainer *trainer = open_trainer(model, &options);
        batch b = make_batch(model, many, 4 * config_of(model, "block_width"), 9);
        of[i].loss = run_segment(trainer, &b);
        of[i].gradients = read_all(model, trainer);
        if (i > 0 && i < 3)
            assert_true(of[i].loss == of[0].loss && same_all(model, of[i].gradients, of[0].gradients));
        if (i == 3)
            assert_true(distance(of[0].gradients, of[3].gradients, parameter_total(model)) < 0.02);
        close_batch(&b);
        brt_trainer_close(trainer);
        brt_model_close(model);
    }
    for (int i = 0; i < 4; i++)
        free(of[i].gradients);
}

/* What is kept for the backward pass, and the packed weights. */
static void takes_less_memory(void **state)
{
    (void)state;
    skip_without_bf16();
    brt_model *model = make_model(medium_model);
    uint64_t bf16, f32;
    brt_trainer_options options = options_of("bf16", 1, false);
    assert_ok(brt_trainer_measure(model, &options, &bf16));
    options.dtype = "f32";
    assert_ok(brt_trainer_measure(model, &options, &f32));
    if (bf16 > f32 * 9 / 10)
        fail_msg("training takes %zu bytes in bf16, %zu in f32", (size_t)bf16, (size_t)f32);
    brt_model_close(model);
}

/* Logits of a new stream, [tokens, num_tokens]. */
static float *read_logits(const brt_model *model, const batch *b)
{
    brt_stream *stream;
    brt_stream_options options = brt_stream_options_init();
    options.rows = b->rows;
    float *logits = malloc(b->rows * b->time * config_of(model, "num_tokens") * sizeof *logits);
    assert_ok(brt_stream_open(&stream, model, &options));
    assert_ok(brt_stream_feed(stream, b->tokens, b->time, logits));
    brt_stream_close(stream);
    return logits;
}

/* Streams multiply in f32, with weights that a training in bf16 packs only if there was a stream before. */
static void streams_read_what_was_trained(void **state)
{
    (void)state;
    skip_without_bf16();
    for (int stream_before = 0; stream_before < 2; stream_before++) {
        brt_model *model = load_golden(models[0]), *copy;
        batch b = make_batch(model, 3, 4 * config_of(model, "block_width"), 7);
        float *before = stream_before ? read_logits(model, &b) : NULL;
        brt_trainer_options options = options_of("bf16", 2, false);
        brt_trainer *trainer = open_trainer(model, &options);
        run_segment(trainer, &b);
        assert_ok(brt_trainer_update(trainer, 0.01f, NULL));
        assert_ok(brt_model_save(model, "copy"));
        assert_ok(brt_model_load(&copy, "copy"));
        float *trained = read_logits(model, &b), *loaded = read_logits(copy, &b);
        size_t bytes = b.rows * b.time * config_of(model, "num_tokens") * sizeof *trained;
        assert_memory_equal(trained, loaded, bytes);
        assert_true(!before || memcmp(trained, before, bytes) != 0);
        free(before);
        free(trained);
        free(loaded);
        close_batch(&b);
        brt_trainer_close(trainer);
        brt_model_close(copy);
        brt_model_close(model);
    }
}

static void unknown_types_are_refused(void **state)
{
    (void)state;
    brt_model *model = load_golden(models[0]);
    brt_trainer_options options = options_of("f16", 1, false);
    brt_trainer *trainer = NULL;
    expect_failure(brt_trainer_open(&trainer, model, &options), BRT_ERROR_ARGUMENT, "no dtype \"f16\"");
    brt_model_close(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(near_f32),
        cmocka_unit_test(same_for_any_threads_and_recomputed),
        cmocka_unit_test(takes_less_memory),
        cmocka_unit_test(streams_read_what_was_trained),
        cmocka_unit_test(unknown_types_are_refused),
        cmocka_unit_test(many_rows_in_tasks),
    };
    return cmocka_run_group_tests_name("bf16", tests, enter_scratch, leave_scratch);
}
