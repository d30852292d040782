/* The trainer: gradients, what segments carry, dropouts of it, memory. */
#define _GNU_SOURCE
#include "training.h"

#include "train/trainer_state.h"

/* ---- threads ------------------------------------------------------------------------------------------- */

typedef struct result {
    double loss;
    float *gradients, *weights;
} result;

/* Two segments, the second with what the first carried and a partial block, and an update. */
static result train_with_threads(const char *name, size_t rows, int threads)
{
    brt_model *model = name ? load_golden(name) : make_model(medium_model);
    brt_trainer_options options = plain_options(rows);
    options.threads = threads;
    options.xl_memories_dropout = options.state_dropout = 0.3f;
    options.weight_decay = 0.1f;
    options.clip = 0.1f;
    brt_trainer *trainer = open_trainer(model, &options);
    size_t width = config_of(model, "block_width");
    batch first = make_batch(model, rows, 2 * width, 1), second = make_batch(model, rows, 2 * width + 3, 2);
    second.targets[1] = (int32_t)brt_config_get(brt_model_config(model), "ignore_index");
    result r = {.loss = run_segment(trainer, &first)};
    r.loss += run_segment(trainer, &second);
    r.gradients = read_all(model, trainer);
    assert_ok(brt_trainer_update(trainer, 0.01f, NULL));
    r.weights = read_all(model, NULL);
    brt_trainer_close(trainer);
    close_batch(&first);
    close_batch(&second);
    brt_model_close(model);
    return r;
}

static void close_result(result *r)
{
    free(r->gradients);
    free(r->weights);
}

static void threads_do_not_matter(void **state)
{
    (void)state;
    static const struct {
        const char *name; /* NULL: the medium model */
        size_t rows;
    } cases[] = {{"odd_sizes", 1}, {"odd_sizes", 3}, {"two_recurrent", 3}, {"read_earlier_two_writers_one_reader", 2},
                 {"recurrent_first_and_last", 2}, {"no_recurrence", 5}, {NULL, 1}, {NULL, 3}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *name = cases[i].name;
        result one = train_with_threads(name, cases[i].rows, 1);
        brt_model *model = name ? load_golden(name) : make_model(medium_model);
        for (int threads = 2; threads <= 3; threads++) {
            result several = train_with_threads(name, cases[i].rows, threads);
            if (one.loss != several.loss || !same_all(model, one.gradients, several.gradients) ||
                !same_all(model, one.weights, several.weights))
                fail_msg("%s, %zu rows: %d threads differ from one", name ? name : "medium", cases[i].rows, threads);
            close_result(&several);
        }
        close_result(&one);
        brt_model_close(model);
    }
}

/* ---- who gets a gradient ------------------------------------------------------------------------------- */

/* What only the writing of a state uses: its result is read by the next block. */
static bool writes_state(const char *name)
{
    static const char *const writers[] = {"learned_ema_beta", "q_from_state",          "state_to_q",
                                          "to_state_out",     "from_state_cross_attn", "state_self_attn",
                                          "state_out_to_gate"};
    for (size_t i = 0; i < sizeof writers / sizeof writers[0]; i++)
        if (strstr(name, writers[i]))
            return true;
    return false;
}

static bool is_zero(const float *values, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (values[i] != 0)
            return false;
    return true;
}

static void expect_writers(brt_model *model, size_t time, bool learn)
{
    brt_trainer_options options = plain_options(2);
    brt_trainer *trainer = open_trainer(model, &options);
    batch b = make_batch(model, 2, time, 1);
    run_segment(trainer, &b);
    for (size_t i = 0; i < brt_model_parameter_count(model); i++) {
        brt_parameter_info info;
        assert_ok(brt_model_parameter(model, i, &info));
        float *gradient = malloc(info.count * sizeof *gradient);
        assert_ok(brt_trainer_gradient(trainer, i, gradient));
        bool expected = learn || !writes_state(info.name);
        if (is_zero(gradient, info.count) == expected)
            fail_msg("%zu tokens: the gradient of %s is%s zero", time, info.name, expected ? "" : " not");
        free(gradient);
    }
    brt_trainer_close(trainer);
    close_batch(&b);
}

