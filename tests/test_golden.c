/* Equality with the PyTorch reference on the fixtures of tests/golden (its README tells how they were made). */
#define _GNU_SOURCE
#include "fixture.h"

static const double value_tolerance = 2e-5, gradient_tolerance = 1e-4, loss_tolerance = 1e-5, rounding = 1e-7;

static const char *const cases[] = {
    "default_like",    "two_recurrent", "read_earlier_two_writers_one_reader",
    "recurrent_first_and_last",         "all_qk_rmsnorm",
    "states_not_block_width",           "one_head",
    "dim_head_32",     "dim_head_128",  "batch_3",
    "last_block_short", "five_calls",   "no_recurrence",
    "ignore_index",    "odd_sizes",     "early_dynamic_heads",     "compressed_memory",
    "compressed_memory_odd",            "enhanced_recurrence", "early_enhanced",
};

static void expect_close(const char *name, const char *tensor, const brt_tensors *expected, const float *values)
{
    brt_tensor_info info;
    assert_ok(brt_tensors_find(expected, tensor, &info));
    double difference = largest_difference(values, &info);
    if (difference > value_tolerance)
        fail_msg("%s: %s differs by %g", name, tensor, difference);
}

static size_t config_value(const brt_model *model, const char *key)
{
    return (size_t)brt_config_get(brt_model_config(model), key);
}

typedef brt_status get_values(const void *handle, size_t index, float *out);

/* Compares "PREFIX.K.0", "PREFIX.K.1", ... with what `get` tells, as far as the fixture has them. */
static void expect_carried(const char *name, const char *prefix, size_t call, const brt_tensors *expected,
                           get_values *get, const void *handle)
{
    char tensor[64];
    for (size_t i = 0;; i++) {
        brt_tensor_info info;
        snprintf(tensor, sizeof tensor, "%s.%zu.%zu", prefix, call, i);
        if (brt_tensors_find(expected, tensor, &info) != BRT_OK)
            return;
        float *values = malloc(info.count * sizeof *values);
        assert_ok(get(handle, i, values));
        expect_close(name, tensor, expected, values);
        free(values);
    }
}

static brt_status stream_memories(const void *handle, size_t index, float *out)
{
    return brt_stream_memories(handle, index, out);
}

static brt_status stream_states(const void *handle, size_t index, float *out)
{
    return brt_stream_states(handle, index, out);
}

static brt_status trainer_memories(const void *handle, size_t index, float *out)
{
    return brt_trainer_memories(handle, index, out);
}

static brt_status trainer_states(const void *handle, size_t index, float *out)
{
    return brt_trainer_states(handle, index, out);
}

/* ---- chained calls of a stream ------------------------------------------------------------------------- */

static void check_forward(const char *name)
{
    brt_model *model;
    assert_ok(brt_model_load(&model, fixture_path(name, "")));
    brt_tensors *inputs = open_tensors(name, "tokens_forward.safetensors");
    brt_tensors *expected = open_tensors(name, "forward.safetensors");
    brt_stream *stream = NULL;
    char tensor[64];
    for (size_t call = 0;; call++) {
        size_t rows, time;
        snprintf(tensor, sizeof tensor, "tokens.%zu", call);
        int32_t *tokens = read_tokens(inputs, tensor, &rows, &time);
        if (!tokens)
            break;
        brt_stream_options options = brt_stream_options_init();
        options.rows = rows;
        if (!stream)
            assert_ok(brt_stream_open(&stream, model, &options));
        float *logits = malloc(rows * time * config_value(model, "num_tokens") * sizeof *logits);
        assert_ok(brt_stream_feed(stream, tokens, time, logits));
        snprintf(tensor, sizeof tensor, "logits.%zu", call);
        expect_close(name, tensor, expected, logits);
        brt_stream_drop_partial_block(stream);
        expect_carried(name, "memories", call, expected, stream_memories, stream);
        expect_carried(name, "states", call, expected, stream_states, stream);
        free(tokens);
        free(logits);
    }
    assert_non_null(stream);
    brt_stream_close(stream);
    brt_tensors_close(inputs);
    brt_tensors_close(expected);
    brt_model_close(model);
}

static void forward_equals_the_reference(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        check_forward(cases[i]);
}

/* ---- losses and gradients of chained calls -------------------------------------------------------------- */

/* A call's tokens [rows, time + 1] as inputs and targets [rows, time]. */
static void split_targets(const int32_t *tokens, size_t rows, size_t time, int32_t *inputs, int32_t *targets)
{
    for (size_t row = 0; row < rows; row++) {
        memcpy(inputs + row * time, tokens + row * (time + 1), time * sizeof *inputs);
        memcpy(targets + row * time, tokens + row * (time + 1) + 1, time * sizeof *targets);
    }
}

