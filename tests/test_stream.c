/* Streams: what a logit depends on, and what it does not: later tokens, the split into calls, other rows, threads. */
#define _GNU_SOURCE
#include "feeding.h"

/* Attention of up to 8 new tokens sums over parts of the keys, of more it goes through tiles: where the two meet,
 * logits of about 2 differ by rounding (8e-7 was the most seen). Everything else is the same to the bit. */
static const double rounding = 3e-6;
enum { few_tokens = 8 };

static const char *const models[] = {
    "two_recurrent", "odd_sizes",     "read_earlier_two_writers_one_reader",
    "default_like",  "no_recurrence", "all_qk_rmsnorm",
    "states_not_block_width",
};

typedef void check_input(const char *name, const input *in);

static void check_all(check_input *check, size_t rows, size_t blocks)
{
    static const struct {
        const char *name, *config;
    } made[] = {{"medium", medium_model},
                {"wide", wide_model},
                {"wide memformer", wide_memformer},
                {"wide paper", wide_paper}};
    for (size_t i = 0; i < sizeof models / sizeof models[0]; i++) {
        input in = make_input(load_golden(models[i]), rows, blocks);
        check(models[i], &in);
        close_input(&in);
    }
    for (size_t i = 0; i < sizeof made / sizeof made[0]; i++) {
        input in = make_input(make_model(made[i].config), rows, blocks);
        check(made[i].name, &in);
        close_input(&in);
    }
}

/* ---- later tokens -------------------------------------------------------------------------------------- */

static void expect_causality(const char *name, const input *in)
{
    float *before = feed_at_once(in);
    const size_t width = in->width, changed[] = {0, 1, width - 1, width, width + 1, width + 2, 2 * width - 1,
                                                 2 * width, in->time - 1};
    for (size_t i = 0; i < sizeof changed / sizeof changed[0]; i++) {
        size_t t = changed[i];
        float *after = feed_with_change(in, t);
        if (!same_logits(in, before, after, 0, 0, t))
            fail_msg("%s: token %zu changes logits before it", name, t);
        if (same_logits(in, before, after, 0, t, t + 1))
            fail_msg("%s: token %zu does not change its logits", name, t);
        free(after);
    }
    free(before);
}

static void later_tokens_change_nothing(void **state)
{
    (void)state;
    check_all(expect_causality, 1, 2);
}

/* Through memories a token reaches one block further per layer, through states all that follow. */
static void states_carry_a_token_beyond_the_window(void **state)
{
    (void)state;
    static const struct {
        const char *model;
        bool reaches;
    } cases[] = {{"two_recurrent", true}, {"default_like", true}, {"no_recurrence", false}};
    for (size_t i = 0; i < 3; i++) {
        input in = make_input(load_golden(cases[i].model), 1, 6);
        float *before = feed_at_once(&in);
        float *after = feed_with_change(&in, 0);
        assert_int_equal(!same_logits(&in, before, after, 0, in.time - 1, in.time), cases[i].reaches);
        free(before);
        free(after);
        close_input(&in);
    }
}

/* ---- splits into calls --------------------------------------------------------------------------------- */

static void expect_split_does_not_matter(const char *name, const input *in)
{
    size_t width = in->width, count = in->rows * in->time * in->classes;
    const size_t parts[] = {1, 2, 3, 5, 7, width - 1, width, width + 1, 2 * width, 2 * width + 1, 3 * width - 1};
    float *whole = feed_at_once(in), *singly = feed_in_parts(in, 1);
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        float *found = feed_in_parts(in, parts[i]);
        bool few = parts[i] <= few_tokens, whole_blocks = parts[i] % width == 0;
        if (difference(found, whole, count) > rounding)
            fail_msg("%s: calls of %zu tokens differ by %g", name, parts[i], difference(found, whole, count));
        if (few && memcmp(found, singly, count * sizeof *found) != 0)
            fail_msg("%s: calls of %zu tokens differ from calls of one", name, parts[i]);
        if (whole_blocks && memcmp(found, whole, count * sizeof *found) != 0)
            fail_msg("%s: calls of %zu tokens, whole blocks, differ from a single call", name, parts[i]);
        free(found);
    }
    free(whole);
    free(singly);
}

static void the_split_into_calls_does_not_matter(void **state)
{
    (void)state;
    check_all(expect_split_does_not_matter, 1, 4);
    check_all(expect_split_does_not_matter, 2, 4);
}

