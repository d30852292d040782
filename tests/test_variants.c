/* What must hold for every model, on random ones: nothing depends on later tokens, on the split into calls, on an
 * interruption by a session file, on recomputation or on the number of threads; streams and training agree; weights can
 * be quantized. */
#define _GNU_SOURCE
#include "feeding.h"
#include "variants.h"

enum { first_seed = 1, wanted = 20, most_drawn = 30 * wanted, rows = 2, blocks = 4, text_size = 1024 };

/* Products of few rows sum in another order than those of many (see test_stream.c); training's attention, too. */
static const double rounding = 5e-6, training_rounding = 2e-5;

/* A difference in the last place of a key can be one in the last place of what a routed memory keeps of it. */
static double bound_of(const input *in, double bound)
{
    return brt_config_get(brt_model_config(in->model), "routed_layers") > 0 ? 1000 * bound : bound;
}

typedef void check_variant(const char *name, const input *in);

static void check_some(check_variant *check, const char *arithmetic)
{
    size_t checked = 0;
    for (uint64_t seed = first_seed; checked < wanted; seed++) {
        char name[text_size];
        brt_model *model;
        assert_true(seed < first_seed + most_drawn);
        if (!make_variant(arithmetic, seed, &model, name, sizeof name))
            continue;
        input in = make_input(model, rows, blocks);
        check(name, &in);
        close_input(&in);
        checked++;
    }
}

static void check_all(check_variant *check)
{
    for (size_t i = 0; i < variant_arithmetic_count; i++)
        check_some(check, variant_arithmetics[i]);
}

/* ---- streams ------------------------------------------------------------------------------------------- */

static void expect_causality(const char *name, const input *in)
{
    float *before = feed_at_once(in);
    const size_t changed[] = {0, in->width - 1, in->width, in->width + 2, 2 * in->width, 3 * in->width + 1};
    for (size_t i = 0; i < sizeof changed / sizeof changed[0]; i++) {
        size_t t = changed[i];
        float *after = feed_with_change(in, t);
        if (!same_logits(in, before, after, 0, 0, t))
            fail_msg("%s: token %zu changes logits before it", name, t);
        if (!same_logits(in, before, after, 1, 0, in->time))
            fail_msg("%s: token %zu of one row changes another row", name, t);
        free(after);
    }
    free(before);
}

static void later_tokens_and_other_rows_change_nothing(void **state)
{
    (void)state;
    check_all(expect_causality);
}

static void expect_splits_do_not_matter(const char *name, const input *in)
{
    size_t count = in->rows * in->time * in->classes;
    const size_t parts[] = {1, 3, in->width, in->width + 3};
    float *whole = feed_at_once(in);
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        float *found = feed_in_parts(in, parts[i]);
        if (difference(found, whole, count) > bound_of(in, rounding))
            fail_msg("%s: calls of %zu tokens differ by %g", name, parts[i], difference(found, whole, count));
        if (parts[i] % in->width == 0 && memcmp(found, whole, count * sizeof *found) != 0)
            fail_msg("%s: calls of %zu tokens differ from a single call", name, parts[i]);
        free(found);
    }
    free(whole);
}

static void the_split_into_calls_does_not_matter(void **state)
{
    (void)state;
    check_all(expect_splits_do_not_matter);
}

/* Saved after a block and a half, and after three blocks; row 1 is reset after the first block. */
static void expect_continuation(const char *name, const input *in)
{
    const size_t saved_after[] = {in->width + in->width / 2, 3 * in->width};
    for (size_t i = 0; i < 2; i++) {
        brt_stream *saved = open_stream(in->model, in->rows), *loaded = open_stream(in->model, in->rows);
        size_t fed = saved_after[i];
        feed_range(saved, in, 0, in->width, NULL);
        assert_ok(brt_stream_reset(saved, 1));
        feed_range(saved, in, in->width, fed - in->width, NULL);
        assert_ok(brt_stream_save(saved, "session", NULL));
        feed_range(loaded, in, 0, in->width + 1, NULL);
        assert_ok(brt_stream_load(loaded, "session", NULL));
        expect_same_rest(name, in, saved, loaded, fed);
    }
}

static void sessions_go_on_exactly(void **state)
{
    (void)state;
    check_all(expect_continuation);
}

/* A row that was reset sees what a new one sees. */
static void expect_reset(const char *name, const input *in)
{
    brt_stream *fresh = open_stream(in->model, in->rows), *reset = open_stream(in->model, in->rows);
    float *expected = new_logits(in), *found = new_logits(in);
    feed_range(fresh, in, 0, in->time, expected);
    feed_range(reset, in, 0, 2 * in->width, NULL);
    assert_ok(brt_stream_reset(reset, 0));
    feed_range(reset, in, 0, in->time, found);
    if (!same_logits(in, expected, found, 0, 0, in->time))
        fail_msg("%s: a row that was reset remembers", name);
    brt_stream_close(fresh);
    brt_stream_close(reset);
    free(expected);
    free(found);
}

