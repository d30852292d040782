/* Compressed memory: its length, what entries are made of, how much attention keys get. */
#define _GNU_SOURCE
#include "attention_cases.h"
#include "training.h"

#include "kernels/kernels.h"
#include "model/compressor.h"
#include "ops/compression.h"

/* ---- operations on a tape -------------------------------------------------------------------------------- */

typedef brt_tensor *builder(brt_tape *tape, const void *context);

/* What the builder's operations compute, as the caller's to free. */
static float *compute(builder *build, const void *context)
{
    const brt_kernels *kernels;
    brt_tape *tape;
    assert_ok(brt_kernels_select(&kernels));
    assert_ok(brt_tape_create(&tape, kernels, 2));
    build(tape, context);
    assert_ok(brt_tape_commit(tape));
    const brt_tensor *result = build(tape, context);
    assert_ok(brt_tape_status(tape));
    float *values = malloc(result->count * sizeof *values);
    memcpy(values, result->data, result->count * sizeof *values);
    brt_tape_close(tape);
    return values;
}

static float *draw_values(size_t count, uint64_t stream)
{
    float *x = malloc(count * sizeof *x);
    for (size_t i = 0; i < count; i++)
        x[i] = (float)brt_rng_normal(1, stream, i);
    return x;
}

/* ---- entries ----------------------------------------------------------------------------------------------- */

enum { rows = 2, block = 11, width = 6, group = 3, factor = 4, entries = block / factor };

typedef struct compression {
    float *x, *weight, *bias, *usage; /* [rows, block, width], [width, group, factor], [width], [rows, block] */
    size_t dilation;
    brt_pooling pooling;
} compression;

static brt_tensor *input_of(brt_tape *tape, const compression *c)
{
    return brt_tape_external(tape, c->x, NULL, BRT_SHAPE(rows, block, width));
}

static brt_tensor *convolve(brt_tape *tape, const void *context)
{
    const compression *c = context;
    return brt_op_convolve(tape, input_of(tape, c),
                           brt_tape_external(tape, c->weight, NULL, BRT_SHAPE(width, group, factor)),
                           brt_tape_external(tape, c->bias, NULL, BRT_SHAPE(width)), c->dilation);
}

static brt_tensor *pool(brt_tape *tape, const void *context)
{
    const compression *c = context;
    return brt_op_pool(tape, input_of(tape, c), c->pooling, factor);
}

static brt_tensor *choose(brt_tape *tape, const void *context)
{
    const compression *c = context;
    return brt_op_most_used(tape, input_of(tape, c), brt_tape_external(tape, c->usage, NULL, BRT_SHAPE(rows, block)),
                            factor);
}

/* x of a row that is `back` rows before the last of an entry's; 0 before the block. */
static double x_at(const compression *c, size_t row, size_t entry, size_t back, size_t column)
{
    size_t last = block % factor + (entry + 1) * factor - 1;
    return back > last ? 0 : (double)c->x[(row * block + last - back) * width + column];
}

static double convolved(const compression *c, size_t row, size_t entry, size_t column)
{
    double sum = (double)c->bias[column];
    for (size_t i = 0; i < group; i++)
        for (size_t tap = 0; tap < factor; tap++)
            sum += (double)c->weight[(column * group + i) * factor + tap] *
                   x_at(c, row, entry, (factor - 1 - tap) * c->dilation, column / group * group + i);
    return sum;
}

static double mean(const compression *c, size_t row, size_t entry, size_t column)
{
    double sum = 0;
    for (size_t back = 0; back < factor; back++)
        sum += x_at(c, row, entry, back, column);
    return sum / factor;
}

static double largest(const compression *c, size_t row, size_t entry, size_t column)
{
    double most = -(double)INFINITY;
    for (size_t back = 0; back < factor; back++)
        most = fmax(most, x_at(c, row, entry, back, column));
    return most;
}

/* In `usage` row r of the batch uses rows 2 and 9 most, then 0. */
static double most_used(const compression *c, size_t row, size_t entry, size_t column)
{
    return (double)c->x[(row * block + (entry ? 9 : 2)) * width + column];
}

typedef double formula(const compression *c, size_t row, size_t entry, size_t column);

static void expect_entries(const char *name, builder *build, formula *expected, const compression *c)
{
    float *found = compute(build, c);
    for (size_t i = 0; i < rows * entries * width; i++) {
        double value = expected(c, i / width / entries, i / width % entries, i % width);
        if (fabs((double)found[i] - value) > 1e-5)
            fail_msg("%s: number %zu is %g, expected %g", name, i, (double)found[i], value);
    }
    free(found);
}