static void expect_random_splits_do_not_matter(const char *name, const input *in)
{
    enum { splits = 12 };
    size_t count = in->rows * in->time * in->classes;
    float *whole = feed_at_once(in), *found = new_logits(in);
    for (uint64_t seed = 0; seed < splits; seed++) {
        brt_stream *stream = open_stream(in->model, in->rows);
        uint64_t calls = 0;
        for (size_t done = 0, part; done < in->time; done += part) {
            size_t most = brt_min_size(in->time - done, 2 * in->width + 1);
            part = 1 + (size_t)brt_rng_below(seed, 1, calls++, most);
            feed_range(stream, in, done, part, found);
        }
        if (difference(found, whole, count) > rounding)
            fail_msg("%s: split %llu differs by %g", name, (unsigned long long)seed, difference(found, whole, count));
        brt_stream_close(stream);
    }
    free(whole);
    free(found);
}

static void random_splits_do_not_matter(void **state)
{
    (void)state;
    check_all(expect_random_splits_do_not_matter, 1, 5);
    check_all(expect_random_splits_do_not_matter, 3, 5);
}

static void expect_last_logits(const char *name, const input *in)
{
    brt_stream *stream = open_stream(in->model, in->rows);
    float *whole = feed_at_once(in), *last = malloc(in->rows * in->classes * sizeof *last);
    assert_ok(brt_stream_feed_last(stream, in->tokens, in->time, last));
    for (size_t row = 0; row < in->rows; row++) {
        const float *expected = whole + ((row + 1) * in->time - 1) * in->classes;
        if (difference(last + row * in->classes, expected, in->classes) > rounding)
            fail_msg("%s: the last logits of row %zu differ", name, row);
        assert_int_equal(brt_stream_position(stream, row), in->time);
    }
    brt_stream_close(stream);
    free(whole);
    free(last);
}

static void last_logits_are_the_last_of_all(void **state)
{
    (void)state;
    check_all(expect_last_logits, 2, 2);
}

/* ---- generation ---------------------------------------------------------------------------------------- */

static int32_t most_likely(const float *logits, size_t classes)
{
    brt_sampling greedy = brt_sampling_init();
    int32_t token;
    greedy.temperature = 0;
    assert_ok(brt_sample(logits, classes, &greedy, 0, &token));
    return token;
}

/* One row's greedy continuation, token by token: that of the original package; then the same text at once. */
static void expect_greedy(brt_model *model, const int32_t *prompt, size_t prompt_time, const int32_t *expected,
                          size_t time)
{
    size_t classes = config_of(model, "num_tokens"), all = prompt_time + time;
    int32_t *text = malloc(all * sizeof *text);
    float *logits = malloc(all * classes * sizeof *logits);
    brt_stream *stream = open_stream(model, 1);
    memcpy(text, prompt, prompt_time * sizeof *text);
    assert_ok(brt_stream_feed_last(stream, prompt, prompt_time, logits));
    for (size_t i = prompt_time; i < all; i++) {
        text[i] = most_likely(logits, classes);
        assert_int_equal(text[i], expected[i - prompt_time]);
        assert_ok(brt_stream_feed_last(stream, text + i, 1, logits));
    }
    assert_ok(brt_stream_reset(stream, -1));
    assert_ok(brt_stream_feed(stream, text, all, logits));
    for (size_t i = prompt_time; i < all; i++)
        assert_int_equal(most_likely(logits + (i - 1) * classes, classes), text[i]);
    brt_stream_close(stream);
    free(text);
    free(logits);
}

static void greedy_generation_is_the_teacher_forced_argmax(void **state)
{
    (void)state;
    brt_model *model = load_golden("generate");
    brt_tensors *prompts = open_tensors("generate", "prompt.safetensors");
    brt_tensors *expected = open_tensors("generate", "expected.safetensors");
    size_t rows, prompt_time, time;
    int32_t *prompt = read_tokens(prompts, "prompt", &rows, &prompt_time);
    int32_t *tokens = read_tokens(expected, "tokens", &rows, &time);
    for (size_t row = 0; row < rows; row++)
        expect_greedy(model, prompt + row * prompt_time, prompt_time, tokens + row * time, time);
    free(prompt);
    free(tokens);
    brt_tensors_close(prompts);
    brt_tensors_close(expected);
    brt_model_close(model);
}

/* ---- rows ---------------------------------------------------------------------------------------------- */

static void expect_rows_alone(const char *name, const input *in)
{
    float *together = feed_at_once(in);
    size_t row_count = in->time * in->classes;
    for (size_t row = 0; row < in->rows; row++) {
        input alone = *in;
        alone.rows = 1;
        alone.tokens = in->tokens + row * in->time;
        float *found = feed_at_once(&alone);
        if (difference(found, together + row * row_count, row_count) > rounding)
            fail_msg("%s: row %zu alone differs by %g", name, row,
                     difference(found, together + row * row_count, row_count));
        free(found);
    }
    free(together);
}