static void check_call(const char *name, brt_trainer *trainer, const brt_model *model, const brt_tensors *expected,
                       size_t call, const int32_t *tokens, size_t rows, size_t time)
{
    char tensor[64];
    int32_t *inputs = malloc(rows * time * sizeof *inputs), *targets = malloc(rows * time * sizeof *targets);
    float *logits = malloc(rows * time * config_value(model, "num_tokens") * sizeof *logits);
    split_targets(tokens, rows, time, inputs, targets);
    brt_segment segment = {.time = time, .tokens = inputs, .targets = targets, .weight = 1, .logits = logits};
    double loss;
    assert_ok(brt_trainer_segment(trainer, &segment, &loss, NULL));
    float found = (float)loss;
    brt_tensor_info info;
    snprintf(tensor, sizeof tensor, "loss.%zu", call);
    assert_ok(brt_tensors_find(expected, tensor, &info));
    assert_true(largest_difference(&found, &info) < loss_tolerance);
    snprintf(tensor, sizeof tensor, "logits.%zu", call);
    expect_close(name, tensor, expected, logits);
    expect_carried(name, "memories", call, expected, trainer_memories, trainer);
    expect_carried(name, "states", call, expected, trainer_states, trainer);
    free(inputs);
    free(targets);
    free(logits);
}

static void expect_gradients(const char *name, const brt_trainer *trainer, const brt_model *model,
                             const brt_tensors *expected)
{
    for (size_t i = 0; i < brt_model_parameter_count(model); i++) {
        brt_parameter_info parameter;
        brt_tensor_info info;
        char tensor[128];
        assert_ok(brt_model_parameter(model, i, &parameter));
        snprintf(tensor, sizeof tensor, "grad.%s", parameter.name);
        assert_ok(brt_tensors_find(expected, tensor, &info));
        float *gradient = malloc(info.count * sizeof *gradient);
        assert_ok(brt_trainer_gradient(trainer, i, gradient));
        double difference = relative_difference(gradient, &info);
        /* What cancels, as a bias of all of a softmax's scores, leaves nothing but rounding to compare. */
        if (!(difference <= gradient_tolerance || largest_difference(gradient, &info) <= rounding))
            fail_msg("%s: %s differs by %g of its norm", name, tensor, difference);
        free(gradient);
    }
}

static brt_trainer *open_trainer(brt_model *model, size_t rows)
{
    brt_trainer_options options = brt_trainer_options_init();
    options.rows = rows;
    options.segment_blocks = config_value(model, "max_seq_len") / config_value(model, "block_width");
    options.xl_memories_dropout = options.state_dropout = 0;
    options.optimizer = "adam";
    options.weight_decay = 0;
    brt_trainer *trainer;
    assert_ok(brt_trainer_open(&trainer, model, &options));
    return trainer;
}

static void check_loss(const char *name)
{
    brt_model *model;
    assert_ok(brt_model_load(&model, fixture_path(name, "")));
    brt_tensors *inputs = open_tensors(name, "tokens.safetensors"), *expected = open_tensors(name, "loss.safetensors");
    brt_trainer *trainer = NULL;
    for (size_t call = 0;; call++) {
        size_t rows, time;
        char tensor[64];
        snprintf(tensor, sizeof tensor, "tokens.%zu", call);
        int32_t *tokens = read_tokens(inputs, tensor, &rows, &time);
        if (!tokens)
            break;
        if (!trainer)
            trainer = open_trainer(model, rows);
        check_call(name, trainer, model, expected, call, tokens, rows, time - 1);
        free(tokens);
    }
    assert_non_null(trainer);
    expect_gradients(name, trainer, model, expected);
    brt_trainer_close(trainer);
    brt_tensors_close(inputs);
    brt_tensors_close(expected);
    brt_model_close(model);
}

static void losses_and_gradients_equal_the_reference(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        check_loss(cases[i]);
}

/* ---- the reference's training loop ---------------------------------------------------------------------- */

enum { training_steps = 20, accumulation = 2, segments = 2 };
static const double training_tolerance = 1e-4;

/* One micro-batch of the trainer wrapper: a window of two segments, memories and states carried inside it. */
static double run_window(brt_trainer *trainer, const int32_t *tokens, size_t rows, size_t time)
{
    size_t part = (time - 1) / segments;
    int32_t *inputs = malloc(rows * time * sizeof *inputs), *targets = malloc(rows * time * sizeof *targets);
    double total = 0;
    brt_trainer_clear(trainer);
    for (size_t s = 0; s < segments; s++) {
        for (size_t row = 0; row < rows; row++) {
            memcpy(inputs + row * part, tokens + row * time + s * part, part * sizeof *inputs);
            memcpy(targets + row * part, tokens + row * time + s * part + 1, part * sizeof *targets);
        }
        brt_segment segment = {
            .time = part, .tokens = inputs, .targets = targets, .weight = 1.0f / (segments * accumulation)};
        double loss;
        assert_ok(brt_trainer_segment(trainer, &segment, &loss, NULL));
        total += loss / segments;
    }
    free(inputs);
    free(targets);
    return total;
}