static void entries_are_their_formula(void **state)
{
    float usage[rows * block] = {[0] = 1, [2] = 3, [9] = 2, [block] = 1, [block + 2] = 2, [block + 9] = 3};
    compression c = {.x = draw_values(rows * block * width, 1),
                     .weight = draw_values(width * group * factor, 2),
                     .bias = draw_values(width, 3),
                     .usage = usage};
    (void)state;
    c.dilation = 1;
    expect_entries("convolution", convolve, convolved, &c);
    c.dilation = 2;
    expect_entries("dilated convolution", convolve, convolved, &c);
    c.pooling = BRT_POOL_MEAN;
    expect_entries("mean", pool, mean, &c);
    c.pooling = BRT_POOL_MAX;
    expect_entries("max", pool, largest, &c);
    expect_entries("most used", choose, most_used, &c);
    free(c.x);
    free(c.weight);
    free(c.bias);
}

/* ---- usage ------------------------------------------------------------------------------------------------- */

typedef struct used {
    const attention_case *c;
    float *query, *key, *bias;
    size_t first, count;
} used;

static brt_tensor *use(brt_tape *tape, const void *context)
{
    const used *u = context;
    const attention_case *c = u->c;
    brt_tensor *query =
        brt_tape_external(tape, u->query, NULL, BRT_SHAPE(case_batch(c), c->queries, c->heads, c->dim));
    brt_tensor *key = brt_tape_external(tape, u->key, NULL, BRT_SHAPE(case_batch(c), c->keys, c->dim));
    brt_tensor *bias =
        brt_tape_external(tape, u->bias, NULL, BRT_SHAPE(case_key_heads(c) * c->heads, case_span(c)));
    brt_attention how = {.key_heads = c->key_heads,
                         .heads = c->heads,
                         .scale = 1 / (real)sqrt((double)c->dim),
                         .causal = c->causal,
                         .first_query = c->first_query,
                         .strict = c->strict,
                         .window = c->window,
                         .first_key = case_first_key(c),
                         .bias = c->biased ? bias : NULL,
                         .log_sum_exp = brt_tape_tensor(tape, 3, query->shape),
                         .out_row = case_key_heads(c) * c->heads * c->dim,
                         .out_head = c->dim};
    brt_tensor *out = brt_tape_tensor(tape, BRT_SHAPE(c->batch, c->queries, how.out_row));
    brt_tensor *usage = brt_tape_tensor(tape, BRT_SHAPE(c->batch, u->count));
    brt_op_attention(tape, query, key, key, &how, out);
    brt_op_usage(tape, query, key, &how, u->first, usage);
    return usage;
}

static double *as_double(const float *x, size_t count)
{
    double *y = malloc(count * sizeof *y);
    for (size_t i = 0; i < count; i++)
        y[i] = (double)x[i];
    return y;
}

/* Usage of every key, [batch, keys]. */
static double *sum_weights(const used *u)
{
    const attention_case *c = u->c;
    attention_values v = {.query = as_double(u->query, case_query_count(c)),
                          .key = as_double(u->key, case_key_count(c)),
                          .bias = as_double(u->bias, case_bias_count(c))};
    double *p = malloc(c->keys * sizeof *p), *sums = calloc(c->batch * c->keys, sizeof *sums);
    for (size_t i = 0; i < case_row_count(c); i++) {
        size_t b = i / (c->queries * c->heads), row = b / case_key_heads(c);
        case_query q = {.row = row,
                        .query = i / c->heads % c->queries,
                        .head = b % case_key_heads(c) * c->heads + i % c->heads,
                        .at = i,
                        .keys_at = b * c->keys};
        attend_weights(c, &v, &q, p);
        for (size_t j = 0; j < c->keys; j++)
            sums[row * c->keys + j] += p[j];
    }
    free(v.query), free(v.key), free(v.bias), free(p);
    return sums;
}

static void usage_is_the_sum_of_the_weights(void **state)
{
    (void)state;
    for (size_t i = 0; i < attention_case_count; i++) {
        const attention_case *c = &attention_cases[i];
        used u = {c, draw_values(case_query_count(c), 1), draw_values(case_key_count(c), 2),
                  draw_values(case_bias_count(c), 3), c->keys / 4, c->keys - c->keys / 4 - c->keys / 3};
        float *found = compute(use, &u);
        double *expected = sum_weights(&u);
        for (size_t j = 0; j < c->batch * u.count; j++) {
            double value = expected[j / u.count * c->keys + u.first + j % u.count];
            if (!(fabs((double)found[j] - value) <= 1e-5 * (1 + value)))
                fail_msg("%s: usage %zu is %g, expected %g", c->name, j, (double)found[j], value);
        }
        free(found), free(expected), free(u.query), free(u.key), free(u.bias);
    }
}