static void writing_a_state_learns_from_the_next_block(void **state)
{
    (void)state;
    static const char *const names[] = {"two_recurrent", "odd_sizes", "read_earlier_two_writers_one_reader"};
    for (size_t i = 0; i < 3; i++) {
        brt_model *model = load_golden(names[i]);
        size_t width = config_of(model, "block_width");
        const size_t times[] = {width - 1, width, width + 1, 2 * width, 3 * width + 1, 4 * width};
        for (size_t t = 0; t < sizeof times / sizeof times[0]; t++)
            expect_writers(model, times[t], times[t] > width);
        brt_model_close(model);
    }
}

/* Once a row carries a state, its initial one is not read. */
static void the_initial_state_learns_from_rows_that_start(void **state)
{
    (void)state;
    brt_model *model = load_golden("two_recurrent");
    brt_trainer_options options = plain_options(2);
    brt_trainer *trainer = open_trainer(model, &options);
    batch b = make_batch(model, 2, config_of(model, "block_width"), 1);
    const bool resets[][2] = {{false, false}, {false, false}, {false, true}};
    for (size_t s = 0; s < 3; s++) {
        brt_segment segment = segment_of(&b);
        double loss;
        segment.reset = resets[s];
        assert_ok(brt_trainer_update(trainer, 0, NULL)); /* no change but gradients of zero */
        assert_ok(brt_trainer_segment(trainer, &segment, &loss, NULL));
        for (size_t i = 0; i < brt_model_parameter_count(model); i++) {
            brt_parameter_info info;
            float gradient[5 * 24];
            assert_ok(brt_model_parameter(model, i, &info));
            if (!strstr(info.name, "init_state"))
                continue;
            assert_int_equal(info.count, sizeof gradient / sizeof gradient[0]);
            assert_ok(brt_trainer_gradient(trainer, i, gradient));
            assert_int_equal(is_zero(gradient, info.count), s == 1);
        }
    }
    brt_trainer_close(trainer);
    close_batch(&b);
    brt_model_close(model);
}

/* ---- weights and counts of segments -------------------------------------------------------------------- */

static float *gradient_of(brt_model *model, const batch *b, float weight)
{
    brt_trainer_options options = plain_options(b->rows);
    brt_trainer *trainer = open_trainer(model, &options);
    brt_segment segment = segment_of(b);
    double loss;
    segment.weight = weight;
    assert_ok(brt_trainer_segment(trainer, &segment, &loss, NULL));
    float *gradients = read_all(model, trainer);
    brt_trainer_close(trainer);
    return gradients;
}

/* A power of two passes through every step exactly. */
static void half_the_weight_is_half_the_gradient(void **state)
{
    (void)state;
    brt_model *model = load_golden("two_recurrent");
    batch b = make_batch(model, 2, 2 * config_of(model, "block_width"), 1);
    float *whole = gradient_of(model, &b, 1), *half = gradient_of(model, &b, 0.5f);
    for (size_t i = 0; i < parameter_total(model); i++)
        assert_true(half[i] == 0.5f * whole[i]);
    free(whole);
    free(half);
    close_batch(&b);
    brt_model_close(model);
}

/* Up to rounding: sums are taken in another order. */
static void two_half_batches_are_the_whole(void **state)
{
    (void)state;
    brt_model *model = load_golden("two_recurrent");
    size_t width = config_of(model, "block_width"), total = parameter_total(model);
    batch whole = make_batch(model, 4, 2 * width, 1), half = {2, whole.time, whole.tokens, whole.targets};
    float *expected = gradient_of(model, &whole, 1);
    brt_trainer_options options = plain_options(2);
    brt_trainer *trainer = open_trainer(model, &options);
    for (size_t part = 0; part < 2; part++) {
        brt_segment segment = segment_of(&half);
        double loss;
        segment.weight = 0.5f;
        assert_ok(brt_trainer_segment(trainer, &segment, &loss, NULL));
        brt_trainer_clear(trainer);
        half.tokens += 2 * half.time;
        half.targets += 2 * half.time;
    }
    float *found = read_all(model, trainer);
    double difference = 0, norm = 0;
    for (size_t i = 0; i < total; i++) {
        difference += pow((double)found[i] - (double)expected[i], 2);
        norm += pow((double)expected[i], 2);
    }
    assert_true(sqrt(difference / norm) < 1e-6);
    brt_trainer_close(trainer);
    free(expected);
    free(found);
    close_batch(&whole);
    brt_model_close(model);
}

