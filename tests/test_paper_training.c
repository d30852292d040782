/* Training in the paper's arithmetic: dropout of activations and of attention's weights, the last target of a
 * segment. */
#define _GNU_SOURCE
#include "training.h"

enum { rows = 2, blocks = 3 };

/* Blocks of more than 8 tokens: shorter ones are decoded in another order of sums where there is no gradient. */
static const char paper_model[] =
    "{\"arithmetic\": \"paper\", \"num_tokens\": 40, \"dim\": 48, \"depth\": 3, \"heads\": 3, \"dim_head\": 16,"
    " \"block_width\": 70, \"max_seq_len\": 70, \"num_state_vectors\": 20, \"recurrent_layers\": [2]}";

typedef struct result {
    double loss;
    float *gradients;
} result;

/* Two segments, the second with what the first carried and a part of a block. */
static result train(const brt_trainer_options *options, bool forward_only)
{
    brt_model *model = make_model(paper_model);
    brt_trainer *trainer = open_trainer(model, options);
    size_t width = config_of(model, "block_width");
    const size_t times[] = {blocks * width, (blocks - 1) * width + 20};
    result r = {0};
    for (size_t i = 0; i < 2; i++) {
        batch b = make_batch(model, rows, times[i], i);
        brt_segment segment = segment_of(&b);
        double loss;
        segment.forward_only = forward_only;
        assert_ok(brt_trainer_segment(trainer, &segment, &loss, NULL));
        r.loss += loss;
        close_batch(&b);
    }
    r.gradients = read_all(model, trainer);
    brt_trainer_close(trainer);
    brt_model_close(model);
    return r;
}

static brt_trainer_options dropping(float dropout, float attention_dropout, uint64_t seed)
{
    brt_trainer_options options = plain_options(rows);
    options.segment_blocks = blocks;
    options.dropout = dropout;
    options.attention_dropout = attention_dropout;
    options.seed = seed;
    return options;
}

static void dropouts_do_not_depend_on_threads_or_recomputation(void **state)
{
    (void)state;
    brt_model *model = make_model(paper_model);
    brt_trainer_options options = dropping(0.1f, 0.2f, 1);
    result first = train(&options, false);
    for (int threads = 1; threads <= 3; threads++) {
        options.threads = threads;
        options.recompute = threads != 2;
        result other = train(&options, false);
        assert_true(other.loss == first.loss);
        assert_true(same_all(model, other.gradients, first.gradients));
        free(other.gradients);
    }
    free(first.gradients);
    brt_model_close(model);
}

static double loss_of(float dropout, float attention_dropout, uint64_t seed, bool forward_only)
{
    brt_trainer_options options = dropping(dropout, attention_dropout, seed);
    result r = train(&options, forward_only);
    free(r.gradients);
    return r.loss;
}

static void each_dropout_and_seed_has_losses_of_its_own(void **state)
{
    (void)state;
    const double losses[] = {loss_of(0, 0, 1, false), loss_of(0.2f, 0, 1, false), loss_of(0, 0.2f, 1, false),
                             loss_of(0, 0.2f, 2, false), loss_of(0.2f, 0.2f, 1, false)};
    for (size_t i = 0; i < sizeof losses / sizeof losses[0]; i++)
        for (size_t j = 0; j < i; j++)
            assert_true(losses[i] != losses[j]);
    assert_true(loss_of(0, 0, 2, false) == losses[0]);
    assert_true(loss_of(0.2f, 0.2f, 1, true) == losses[0]);
}

static void attention_of_the_reference_has_no_dropout(void **state)
{
    (void)state;
    brt_model *model = make_model(medium_model);
    brt_trainer_options options = dropping(0, 0.1f, 1);
    brt_trainer *trainer;
    assert_int_equal(brt_trainer_open(&trainer, model, &options), BRT_ERROR_ARGUMENT);
    assert_non_null(strstr(brt_last_error(), "attention_dropout"));
    brt_model_close(model);
}

/* ---- the last target --------------------------------------------------------------------------------------- */

typedef struct segment_result {
    double loss;
    uint64_t count;
    float *gradients;
} segment_result;

static segment_result run_once(const brt_model *model, brt_trainer *trainer, const batch *b, bool forward_only)
{
    segment_result r = {0};
    brt_segment segment = segment_of(b);
    segment.forward_only = forward_only;
    brt_trainer_clear(trainer);
    assert_ok(brt_trainer_segment(trainer, &segment, &r.loss, &r.count));
    r.gradients = read_all(model, trainer);
    assert_ok(brt_trainer_update(trainer, 0, NULL)); /* forgets the gradient */
    return r;
}

/* As if the caller had ignored the last target of each row. */
static void the_last_target_is_skipped_in_training_only(void **state)
{
    (void)state;
    brt_model *skipping_model = make_model(paper_model), *model = make_model(paper_model);
    brt_trainer_options options = plain_options(rows);
    brt_trainer *trainer = open_trainer(model, &options);
    options.skip_last_target = true;
    brt_trainer *skipping = open_trainer(skipping_model, &options);
    size_t time = 2 * config_of(model, "block_width") + 5;
    batch b = make_batch(model, rows, time, 1);
    for (size_t i = 0; i < rows * time; i++) { /* nothing is padded */
        b.tokens[i] += b.tokens[i] == 0;
        b.targets[i] += b.targets[i] == 0;
    }
    segment_result skipped = run_once(skipping_model, skipping, &b, false);
    segment_result evaluated = run_once(skipping_model, skipping, &b, true), all = run_once(model, trainer, &b, true);
    for (size_t row = 0; row < rows; row++)
        b.targets[row * time + time - 1] = 0;
    segment_result ignored = run_once(model, trainer, &b, false);
    assert_int_equal(skipped.count, rows * (time - 1));
    assert_int_equal(ignored.count, rows * (time - 1));
    assert_true(skipped.loss == ignored.loss);
    assert_true(same_all(model, skipped.gradients, ignored.gradients));
    assert_int_equal(evaluated.count, rows * time);
    assert_true(evaluated.loss == all.loss);
    free(skipped.gradients), free(evaluated.gradients), free(all.gradients), free(ignored.gradients);
    close_batch(&b);
    brt_trainer_close(trainer);
    brt_trainer_close(skipping);
    brt_model_close(model);
    brt_model_close(skipping_model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dropouts_do_not_depend_on_threads_or_recomputation),
        cmocka_unit_test(each_dropout_and_seed_has_losses_of_its_own),
        cmocka_unit_test(attention_of_the_reference_has_no_dropout),
        cmocka_unit_test(the_last_target_is_skipped_in_training_only),
    };
    return cmocka_run_group_tests_name("paper training", tests, NULL, NULL);
}