/* ---- reconstruction ---------------------------------------------------------------------------------------- */

static const char compressing_model[] =
    "{\"num_tokens\": 17, \"dim\": 16, \"depth\": 2, \"heads\": 2, \"dim_head\": 8, \"block_width\": 8,"
    " \"max_seq_len\": 8, \"use_compressed_mem\": true}";

static double mean_reconstruction(brt_trainer *trainer, const brt_model *model, size_t first, size_t count)
{
    double sum = 0;
    for (size_t i = first; i < first + count; i++) {
        batch b = make_batch(model, 2, 24, i);
        run_segment(trainer, &b);
        assert_ok(brt_trainer_update(trainer, 3e-3f, NULL));
        sum += brt_trainer_reconstruction_loss(trainer);
        close_batch(&b);
    }
    return sum / (double)count;
}

/* On tokens without a pattern: what else there is to learn changes little. */
static void training_reconstructs_better(void **state)
{
    brt_model *model = make_model(compressing_model);
    brt_trainer_options options = plain_options(2);
    (void)state;
    options.reconstruction_weight = 1;
    brt_trainer *trainer = open_trainer(model, &options);
    double before = mean_reconstruction(trainer, model, 0, 10), after;
    mean_reconstruction(trainer, model, 10, 150);
    after = mean_reconstruction(trainer, model, 160, 10);
    if (!(after < 0.5 * before && after > 0))
        fail_msg("the reconstruction loss was %g at first and is %g after 160 steps", before, after);
    brt_trainer_close(trainer);
    brt_model_close(model);
}

static void nothing_to_reconstruct_is_refused(void **state)
{
    static const char *const changes[][2] = {
        {"use_compressed_mem", "false"}, {"compression", "mean"}, {"compressed_mem_factor", "1"}};
    brt_trainer_options options = plain_options(2);
    (void)state;
    options.reconstruction_weight = 1;
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        brt_config *config = make_config(compressing_model);
        brt_model *model;
        brt_trainer *trainer;
        assert_ok(brt_config_set(config, changes[i][0], changes[i][1]));
        assert_ok(brt_model_create(&model, config, 1));
        assert_int_equal(brt_trainer_open(&trainer, model, &options), BRT_ERROR_ARGUMENT);
        assert_non_null(strstr(brt_last_error(), "reconstruction_weight"));
        brt_config_close(config);
        brt_model_close(model);
    }
}

/* ---- length ------------------------------------------------------------------------------------------------ */

static void memories_have_the_length_of_the_reference(void **state)
{
    enum { blocks = 6 };
    static const struct {
        size_t width, factor, length[blocks];
    } cases[] = {
        {8, 4, {8, 10, 12, 12, 12, 12}}, {8, 3, {8, 10, 12, 12, 12, 12}}, {8, 1, {8, 12, 12, 12, 12, 12}},
        {8, 8, {8, 9, 10, 11, 12, 12}},  {5, 2, {5, 7, 7, 7, 7, 7}},      {2, 2, {2, 3, 3, 3, 3, 3}},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char json[256];
        snprintf(json, sizeof json,
                 "{\"num_tokens\": 5, \"dim\": 8, \"depth\": 2, \"heads\": 2, \"dim_head\": 4, \"block_width\": %zu,"
                 " \"max_seq_len\": %zu, \"use_compressed_mem\": true, \"compressed_mem_factor\": %zu}",
                 cases[i].width, cases[i].width, cases[i].factor);
        brt_model *model = make_model(json);
        brt_stream *stream;
        brt_stream_options options = brt_stream_options_init();
        assert_ok(brt_stream_open(&stream, model, &options));
        for (size_t j = 0; j < blocks; j++) {
            static const int32_t tokens[8] = {1, 2, 3, 4, 0, 2, 4, 1};
            assert_ok(brt_stream_feed(stream, tokens, cases[i].width, NULL));
            assert_int_equal(brt_stream_memory_length(stream), cases[i].length[j]);
        }
        brt_stream_close(stream);
        brt_model_close(model);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(entries_are_their_formula),
        cmocka_unit_test(usage_is_the_sum_of_the_weights),
        cmocka_unit_test(training_reconstructs_better),
        cmocka_unit_test(nothing_to_reconstruct_is_refused),
        cmocka_unit_test(memories_have_the_length_of_the_reference),
    };
    return cmocka_run_group_tests(tests, enter_scratch, leave_scratch);
}
