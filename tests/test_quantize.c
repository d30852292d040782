/* Weights in fewer bits: what they compute, how they are kept in files, and what is refused. */
#define _GNU_SOURCE
#include "feeding.h"

#include "ckpt/safetensors.h"
#include "model/model.h"

static const char *const dtypes[] = {"bf16", "int8"};

/* Relative to the largest weight of a row: half a step of 7 bits, and of 127 steps. */
static const double steps[] = {1.0 / 256, 0.5 / 127};

static brt_model *quantize(const brt_model *model, const char *dtype)
{
    brt_model *quantized;
    assert_ok(brt_model_quantize(&quantized, model, dtype));
    return quantized;
}

/* ---- numbers ------------------------------------------------------------------------------------------- */

static double largest(const float *x, size_t count)
{
    double most = 0;
    for (size_t i = 0; i < count; i++)
        most = fmax(most, fabs((double)x[i]));
    return most;
}

/* Every weight of a matrix is within half a step of what it was; everything else is what it was. */
static void weights_are_rounded_to_the_nearest(void **state)
{
    (void)state;
    for (size_t d = 0; d < 2; d++) {
        brt_model *model = load_golden("odd_sizes"), *quantized = quantize(model, dtypes[d]);
        brt_model *widened = quantize(quantized, "f32");
        for (size_t i = 0; i < brt_model_parameter_count(model); i++) {
            brt_parameter_info before, held, after;
            assert_ok(brt_model_parameter(model, i, &before));
            assert_ok(brt_model_parameter(quantized, i, &held));
            assert_ok(brt_model_parameter(widened, i, &after));
            bool rounded = strcmp(held.dtype, "F32") != 0;
            size_t row = rounded ? before.shape[1] : before.count;
            assert_true(rounded == (held.data == NULL));
            for (size_t at = 0; at < before.count; at += row)
                if (difference(before.data + at, after.data + at, row) >
                    (rounded ? steps[d] * largest(before.data + at, row) * (1 + 1e-6) : 0))
                    fail_msg("%s: %s is off by %g", dtypes[d], before.name,
                             difference(before.data + at, after.data + at, row));
        }
        brt_model_close(widened);
        brt_model_close(quantized);
        brt_model_close(model);
    }
}

/* Rows of a product with a quantized weight: alone, a few, or so many that panels are widened first. */
static void a_row_does_not_depend_on_how_many_there_are(void **state)
{
    (void)state;
    enum { out = 150, in = 300, rows = 140 };
    static float weights[in], room[in], x[rows * in], together[rows * out], alone[out], more[20 * out];
    const brt_kernels *kernels;
    assert_ok(brt_kernels_select(&kernels));
    for (size_t i = 0; i < rows * in; i++)
        x[i] = (float)brt_rng_normal(1, 1, i);
    for (brt_precision precision = BRT_BF16; precision <= BRT_INT8; precision++) {
        brt_quantized q;
        assert_ok(brt_quantized_create(&q, precision, out, in, BRT_PANEL));
        for (size_t row = 0; row < out; row++) {
            for (size_t i = 0; i < in; i++)
                weights[i] = (float)brt_rng_normal(2, row, i);
            assert_true(brt_quantized_round_row(&q, kernels, row, weights, room));
        }
        brt_quantized_forward(&q, kernels, 2, rows, x, together, false);
        brt_quantized_forward(&q, kernels, 2, 20, x, more, false);
        assert_memory_equal(more, together, sizeof more);
        for (size_t row = 0; row < rows; row++) {
            brt_quantized_forward(&q, kernels, 1, 1, x + row * in, alone, false);
            assert_memory_equal(alone, together + row * out, sizeof alone);
        }
        brt_quantized_close(&q);
    }
}

/* ---- models -------------------------------------------------------------------------------------------- */

/* A quantized model computes what one computes that holds its weights as floats. */
static void logits_are_those_of_the_rounded_weights(void **state)
{
    (void)state;
    static const char *const models[] = {"two_recurrent", "odd_sizes", "all_qk_rmsnorm", NULL};
    for (size_t m = 0; m < sizeof models / sizeof models[0]; m++)
        for (size_t d = 0; d < 2; d++) {
            input in = make_input(models[m] ? load_golden(models[m]) : make_model(medium_model), 2, 3);
            input quantized = in, widened = in;
            size_t count = in.rows * in.time * in.classes;
            quantized.model = quantize(in.model, dtypes[d]);
            widened.model = quantize(quantized.model, "f32");
            float *expected = feed_at_once(&widened), *found = feed_at_once(&quantized);
            float *singly = feed_in_parts(&quantized, 1);
            if (difference(found, expected, count) > 2e-5 || difference(singly, expected, count) > 2e-5)
                fail_msg("%s in %s differs by %g, token by token by %g", models[m] ? models[m] : "medium", dtypes[d],
                         difference(found, expected, count), difference(singly, expected, count));
            free(expected);
            free(found);
            free(singly);
            brt_model_close(quantized.model);
            brt_model_close(widened.model);
            close_input(&in);
        }
}