static void rows_together_are_rows_alone(void **state)
{
    (void)state;
    check_all(expect_rows_alone, 3, 3);
}

/* A row that starts anew after two blocks is a fresh one; the others do not notice. */
static void expect_row_reset(const char *name, const input *in)
{
    enum { reset_row = 1 };
    size_t first = 2 * in->width;
    brt_stream *stream = open_stream(in->model, in->rows), *fresh = open_stream(in->model, in->rows);
    float *kept = feed_at_once(in), *reset = new_logits(in), *anew = new_logits(in);
    feed_range(stream, in, 0, first, NULL);
    assert_ok(brt_stream_reset(stream, reset_row));
    feed_range(stream, in, first, in->time - first, reset);
    feed_range(fresh, in, first, in->time - first, anew);
    for (size_t row = 0; row < in->rows; row++) {
        const float *expected = row == reset_row ? anew : kept, *other = row == reset_row ? kept : anew;
        if (!same_logits(in, reset, expected, row, first, in->time))
            fail_msg("%s: after the reset of row %d, row %zu differs", name, reset_row, row);
        assert_false(same_logits(in, reset, other, row, first, in->time));
        assert_int_equal(brt_stream_position(stream, row), in->time - (row == reset_row ? first : 0));
    }
    brt_stream_close(stream);
    brt_stream_close(fresh);
    free(kept);
    free(reset);
    free(anew);
}

static void a_reset_row_is_a_fresh_one(void **state)
{
    (void)state;
    check_all(expect_row_reset, 3, 4);
}

/* Anywhere, one token into a block and one before its end included. */
static void expect_full_reset(const char *name, const input *in)
{
    brt_stream *stream = open_stream(in->model, in->rows);
    float *fresh = feed_at_once(in), *again = new_logits(in);
    const size_t fed[] = {0, 1, in->width - 1, in->width, in->width + 1, 2 * in->width};
    const size_t memories = brt_stream_memory_length(stream);
    for (size_t i = 0; i < sizeof fed / sizeof fed[0]; i++) {
        feed_range(stream, in, 0, fed[i], NULL);
        assert_ok(brt_stream_reset(stream, in->rows == 1 && i % 2 ? 0 : -1));
        assert_int_equal(brt_stream_position(stream, 0), 0);
        assert_int_equal(brt_stream_memory_length(stream), memories);
        feed_range(stream, in, 0, in->time, again);
        if (memcmp(again, fresh, in->rows * in->time * in->classes * sizeof *fresh) != 0)
            fail_msg("%s: after %zu tokens and a reset the stream is not a fresh one", name, fed[i]);
        assert_ok(brt_stream_reset(stream, -1));
    }
    brt_stream_close(stream);
    free(fresh);
    free(again);
}

static void a_reset_stream_is_a_fresh_one(void **state)
{
    (void)state;
    check_all(expect_full_reset, 1, 2);
    check_all(expect_full_reset, 2, 2);
}

/* ---- partial blocks ------------------------------------------------------------------------------------ */

static void expect_drop(const char *name, const input *in)
{
    brt_stream *stream = open_stream(in->model, in->rows), *control = open_stream(in->model, in->rows);
    float *found = new_logits(in), *expected = new_logits(in);
    size_t rest = in->time - in->width;
    feed_range(stream, in, 0, in->width, NULL);
    feed_range(control, in, 0, in->width, NULL);
    feed_range(control, in, in->width, rest, expected);
    for (size_t partial = 0; partial < in->width; partial++) {
        feed_range(stream, in, 1, partial, NULL); /* other tokens than those that follow */
        assert_ok(brt_stream_drop_partial_block(stream));
        for (size_t row = 0; row < in->rows; row++)
            assert_int_equal(brt_stream_position(stream, row), in->width);
    }
    feed_range(stream, in, in->width, rest, found);
    if (memcmp(found, expected, in->rows * in->time * in->classes * sizeof *found) != 0)
        fail_msg("%s: dropped tokens were not forgotten", name);
    brt_stream_close(stream);
    brt_stream_close(control);
    free(found);
    free(expected);
}

static void a_dropped_partial_block_is_forgotten(void **state)
{
    (void)state;
    check_all(expect_drop, 2, 2);
}

/* ---- without states or memories ------------------------------------------------------------------------ */

static brt_stream *open_without(const brt_model *model, bool no_states, bool no_memories)
{
    brt_stream *stream;
    brt_stream_options options = brt_stream_options_init();
    options.no_states = no_states;
    options.no_memories = no_memories;
    assert_ok(brt_stream_open(&stream, model, &options));
    return stream;
}