static void ignored_targets_do_not_count(void **state)
{
    (void)state;
    brt_model *model = load_golden("odd_sizes");
    batch b = make_batch(model, 2, config_of(model, "block_width"), 1);
    brt_trainer_options options = plain_options(2);
    brt_trainer *trainer = open_trainer(model, &options);
    brt_segment segment = segment_of(&b);
    double loss, total = 0, single;
    uint64_t count;
    int32_t *targets = malloc(b.rows * b.time * sizeof *targets);
    memcpy(targets, b.targets, b.rows * b.time * sizeof *targets);
    for (size_t i = 0; i < b.rows * b.time; i++)
        b.targets[i] = -100;
    assert_ok(brt_trainer_segment(trainer, &segment, &loss, &count));
    assert_true(loss == 0 && count == 0);
    float *gradients = read_all(model, trainer);
    assert_true(is_zero(gradients, parameter_total(model)));
    for (size_t i = 3; i < 6; i++) { /* each alone, then all of them */
        brt_trainer_clear(trainer);
        b.targets[i] = targets[i];
        assert_ok(brt_trainer_segment(trainer, &segment, &single, &count));
        assert_int_equal(count, 1);
        b.targets[i] = -100;
        total += single;
    }
    brt_trainer_clear(trainer);
    memcpy(b.targets + 3, targets + 3, 3 * sizeof *targets);
    assert_ok(brt_trainer_segment(trainer, &segment, &loss, &count));
    assert_int_equal(count, 3);
    assert_true(fabs(loss - total / 3) < 1e-6);
    brt_trainer_close(trainer);
    free(targets);
    free(gradients);
    close_batch(&b);
    brt_model_close(model);
}

/* ---- what is carried ----------------------------------------------------------------------------------- */

enum { carry_rows = 3 };

/* Two segments; the second one's logits and gradient. */
typedef struct second_segment {
    size_t row_bytes; /* of logits */
    float *logits, *gradients;
    double loss;
} second_segment;

typedef struct carry_case {
    float memory_dropout, state_dropout;
    const bool *reset;
    bool clear, fresh, forward_only; /* fresh: there is no first segment */
} carry_case;

static second_segment run_second(brt_model *model, const carry_case *c)
{
    size_t width = config_of(model, "block_width"), classes = config_of(model, "num_tokens");
    batch first = make_batch(model, carry_rows, 2 * width, 1), second = make_batch(model, carry_rows, 2 * width, 2);
    brt_trainer_options options = plain_options(carry_rows);
    options.xl_memories_dropout = c->memory_dropout;
    options.state_dropout = c->state_dropout;
    brt_trainer *trainer = open_trainer(model, &options);
    second_segment r = {.row_bytes = second.time * classes * sizeof *r.logits};
    r.logits = malloc(carry_rows * r.row_bytes);
    if (!c->fresh)
        run_segment(trainer, &first);
    if (c->clear)
        brt_trainer_clear(trainer);
    assert_ok(brt_trainer_update(trainer, 0, NULL)); /* forgets the first one's gradient */
    brt_segment segment = segment_of(&second);
    segment.reset = c->reset;
    segment.forward_only = c->forward_only;
    segment.logits = r.logits;
    assert_ok(brt_trainer_segment(trainer, &segment, &r.loss, NULL));
    r.gradients = read_all(model, trainer);
    brt_trainer_close(trainer);
    close_batch(&first);
    close_batch(&second);
    return r;
}

static void close_second(second_segment *r)
{
    free(r->logits);
    free(r->gradients);
}

static bool same_row(const second_segment *a, const second_segment *b, size_t row)
{
    return memcmp((const char *)a->logits + row * a->row_bytes, (const char *)b->logits + row * b->row_bytes,
                  a->row_bytes) == 0;
}

