/* Streams that are fed together: bit for bit what each gives alone, wherever in its timeline it is. */
#define _GNU_SOURCE
#include "feeding.h"
#include "scratch.h"
#include "variants.h"

enum { streams = 19 };

/* A stream that has read the first tokens of row `row`: others, and not as many as the one before. */
static size_t start_of(const input *in, size_t row)
{
    return row * 7 % (2 * in->width);
}

static brt_stream *start(const input *in, size_t row)
{
    brt_stream *stream = open_stream(in->model, 1);
    assert_ok(brt_stream_feed(stream, in->tokens + row * in->time, start_of(in, row), NULL));
    return stream;
}

/* The logits of `count` more tokens of every row, [count, streams, classes]. */
static float *feed_alone(const input *in, size_t count)
{
    float *logits = malloc(count * streams * in->classes * sizeof *logits);
    for (size_t row = 0; row < streams; row++) {
        brt_stream *stream = start(in, row);
        for (size_t i = 0; i < count; i++)
            assert_ok(brt_stream_feed(stream, in->tokens + row * in->time + start_of(in, row) + i, 1,
                                      logits + (i * streams + row) * in->classes));
        brt_stream_close(stream);
    }
    return logits;
}

static float *feed_together(const input *in, size_t count)
{
    float *logits = malloc(count * streams * in->classes * sizeof *logits);
    brt_stream *all[streams];
    int32_t tokens[streams];
    for (size_t row = 0; row < streams; row++)
        all[row] = start(in, row);
    for (size_t i = 0; i < count; i++) {
        for (size_t row = 0; row < streams; row++)
            tokens[row] = in->tokens[row * in->time + start_of(in, row) + i];
        assert_ok(brt_streams_feed(all, streams, tokens, logits + i * streams * in->classes));
    }
    for (size_t row = 0; row < streams; row++) {
        assert_int_equal(brt_stream_position(all[row], 0), start_of(in, row) + count);
        brt_stream_close(all[row]);
    }
    return logits;
}

static void expect_the_same(const char *name, brt_model *model)
{
    input in = make_input(model, streams, 4);
    size_t count = in.width + 3;
    float *alone = feed_alone(&in, count), *together = feed_together(&in, count);
    if (memcmp(alone, together, count * streams * in.classes * sizeof *alone) != 0)
        fail_msg("%s: together logits differ by %g", name,
                 difference(alone, together, count * streams * in.classes));
    free(alone);
    free(together);
    close_input(&in);
}

static void streams_together_are_streams_alone(void **state)
{
    (void)state;
    static const char *const models[] = {"two_recurrent", "odd_sizes", "no_recurrence", "states_not_block_width"};
    for (size_t i = 0; i < sizeof models / sizeof models[0]; i++)
        expect_the_same(models[i], load_golden(models[i]));
    expect_the_same("medium", make_model(medium_model));
    expect_the_same("wide", make_model(wide_model));
    for (uint64_t seed = 1; seed < 20; seed++)
        for (size_t i = 0; i < variant_arithmetic_count; i++) {
            char name[1024];
            brt_model *model;
            if (make_variant(variant_arithmetics[i], seed, &model, name, sizeof name))
                expect_the_same(name, model);
        }
}

static void quantized_models_too(void **state)
{
    (void)state;
    brt_model *model = make_model(medium_model), *quantized;
    assert_ok(brt_model_quantize(&quantized, model, "int8"));
    expect_the_same("medium in int8", quantized);
    brt_model_close(model);
}

static void what_does_not_go_together_is_refused(void **state)
{
    (void)state;
    brt_model *model = load_golden("odd_sizes"), *other = load_golden("odd_sizes");
    brt_stream *one = open_stream(model, 1), *two = open_stream(model, 1), *wide = open_stream(model, 2);
    brt_stream *stranger = open_stream(other, 1);
    const int32_t tokens[] = {1, 2, 3}, bad[] = {1, -1};
    assert_ok(brt_streams_feed(NULL, 0, NULL, NULL));
    assert_ok(brt_streams_feed((brt_stream *[]){one, two}, 2, tokens, NULL));
    expect_failure(brt_streams_feed((brt_stream *[]){one, two, one}, 3, tokens, NULL), BRT_ERROR_ARGUMENT,
                   "stream 2 is stream 0");
    expect_failure(brt_streams_feed((brt_stream *[]){one, stranger}, 2, tokens, NULL), BRT_ERROR_ARGUMENT,
                   "stream 1 is of another model");
    expect_failure(brt_streams_feed((brt_stream *[]){one, wide}, 2, tokens, NULL), BRT_ERROR_ARGUMENT,
                   "stream 1 has 2 rows");
    expect_failure(brt_streams_feed((brt_stream *[]){one, two}, 2, bad, NULL), BRT_ERROR_ARGUMENT,
                   "token -1 at position 1");
    assert_int_equal(brt_stream_position(one, 0), 1);
    assert_int_equal(brt_stream_position(two, 0), 1);
    brt_stream_close(one);
    brt_stream_close(two);
    brt_stream_close(wide);
    brt_stream_close(stranger);
    brt_model_close(model);
    brt_model_close(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(streams_together_are_streams_alone),
        cmocka_unit_test(quantized_models_too),
        cmocka_unit_test(what_does_not_go_together_is_refused),
    };
    return cmocka_run_group_tests_name("together", tests, NULL, NULL);
}