static size_t weight_bytes(const brt_model *model)
{
    brt_model_costs costs;
    assert_ok(brt_model_measure(model, config_of(model, "max_seq_len"), config_of(model, "max_seq_len"), &costs));
    return costs.parameter_bytes;
}

/* Nothing is kept in floats beside. */
static void memory_shrinks(void **state)
{
    (void)state;
    const char wide[] = "{\"num_tokens\": 256, \"dim\": 256, \"depth\": 2, \"block_width\": 16, \"max_seq_len\": 32}";
    size_t start = bytes_in_use();
    brt_model *model = make_model(wide);
    size_t floats = bytes_in_use() - start;
    brt_model *bf16 = quantize(model, "bf16");
    size_t halves = bytes_in_use() - start - floats;
    brt_model *int8 = quantize(model, "int8");
    size_t bytes = bytes_in_use() - start - floats - halves;
    assert_true(halves < weight_bytes(model) * 6 / 10 && weight_bytes(bf16) < weight_bytes(model) * 6 / 10);
    assert_true(bytes < weight_bytes(model) * 4 / 10 && weight_bytes(int8) < weight_bytes(model) * 4 / 10);
    brt_model_close(model);
    brt_model_close(bf16);
    brt_model_close(int8);
}

static void training_is_refused(void **state)
{
    (void)state;
    brt_trainer *trainer;
    brt_trainer_options options = brt_trainer_options_init();
    brt_model *model = load_golden("odd_sizes"), *quantized = quantize(model, "int8"), *again;
    uint64_t bytes;
    expect_failure(brt_trainer_open(&trainer, quantized, &options), BRT_ERROR_UNSUPPORTED, "is held in int8");
    expect_failure(brt_trainer_measure(quantized, &options, &bytes), BRT_ERROR_UNSUPPORTED, "would be lost");
    again = quantize(quantized, "f32");
    assert_ok(brt_trainer_open(&trainer, again, &options));
    brt_trainer_close(trainer);
    brt_model_close(again);
    brt_model_close(quantized);
    brt_model_close(model);
}

static void what_cannot_be_quantized_is_refused(void **state)
{
    (void)state;
    brt_model *model = load_golden("odd_sizes"), *quantized;
    brt_parameter_info info;
    expect_failure(brt_model_quantize(&quantized, model, "int4"), BRT_ERROR_ARGUMENT, "there is no dtype \"int4\"");
    assert_ok(brt_model_parameter(model, 2, &info));
    assert_string_equal(info.name, "layers.0.0.to_q.weight");
    *(float *)info.data = NAN;
    expect_failure(brt_model_quantize(&quantized, model, "int8"), BRT_ERROR_NUMERIC, "row 0 has a weight that is not");
    brt_model_close(model);
}

/* ---- files --------------------------------------------------------------------------------------------- */

static void a_saved_model_is_the_same_model(void **state)
{
    (void)state;
    /* In the files of the paper's arithmetic matrices are transposed. */
    static const char *const names[] = {"read_earlier_two_writers_one_reader", "paper/odd_lstm_dual"};
    for (size_t i = 0; i < 4; i++) {
        const char *dtype = dtypes[i % 2];
        input in = make_input(load_golden(names[i / 2]), 1, 3), loaded = in;
        brt_model *model = in.model;
        in.model = quantize(model, dtype);
        assert_ok(brt_model_save(in.model, dtype));
        assert_ok(brt_model_load(&loaded.model, dtype));
        float *before = feed_at_once(&in), *after = feed_at_once(&loaded);
        assert_memory_equal(before, after, in.time * in.classes * sizeof *before);
        free(before);
        free(after);
        brt_model_close(loaded.model);
        brt_model_close(model);
        close_input(&in);
    }
}

/* A session goes on with the weights that made it: the float model's are others. */
static void a_session_is_the_quantized_models_own(void **state)
{
    (void)state;
    brt_model *model = load_golden("odd_sizes"), *quantized = quantize(model, "int8"), *same = quantize(model, "int8");
    brt_stream *stream = open_stream(quantized, 1), *next = open_stream(same, 1), *other = open_stream(model, 1);
    assert_ok(brt_stream_feed(stream, (const int32_t[]){1, 2, 3}, 3, NULL));
    assert_ok(brt_stream_save(stream, "session", NULL));
    assert_ok(brt_stream_load(next, "session", NULL));
    expect_failure(brt_stream_load(other, "session", NULL), BRT_ERROR_MISMATCH, "of another model");
    brt_stream_close(stream);
    brt_stream_close(next);
    brt_stream_close(other);
    brt_model_close(model);
    brt_model_close(quantized);
    brt_model_close(same);
}

/* ---- hostile files ------------------------------------------------------------------------------------- */