static void memories_and_states_reach_the_next_segment(void **state)
{
    (void)state;
    brt_model *model = load_golden("two_recurrent");
    /* Bit 0: without memories, bit 1: without states. A dropout of 1 is certain. */
    const carry_case cases[] = {{0}, {.memory_dropout = 1}, {.state_dropout = 1},
                                {.memory_dropout = 1, .state_dropout = 1}};
    second_segment found[4];
    for (size_t i = 0; i < 4; i++) {
        found[i] = run_second(model, &cases[i]);
        for (size_t j = 0; j < i; j++) {
            assert_true(found[i].loss != found[j].loss);
            for (size_t row = 0; row < carry_rows; row++)
                assert_false(same_row(&found[i], &found[j], row));
        }
    }
    /* Without both: as after clearing, and as without a first segment. */
    const carry_case cleared[] = {{.clear = true}, {.fresh = true}, {.reset = (const bool[]){true, true, true}}};
    for (size_t i = 0; i < 3; i++) {
        second_segment r = run_second(model, &cleared[i]);
        assert_true(r.loss == found[3].loss);
        assert_memory_equal(r.logits, found[3].logits, carry_rows * r.row_bytes);
        assert_true(same_all(model, r.gradients, found[3].gradients));
        close_second(&r);
    }
    for (size_t i = 0; i < 4; i++)
        close_second(&found[i]);
    brt_model_close(model);
}

static void a_reset_row_is_a_fresh_one(void **state)
{
    (void)state;
    brt_model *model = load_golden("two_recurrent");
    second_segment carried = run_second(model, &(carry_case){0});
    second_segment fresh = run_second(model, &(carry_case){.fresh = true});
    for (unsigned rows = 0; rows < 1u << carry_rows; rows++) {
        const bool reset[carry_rows] = {rows & 1, rows & 2, rows & 4};
        second_segment r = run_second(model, &(carry_case){.reset = reset});
        for (size_t row = 0; row < carry_rows; row++)
            assert_true(same_row(&r, reset[row] ? &fresh : &carried, row));
        close_second(&r);
    }
    close_second(&carried);
    close_second(&fresh);
    brt_model_close(model);
}

/* Memories and states that the next segment will read, of a model with the widths of two_recurrent. */
typedef struct carried {
    float memories[2 * 4 * 8], states[2][5 * 24];
} carried;

static carried carried_by(const brt_trainer *trainer)
{
    carried c;
    assert_int_equal(brt_trainer_memory_length(trainer), 4);
    assert_ok(brt_trainer_memories(trainer, 2, c.memories));
    for (size_t i = 0; i < 2; i++)
        assert_ok(brt_trainer_states(trainer, i, c.states[i]));
    return c;
}

/* What is carried is of the last full block, of this segment or of one before. */
static void a_partial_block_is_not_carried(void **state)
{
    (void)state;
    brt_model *model = load_golden("two_recurrent");
    brt_trainer_options options = plain_options(1);
    carried full = {0};
    for (size_t partial = 0; partial < 4; partial++) {
        brt_trainer *trainer = open_trainer(model, &options);
        batch b = make_batch(model, 1, 2 * 4 + partial, 1), shorter = {1, partial, b.tokens, b.targets};
        run_segment(trainer, &b);
        for (size_t round = 0; round < 1 + (partial > 0); round++) {
            carried found = carried_by(trainer);
            if (partial == 0)
                full = found;
            assert_memory_equal(&found, &full, sizeof full);
            if (partial > 0)
                run_segment(trainer, &shorter);
        }
        brt_trainer_close(trainer);
        close_batch(&b);
    }
    brt_model_close(model);
}

static void evaluating_drops_nothing_and_leaves_no_gradient(void **state)
{
    (void)state;
    /* Blocks of more than 8 tokens: shorter ones are decoded in another order of sums where there is no gradient. */
    brt_model *model = make_model(medium_model);
    second_segment plain = run_second(model, &(carry_case){0});
    second_segment evaluated =
        run_second(model, &(carry_case){.memory_dropout = 1, .state_dropout = 1, .forward_only = true});
    for (size_t row = 0; row < carry_rows; row++)
        assert_true(same_row(&plain, &evaluated, row));
    assert_true(evaluated.loss == plain.loss);
    assert_true(is_zero(evaluated.gradients, parameter_total(model)));
    assert_false(is_zero(plain.gradients, parameter_total(model)));
    close_second(&plain);
    close_second(&evaluated);
    brt_model_close(model);
}