/* Without both, every block is a first block. */
static void nothing_is_carried_without_states_and_memories(void **state)
{
    (void)state;
    input in = make_input(load_golden("two_recurrent"), 1, 3);
    memcpy(in.tokens + in.width, in.tokens, in.width * sizeof *in.tokens);
    memcpy(in.tokens + 2 * in.width, in.tokens, in.width * sizeof *in.tokens);
    size_t block_count = in.width * in.classes;
    float *first[4];
    for (size_t i = 0; i < 4; i++) {
        bool no_states = i & 1, no_memories = i & 2;
        brt_stream *stream = open_without(in.model, no_states, no_memories);
        float *logits = first[i] = new_logits(&in);
        feed_range(stream, &in, 0, in.time, logits);
        bool repeats = memcmp(logits, logits + block_count, block_count * sizeof *logits) == 0 &&
                       memcmp(logits, logits + 2 * block_count, block_count * sizeof *logits) == 0;
        assert_int_equal(repeats, no_states && no_memories);
        brt_stream_close(stream);
    }
    for (size_t i = 1; i < 4; i++) { /* the first block is the same, the others are all different */
        assert_true(same_logits(&in, first[0], first[i], 0, 0, in.width));
        for (size_t j = 0; j < i; j++)
            assert_false(same_logits(&in, first[j], first[i], 0, in.width, 2 * in.width));
    }
    for (size_t i = 0; i < 4; i++)
        free(first[i]);
    close_input(&in);
}

static void states_stay_initial_without_states(void **state)
{
    (void)state;
    for (int no_states = 0; no_states < 2; no_states++) {
        input in = make_input(load_golden("two_recurrent"), 1, 2);
        size_t count = config_of(in.model, "num_state_vectors") * config_of(in.model, "dim");
        float *before = malloc(count * sizeof *before), *after = malloc(count * sizeof *after);
        brt_stream *stream = open_without(in.model, no_states, false);
        for (size_t index = 0; index < 2; index++) {
            assert_ok(brt_stream_reset(stream, -1));
            assert_ok(brt_stream_states(stream, index, before));
            feed_range(stream, &in, 0, in.time, NULL);
            assert_ok(brt_stream_states(stream, index, after));
            assert_int_equal(memcmp(before, after, count * sizeof *before) == 0, no_states);
        }
        free(before);
        free(after);
        brt_stream_close(stream);
        close_input(&in);
    }
}

/* ---- threads, memory, refusals ------------------------------------------------------------------------- */

static float *feed_with_threads(const input *in, int threads, size_t part)
{
    brt_stream *stream;
    brt_stream_options options = brt_stream_options_init();
    options.rows = in->rows;
    options.threads = threads;
    assert_ok(brt_stream_open(&stream, in->model, &options));
    float *logits = new_logits(in);
    for (size_t done = 0; done < in->time; done += part)
        feed_range(stream, in, done, brt_min_size(part, in->time - done), logits);
    brt_stream_close(stream);
    return logits;
}

static void expect_thread_independence(const char *name, const input *in)
{
    const size_t parts[] = {1, 5, in->width + 1, in->time};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        float *one = feed_with_threads(in, 1, parts[i]);
        for (int threads = 2; threads <= 3; threads++) {
            float *several = feed_with_threads(in, threads, parts[i]);
            if (memcmp(one, several, in->rows * in->time * in->classes * sizeof *one) != 0)
                fail_msg("%s: %d threads differ from one in calls of %zu tokens", name, threads, parts[i]);
            free(several);
        }
        free(one);
    }
}

static void threads_do_not_matter(void **state)
{
    (void)state;
    check_all(expect_thread_independence, 1, 2);
    check_all(expect_thread_independence, 3, 2);
}

static void a_stream_does_not_grow(void **state)
{
    (void)state;
    input in = make_input(make_model(medium_model), 1, 12);
    brt_stream *stream;
    brt_stream_options options = brt_stream_options_init();
    options.threads = 1; /* what several threads free stays in lists of their own for a while */
    assert_ok(brt_stream_open(&stream, in.model, &options));
    float *logits = new_logits(&in);
    for (size_t part = 1; part <= in.width; part++) /* every size is seen, and its products are made */
        feed_range(stream, &in, 0, part, logits);
    size_t before = bytes_in_use();
    for (size_t part = 1; part <= 2 * in.width; part += 7)
        feed_range(stream, &in, 0, part, logits);
    feed_range(stream, &in, 0, in.time, logits);
    assert_int_equal(bytes_in_use(), before);
    brt_stream_close(stream);
    free(logits);
    close_input(&in);
}