/* How a file differs from one that was saved. */
typedef struct change {
    const char *leave_out; /* a tensor, or NULL */
    const char *name;      /* a tensor that is replaced, or added */
    const char *dtype;
    size_t dims, shape[2];
    const void *data;
    brt_status status;
    const char *sentence;
} change;

static const float nothing[4096];
static const float bad_scales[4096] = {1, 1, -1};
static const float no_numbers[4096] = {1, NAN};

static void write_changed(const brt_safetensors *file, const change *c)
{
    enum { most = 256 };
    brt_tensor_source sources[most];
    size_t count = 0;
    assert_true(brt_safetensors_count(file) < most);
    for (size_t i = 0; i < brt_safetensors_count(file); i++) {
        brt_tensor_info info;
        brt_safetensors_at(file, i, &info);
        if ((c->leave_out && !strcmp(info.name, c->leave_out)) || (c->name && !strcmp(info.name, c->name)))
            continue;
        brt_tensor_source source = {.name = info.name, .dtype = info.dtype, .dims = info.dims, .data = info.data};
        memcpy(source.shape, info.shape, info.dims * sizeof info.shape[0]);
        sources[count++] = source;
    }
    if (c->name)
        sources[count++] = (brt_tensor_source){.name = c->name,
                                               .dtype = c->dtype,
                                               .dims = c->dims,
                                               .shape = {c->shape[0], c->shape[1]},
                                               .data = c->data};
    assert_ok(brt_safetensors_write("changed/model.safetensors", sources, count, NULL));
}

static void hostile_files_are_refused(void **state)
{
    (void)state;
    brt_model *model = make_model(medium_model), *quantized = quantize(model, "int8"), *loaded;
    brt_safetensors *file;
#define TO_Q "layers.0.0.to_q.weight"
    static const change changes[] = {
        {TO_Q "_scale", NULL, NULL, 0, {0}, NULL, BRT_ERROR_MISMATCH, "there is no \"" TO_Q "_scale\""},
        {NULL, TO_Q "_scale", "F32", 1, {63}, nothing, BRT_ERROR_MISMATCH, "must be F32 and have the shape [64]"},
        {NULL, TO_Q "_scale", "F32", 2, {64, 1}, nothing, BRT_ERROR_MISMATCH, "must be F32 and have the shape [64]"},
        {NULL, TO_Q "_scale", "F16", 1, {64}, nothing, BRT_ERROR_MISMATCH, "must be F32 and have the shape [64]"},
        {NULL, TO_Q "_scale", "F32", 1, {64}, bad_scales, BRT_ERROR_FORMAT, "has the scale -1 for output 2"},
        {NULL, TO_Q "_scale", "F32", 1, {64}, no_numbers, BRT_ERROR_FORMAT, "for output 1; it must be finite"},
        {NULL, TO_Q, "I8", 2, {64, 63}, nothing, BRT_ERROR_MISMATCH, "has the shape [64, 63]"},
        {TO_Q "_scale", TO_Q, "I16", 2, {64, 64}, nothing, BRT_ERROR_MISMATCH, "holds I16, not real numbers"},
        {NULL, TO_Q, "F32", 2, {64, 64}, nothing, BRT_ERROR_MISMATCH, "_scale\" is not a parameter"},
        {NULL, "to_logits.0.gamma", "I8", 1, {64}, nothing, BRT_ERROR_MISMATCH, "holds I8, not real numbers"},
        {NULL, "to_logits.0.gamma_scale", "F32", 1, {64}, nothing, BRT_ERROR_MISMATCH, "is not a parameter"},
        {NULL, "_scale", "F32", 1, {64}, nothing, BRT_ERROR_MISMATCH, "\"_scale\" is not a parameter"},
    };
    assert_ok(brt_model_save(quantized, "plain"));
    assert_ok(brt_model_save(quantized, "changed"));
    assert_ok(brt_safetensors_open(&file, "plain/model.safetensors"));
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        write_changed(file, &changes[i]);
        expect_failure(brt_model_load(&loaded, "changed"), changes[i].status, changes[i].sentence);
    }
    brt_safetensors_close(file);
    brt_model_close(quantized);
    brt_model_close(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weights_are_rounded_to_the_nearest),
        cmocka_unit_test(a_row_does_not_depend_on_how_many_there_are),
        cmocka_unit_test(logits_are_those_of_the_rounded_weights),
        cmocka_unit_test(memory_shrinks),
        cmocka_unit_test(training_is_refused),
        cmocka_unit_test(what_cannot_be_quantized_is_refused),
        cmocka_unit_test(a_saved_model_is_the_same_model),
        cmocka_unit_test(a_session_is_the_quantized_models_own),
        cmocka_unit_test(hostile_files_are_refused),
    };
    return cmocka_run_group_tests_name("quantize", tests, enter_scratch, leave_scratch);
}