/* ---- dropouts ------------------------------------------------------------------------------------------ */

enum { dropout_rounds = 60 };

/* Which rows of each round's second segment went without memories or states (bit 2 * row and the one above). */
static void watch_dropouts(brt_model *model, uint64_t seed, unsigned *dropped)
{
    const carry_case outcomes[] = {{0}, {.memory_dropout = 1}, {.state_dropout = 1},
                                   {.memory_dropout = 1, .state_dropout = 1}};
    second_segment expected[4];
    for (size_t i = 0; i < 4; i++)
        expected[i] = run_second(model, &outcomes[i]);
    size_t width = config_of(model, "block_width");
    batch first = make_batch(model, carry_rows, 2 * width, 1), second = make_batch(model, carry_rows, 2 * width, 2);
    brt_trainer_options options = plain_options(carry_rows);
    options.seed = seed;
    options.xl_memories_dropout = 0.3f;
    options.state_dropout = 0.5f;
    brt_trainer *trainer = open_trainer(model, &options);
    second_segment found = {.row_bytes = expected[0].row_bytes, .logits = malloc(carry_rows * expected[0].row_bytes)};
    for (size_t round = 0; round < dropout_rounds; round++) {
        brt_segment segment = segment_of(&second);
        segment.logits = found.logits;
        brt_trainer_clear(trainer);
        run_segment(trainer, &first); /* has nothing to drop */
        assert_ok(brt_trainer_segment(trainer, &segment, &found.loss, NULL));
        dropped[round] = 0;
        for (size_t row = 0; row < carry_rows; row++) {
            unsigned outcome = 0;
            while (outcome < 4 && !same_row(&found, &expected[outcome], row))
                outcome++;
            assert_true(outcome < 4);
            dropped[round] |= outcome << 2 * row;
        }
    }
    brt_trainer_close(trainer);
    close_second(&found);
    for (size_t i = 0; i < 4; i++)
        close_second(&expected[i]);
    close_batch(&first);
    close_batch(&second);
}

static void dropouts_are_drawn_per_row_and_from_the_seed(void **state)
{
    (void)state;
    brt_model *model = load_golden("two_recurrent");
    unsigned first[dropout_rounds], again[dropout_rounds], other[dropout_rounds];
    watch_dropouts(model, 1, first);
    watch_dropouts(model, 1, again);
    watch_dropouts(model, 2, other);
    assert_memory_equal(first, again, sizeof first);
    size_t agree = 0, count[2 * carry_rows] = {0}, rows_agree = 0, memories_alone = 0;
    for (size_t round = 0; round < dropout_rounds; round++) {
        agree += first[round] == other[round];
        rows_agree += (first[round] & 3) == (first[round] >> 2 & 3);
        for (size_t i = 0; i < 2 * carry_rows; i++)
            count[i] += first[round] >> i & 1;
        for (size_t row = 0; row < carry_rows; row++)
            memories_alone += (first[round] >> 2 * row & 3) == 1;
    }
    /* Independent rows agree with a probability of 0.29, whole rounds of 0.024. */
    assert_in_range(agree, 0, dropout_rounds / 6);
    assert_in_range(rows_agree, dropout_rounds / 8, dropout_rounds / 2);
    assert_in_range(memories_alone, 13, 41); /* 0.15 of 180 */
    for (size_t i = 0; i < 2 * carry_rows; i++) /* 0.3 and 0.5 of 60: within three standard deviations */
        assert_in_range(count[i], i % 2 ? 18 : 8, i % 2 ? 42 : 28);
    brt_model_close(model);
}

/* ---- memory -------------------------------------------------------------------------------------------- */

static const char wide_model[] =
    "{\"num_tokens\": 256, \"dim\": 256, \"depth\": 2, \"heads\": 4, \"dim_head\": 64, \"block_width\": 64,"
    " \"max_seq_len\": 128, \"recurrent_layers\": [2]}";