static void a_reset_row_is_a_new_one(void **state)
{
    (void)state;
    check_all(expect_reset);
}

/* A model of quantized weights computes what one does that holds the same numbers as floats. */
static void expect_quantized(const char *name, const input *in)
{
    input quantized = *in, widened = *in;
    size_t count = in->rows * in->time * in->classes;
    assert_ok(brt_model_quantize(&quantized.model, in->model, "int8"));
    assert_ok(brt_model_quantize(&widened.model, quantized.model, "f32"));
    float *found = feed_at_once(&quantized), *expected = feed_at_once(&widened);
    if (difference(found, expected, count) > bound_of(in, training_rounding))
        fail_msg("%s: in int8 logits differ by %g", name, difference(found, expected, count));
    brt_model_close(quantized.model);
    brt_model_close(widened.model);
    free(found);
    free(expected);
}

static void quantized_models_compute_with_their_numbers(void **state)
{
    (void)state;
    check_all(expect_quantized);
}

/* ---- training ------------------------------------------------------------------------------------------ */

static brt_trainer *open_trainer(brt_model *model, bool recompute, int threads)
{
    brt_trainer_options options = brt_trainer_options_init();
    options.rows = rows;
    options.segment_blocks = blocks - 1;
    options.recompute = recompute;
    options.threads = threads;
    options.xl_memories_dropout = options.state_dropout = 0;
    brt_trainer *trainer;
    assert_ok(brt_trainer_open(&trainer, model, &options));
    return trainer;
}

/* Tokens [first, first + time) of every row, each predicting the next one. */
static double run(brt_trainer *trainer, const input *in, size_t first, size_t time, bool forward_only, float *logits)
{
    int32_t *tokens = malloc(in->rows * time * sizeof *tokens), *targets = malloc(in->rows * time * sizeof *targets);
    for (size_t row = 0; row < in->rows; row++) {
        memcpy(tokens + row * time, in->tokens + row * in->time + first, time * sizeof *tokens);
        memcpy(targets + row * time, in->tokens + row * in->time + first + 1, time * sizeof *targets);
    }
    brt_segment segment = {.time = time,
                           .tokens = tokens,
                           .targets = targets,
                           .weight = 1,
                           .forward_only = forward_only,
                           .logits = logits};
    double loss;
    assert_ok(brt_trainer_segment(trainer, &segment, &loss, NULL));
    free(tokens);
    free(targets);
    return loss;
}

/* A second model of the same weights, because a model has one trainer. */
static brt_model *copy_model(const brt_model *model)
{
    brt_model *copy;
    assert_ok(brt_model_save(model, "."));
    assert_ok(brt_model_load(&copy, "."));
    return copy;
}

static void expect_same_training(const char *name, const input *in)
{
    brt_model *copy = copy_model(in->model);
    brt_trainer *kept = open_trainer(in->model, false, 1), *again = open_trainer(copy, true, 2);
    const size_t times[] = {3 * in->width, in->width / 2, in->width};
    for (size_t i = 0, first = 0; i < 2; first += times[i++]) {
        double a = run(kept, in, first, times[i], false, NULL), b = run(again, in, first, times[i], false, NULL);
        if (a != b)
            fail_msg("%s: the loss of segment %zu is %.17g kept, %.17g computed again", name, i, a, b);
    }
    expect_same_gradients(name, in->model, kept, again);
    brt_trainer_close(kept);
    brt_trainer_close(again);
    brt_model_close(copy);
}

static void recomputation_and_threads_do_not_matter(void **state)
{
    (void)state;
    check_all(expect_same_training);
}

static void expect_teacher_forcing(const char *name, const input *in)
{
    size_t time = (blocks - 1) * in->width;
    float *streamed = feed_in_parts(in, 1), *trained = new_logits(in);
    brt_trainer *trainer = open_trainer(in->model, false, 2);
    run(trainer, in, 0, time, false, trained);
    for (size_t row = 0; row < in->rows; row++) {
        double found = difference(trained + row * time * in->classes, streamed + row * in->time * in->classes,
                                  time * in->classes);
        if (found > bound_of(in, training_rounding))
            fail_msg("%s: training's logits differ from a stream's by %g", name, found);
    }
    brt_trainer_close(trainer);
    free(streamed);
    free(trained);
}

static void streams_compute_what_training_does(void **state)
{
    (void)state;
    check_all(expect_teacher_forcing);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(later_tokens_and_other_rows_change_nothing),
        cmocka_unit_test(the_split_into_calls_does_not_matter),
        cmocka_unit_test(sessions_go_on_exactly),
        cmocka_unit_test(a_reset_row_is_a_new_one),
        cmocka_unit_test(quantized_models_compute_with_their_numbers),
        cmocka_unit_test(recomputation_and_threads_do_not_matter),
        cmocka_unit_test(streams_compute_what_training_does),
    };
    return cmocka_run_group_tests(tests, enter_scratch, leave_scratch);
}