static void wrong_calls_are_refused_and_change_nothing(void **state)
{
    (void)state;
    input in = make_input(load_golden("odd_sizes"), 2, 2);
    float *expected = feed_at_once(&in), *found = new_logits(&in);
    brt_stream *stream = open_stream(in.model, in.rows);
    feed_range(stream, &in, 0, 2, found);
    const int32_t negative[] = {0, -1}, beyond[] = {(int32_t)in.classes, 0};
    expect_failure(brt_stream_feed(stream, negative, 1, NULL), BRT_ERROR_ARGUMENT, "token -1 at position 1");
    expect_failure(brt_stream_feed(stream, beyond, 1, NULL), BRT_ERROR_ARGUMENT, "token 11 at position 0");
    expect_failure(brt_stream_reset(stream, 1), BRT_ERROR_ARGUMENT, "row 1 cannot be reset inside a block: 2 of 5");
    expect_failure(brt_stream_reset(stream, 2), BRT_ERROR_ARGUMENT, "there is no row 2");
    expect_failure(brt_stream_memories(stream, 3, found), BRT_ERROR_ARGUMENT, "there is no layer 3");
    expect_failure(brt_stream_states(stream, 1, found), BRT_ERROR_ARGUMENT, "there is no state 1");
    brt_stream_options crowded = brt_stream_options_init();
    brt_stream *other;
    crowded.threads = 1025;
    expect_failure(brt_stream_open(&other, in.model, &crowded), BRT_ERROR_ARGUMENT, "threads is 1025");
    crowded.threads = -1;
    expect_failure(brt_stream_open(&other, in.model, &crowded), BRT_ERROR_ARGUMENT, "threads is -1");
    assert_ok(brt_stream_feed(stream, NULL, 0, NULL));
    feed_range(stream, &in, 2, in.time - 2, found);
    assert_true(difference(found, expected, in.rows * in.time * in.classes) <= rounding);
    brt_stream_close(stream);
    brt_stream_options options = brt_stream_options_init();
    options.rows = 0;
    expect_failure(brt_stream_open(&stream, in.model, &options), BRT_ERROR_ARGUMENT, "\"rows\" is 0");
    options.size = 0;
    expect_failure(brt_stream_open(&stream, in.model, &options), BRT_ERROR_ARGUMENT, "brt_stream_options_init");
    free(expected);
    free(found);
    close_input(&in);
}

/* ---- the trainer's forward pass ------------------------------------------------------------------------ */

static void expect_trainer_agrees(const char *name, const input *in)
{
    brt_trainer_options options = brt_trainer_options_init();
    options.rows = in->rows;
    options.segment_blocks = in->time / in->width + 1;
    options.threads = 2;
    brt_trainer *trainer;
    assert_ok(brt_trainer_open(&trainer, in->model, &options));
    float *expected = feed_at_once(in), *found = new_logits(in);
    brt_segment segment = {
        .time = in->time, .tokens = in->tokens, .targets = in->tokens, .forward_only = true, .logits = found};
    double loss;
    assert_ok(brt_trainer_segment(trainer, &segment, &loss, NULL));
    double largest = difference(found, expected, in->rows * in->time * in->classes);
    if (largest > 1e-5)
        fail_msg("%s: the trainer's logits differ by %g", name, largest);
    brt_trainer_close(trainer);
    free(expected);
    free(found);
}

static void the_trainer_sees_the_same_logits(void **state)
{
    (void)state;
    check_all(expect_trainer_agrees, 2, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(later_tokens_change_nothing),
        cmocka_unit_test(states_carry_a_token_beyond_the_window),
        cmocka_unit_test(the_split_into_calls_does_not_matter),
        cmocka_unit_test(random_splits_do_not_matter),
        cmocka_unit_test(last_logits_are_the_last_of_all),
        cmocka_unit_test(greedy_generation_is_the_teacher_forced_argmax),
        cmocka_unit_test(rows_together_are_rows_alone),
        cmocka_unit_test(a_reset_row_is_a_fresh_one),
        cmocka_unit_test(a_reset_stream_is_a_fresh_one),
        cmocka_unit_test(a_dropped_partial_block_is_forgotten),
        cmocka_unit_test(nothing_is_carried_without_states_and_memories),
        cmocka_unit_test(states_stay_initial_without_states),
        cmocka_unit_test(threads_do_not_matter),
        cmocka_unit_test(a_stream_does_not_grow),
        cmocka_unit_test(wrong_calls_are_refused_and_change_nothing),
        cmocka_unit_test(the_trainer_sees_the_same_logits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