static void a_trainer_beyond_the_limit_is_refused(void **state)
{
    (void)state;
    brt_model *model = make_model(wide_model);
    brt_trainer_options options = plain_options(2);
    brt_trainer *trainer;
    uint64_t bytes;
    assert_ok(brt_trainer_measure(model, &options, &bytes));
    options.memory_limit = bytes - 1;
    char needed[32];
    snprintf(needed, sizeof needed, "needs %.1f MB", (double)bytes / 1e6);
    expect_failure(brt_trainer_open(&trainer, model, &options), BRT_ERROR_MEMORY, needed);
    expect_failure(BRT_ERROR_MEMORY, BRT_ERROR_MEMORY, "2 rows of 256 tokens");
    options.memory_limit = bytes;
    brt_trainer_close(open_trainer(model, &options));
    brt_model_close(model);
}

/* A sanitizer's allocator does not tell. */
static bool allocator_tells(void)
{
    size_t before = bytes_in_use();
    void *memory = malloc(1 << 20);
    bool tells = memory && bytes_in_use() > before;
    free(memory);
    return tells;
}

/* The tape's own memory and that of packed weights are mapped, not allocated, in pages of 2 MiB. */
static size_t mapped_bytes(const brt_model *model, const brt_trainer *trainer)
{
    size_t bytes = trainer ? brt_tape_bytes(trainer->record) : 0;
    for (size_t i = 0; i < model->parameters.packed->count; i++)
        bytes += model->parameters.packed->stretch[i].bytes;
    return bytes;
}

/* Lists come on top, below a hundredth. */
static void expect_measured(brt_model *model, const brt_trainer_options *options)
{
    uint64_t bytes;
    assert_ok(brt_trainer_measure(model, options, &bytes));
    size_t before = bytes_in_use() + mapped_bytes(model, NULL);
    brt_trainer *trainer = open_trainer(model, options);
    double taken = (double)(bytes_in_use() + mapped_bytes(model, trainer) - before);
    if (!(taken >= 0.99 * (double)bytes && taken <= 1.01 * (double)bytes))
        fail_msg("measured %.3f MB, taken %.3f MB", (double)bytes / 1e6, taken / 1e6);
    batch b = make_batch(model, options->rows, 4 * config_of(model, "block_width"), 1);
    run_segment(trainer, &b);
    size_t held = bytes_in_use();
    for (size_t i = 0; i < 2; i++) {
        run_segment(trainer, &b);
        assert_ok(brt_trainer_update(trainer, 0.001f, NULL));
    }
    /* Freed pieces of other threads stay in lists of their own. */
    assert_true(bytes_in_use() <= held + (1 << 16));
    brt_trainer_close(trainer);
    close_batch(&b);
}

static void measuring_tells_what_opening_takes(void **state)
{
    (void)state;
    if (!allocator_tells())
        skip();
    brt_model *model = make_model(wide_model);
    brt_trainer_options options = plain_options(3);
    expect_measured(model, &options);
    expect_measured(model, &options); /* what a first trainer adds to the model is there now */
    options.recompute = true;
    expect_measured(model, &options);
    brt_model_close(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_do_not_matter),
        cmocka_unit_test(writing_a_state_learns_from_the_next_block),
        cmocka_unit_test(the_initial_state_learns_from_rows_that_start),
        cmocka_unit_test(half_the_weight_is_half_the_gradient),
        cmocka_unit_test(two_half_batches_are_the_whole),
        cmocka_unit_test(ignored_targets_do_not_count),
        cmocka_unit_test(memories_and_states_reach_the_next_segment),
        cmocka_unit_test(a_reset_row_is_a_fresh_one),
        cmocka_unit_test(a_partial_block_is_not_carried),
        cmocka_unit_test(evaluating_drops_nothing_and_leaves_no_gradient),
        cmocka_unit_test(dropouts_are_drawn_per_row_and_from_the_seed),
        cmocka_unit_test(a_trainer_beyond_the_limit_is_refused),
        cmocka_unit_test(measuring_tells_what_opening_takes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