static void expect_trained(const brt_tensors *expected, const char *tensor, size_t count, const float *values)
{
    brt_tensor_info info;
    assert_ok(brt_tensors_find(expected, tensor, &info));
    assert_int_equal(info.count, count);
    double difference = largest_difference(values, &info);
    if (difference > training_tolerance)
        fail_msg("%s of 20 steps differs by %g", tensor, difference);
}

static void training_reproduces_the_reference(void **state)
{
    (void)state;
    brt_model *model;
    assert_ok(brt_model_load(&model, fixture_path("training", "")));
    brt_tensors *inputs = open_tensors("training", "tokens.safetensors");
    brt_tensors *expected = open_tensors("training", "expected.safetensors");
    brt_trainer *trainer = open_trainer(model, 2);
    float losses[training_steps * accumulation], norms[training_steps];
    for (size_t step = 0; step < training_steps; step++) {
        for (size_t micro = 0; micro < accumulation; micro++) {
            char tensor[64];
            size_t rows, time;
            snprintf(tensor, sizeof tensor, "tokens.%zu.%zu", step, micro);
            int32_t *tokens = read_tokens(inputs, tensor, &rows, &time);
            losses[step * accumulation + micro] = (float)run_window(trainer, tokens, rows, time);
            free(tokens);
        }
        double norm;
        assert_ok(brt_trainer_update(trainer, 2e-3f, &norm));
        norms[step] = (float)norm;
    }
    expect_trained(expected, "loss", training_steps * accumulation, losses);
    expect_trained(expected, "grad_norm", training_steps, norms);
    for (size_t i = 0; i < brt_model_parameter_count(model); i++) {
        char tensor[128];
        brt_parameter_info parameter;
        assert_ok(brt_model_parameter(model, i, &parameter));
        snprintf(tensor, sizeof tensor, "final.%s", parameter.name);
        expect_trained(expected, tensor, parameter.count, parameter.data);
    }
    brt_trainer_close(trainer);
    brt_tensors_close(inputs);
    brt_tensors_close(expected);
    brt_model_close(model);
}

/* ---- the reference's files ------------------------------------------------------------------------------- */

static size_t data_bytes(const brt_tensor_info *info)
{
    assert_string_equal(info->dtype, "F32");
    return info->count * sizeof(float);
}

/* Tensor by tensor; `expected` may have a trainer's prefix. */
static void expect_same_tensors(const char *name, const brt_tensors *expected, const brt_tensors *saved)
{
    static const char prefix[] = "transformer.";
    if (brt_tensors_count(expected) != brt_tensors_count(saved))
        fail_msg("%s: %zu tensors, saved %zu", name, brt_tensors_count(expected), brt_tensors_count(saved));
    for (size_t i = 0; i < brt_tensors_count(expected); i++) {
        brt_tensor_info a, b;
        assert_ok(brt_tensors_at(expected, i, &a));
        assert_ok(brt_tensors_find(saved, a.name + (strncmp(a.name, prefix, strlen(prefix)) ? 0 : strlen(prefix)), &b));
        assert_int_equal(a.dims, b.dims);
        assert_memory_equal(a.shape, b.shape, a.dims * sizeof a.shape[0]);
        assert_memory_equal(a.data, b.data, data_bytes(&a));
    }
}

static void check_saved(const char *name)
{
    char directory[] = "/tmp/brt-golden-XXXXXX", path[64];
    assert_non_null(mkdtemp(directory));
    brt_model *model;
    assert_ok(brt_model_load(&model, fixture_path(name, "")));
    assert_ok(brt_model_save(model, directory));
    brt_model_close(model);
    snprintf(path, sizeof path, "%s/model.safetensors", directory);
    brt_tensors *saved, *expected = open_tensors(name, "model.safetensors");
    assert_ok(brt_tensors_open(&saved, path));
    expect_same_tensors(name, expected, saved);
    brt_tensors_close(expected);
    brt_tensors_close(saved);
    static const char *const files[] = {"config.json", "model.safetensors", ""};
    for (size_t i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%s", directory, files[i]);
        remove(path);
    }
}

/* Cases whose file is a whole state_dict() with its `beta` buffers: load_state_dict() of the package wants them all. */
static void a_saved_model_is_a_state_dict(void **state)
{
    static const char *const whole[] = {"default_like", "read_earlier_two_writers_one_reader", "all_qk_rmsnorm",
                                        "one_head", "compressed_memory"};
    (void)state;
    for (size_t i = 0; i < sizeof whole / sizeof whole[0]; i++)
        check_saved(whole[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forward_equals_the_reference),
        cmocka_unit_test(losses_and_gradients_equal_the_reference),
        cmocka_unit_test(training_reproduces_the_reference),
        cmocka_unit_test(a_saved_model_is_a_state_dict),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
