/* Adafactor and the learning rates of the original against values that its code gave (tests/golden/paper). */
#define _GNU_SOURCE
#include "fixture.h"

#include "train/optimizer.h"
#include "train/schedule.h"

/* ---- Adafactor alone: a matrix that is factored beside what is not ------------------------------------------ */

enum { parameter_count = 3, steps = 5 };
static const char *const names[parameter_count] = {"matrix", "vector", "small"};

/* Parameters without a model, in memory of their own. */
static brt_parameters make_parameters(const size_t shapes[parameter_count][2])
{
    brt_parameters parameters = {.count = parameter_count};
    parameters.items = calloc(parameter_count, sizeof *parameters.items);
    for (size_t i = 0; i < parameter_count; i++) {
        brt_tensor *w = &parameters.items[i].tensor;
        *w = (brt_tensor){.dims = shapes[i][1] ? 2 : 1, .shape = {shapes[i][0], shapes[i][1]}};
        w->count = shapes[i][0] * (shapes[i][1] ? shapes[i][1] : 1);
        parameters.total += (w->count + 15) / 16 * 16;
    }
    parameters.memory = calloc(parameters.total, sizeof *parameters.memory);
    real *at = parameters.memory;
    for (size_t i = 0; i < parameter_count; i++) {
        parameters.items[i].tensor.data = at;
        at += (parameters.items[i].tensor.count + 15) / 16 * 16;
    }
    return parameters;
}

static void free_parameters(brt_parameters *parameters)
{
    free(parameters->items);
    free(parameters->memory);
}

static brt_optimizer open_optimizer(brt_parameters *parameters, int threads)
{
    const brt_kernels *kernels;
    brt_optimizer optimizer;
    assert_ok(brt_kernels_select(&kernels));
    assert_ok(brt_optimizer_create(&optimizer, &brt_adafactor, kernels, parameters, threads));
    optimizer.beta1 = 0.9f;
    return optimizer;
}

static void read_values(const brt_tensors *file, const char *prefix, const char *name, real *to)
{
    brt_tensor_info info;
    char tensor[64];
    snprintf(tensor, sizeof tensor, "%s.%s", prefix, name);
    assert_ok(brt_tensors_find(file, tensor, &info));
    memcpy(to, info.data, info.count * sizeof *to);
}

static void expect_weights(const brt_tensors *file, size_t step, const brt_parameter *parameter, const char *name)
{
    brt_tensor_info info;
    char tensor[64];
    snprintf(tensor, sizeof tensor, "after.%zu.%s", step, name);
    if (brt_tensors_find(file, tensor, &info) != BRT_OK)
        return;
    double difference = relative_difference(parameter->tensor.data, &info);
    if (!(difference <= 1e-6))
        fail_msg("%s differs by %g of its norm", tensor, difference);
}

static void updates_equal_the_original(void **state)
{
    (void)state;
    brt_parameters parameters = make_parameters((const size_t[][2]){{160, 132}, {130}, {24, 40}});
    brt_tensors *file = open_tensors("paper", "adafactor_factored.safetensors");
    brt_optimizer optimizer = open_optimizer(&parameters, 2);
    for (size_t i = 0; i < parameter_count; i++)
        read_values(file, "param", names[i], parameters.items[i].tensor.data);
    for (size_t step = 0; step < steps; step++) {
        char prefix[16];
        snprintf(prefix, sizeof prefix, "grad.%zu", step);
        for (size_t i = 0; i < parameter_count; i++)
            read_values(file, prefix, names[i], parameters.items[i].tensor.gradient);
        brt_optimizer_update(&optimizer, (float)(0.01 / sqrt(1 + (double)step)), brt_optimizer_norm(&optimizer));
        for (size_t i = 0; i < parameter_count; i++)
            expect_weights(file, step, &parameters.items[i], names[i]);
    }
    brt_optimizer_close(&optimizer);
    brt_tensors_close(file);
    free_parameters(&parameters);
}

/* Quick, and with no pattern that the sums could cancel. */
static float draw(size_t step, size_t parameter, size_t index)
{
    uint32_t bits = (uint32_t)((step * 3 + parameter) * 40503 + index) * UINT32_C(2654435761);
    return (float)(bits >> 8) / 0x1p23f - 1;
}

/* Three updates of odd matrices. */
static brt_parameters update_with(int threads, float clip)
{
    brt_parameters parameters = make_parameters((const size_t[][2]){{390, 141}, {128, 40001}, {70001}});
    brt_optimizer optimizer = open_optimizer(&parameters, threads);
    optimizer.clip = clip;
    for (size_t step = 0; step < 3; step++) {
        for (size_t i = 0; i < parameter_count; i++)
            for (size_t j = 0; j < parameters.items[i].tensor.count; j++)
                parameters.items[i].tensor.gradient[j] = draw(step, i, j);
        brt_optimizer_update(&optimizer, 0.1f, brt_optimizer_norm(&optimizer));
        for (size_t i = 0; i < parameters.total; i++)
            assert_true(optimizer.gradient[i] == 0);
    }
    brt_optimizer_close(&optimizer);
    return parameters;
}

static void threads_change_nothing(void **state)
{
    (void)state;
    brt_parameters one = update_with(1, 0), three = update_with(3, 0);
    assert_memory_equal(one.memory, three.memory, one.total * sizeof *one.memory);
    free_parameters(&one);
    free_parameters(&three);
}

/* The second moments take a constant factor of all gradients out again. */
static void clipping_changes_next_to_nothing(void **state)
{
    (void)state;
    brt_parameters free_ones = update_with(2, 0), clipped = update_with(2, 1e-3f);
    for (size_t i = 0; i < free_ones.total; i++)
        assert_true(fabsf(free_ones.memory[i] - clipped.memory[i]) <= 1e-4f * (1e-3f + fabsf(free_ones.memory[i])));
    free_parameters(&free_ones);
    free_parameters(&clipped);
}

/* ---- the original's schedules, of 100,000 steps -------------------------------------------------------------- */

enum { rate_count = 16 };
static const uint64_t rate_steps[rate_count] = {0,    1,     10,    99,    100,    500,    999,    1000,
                                                1001, 2000, 10000, 50000, 99999, 100000, 150000, 200000};
static const struct {
    const char *name;
    float factor;
    uint64_t warmup;
    double rates[rate_count];
} schedules[] = {
    {"rsqrt_decay_std", 1, 1000,
     {0, 3.1622782e-05, 0.00031622779, 0.003130655, 0.0031622779, 0.015811389,
      0.031591155, 0.031622779, 0.031606976, 0.022360681, 0.0099999998, 0.004472136,
      0.0031622935, 0.0031622779, 0.0025819889, 0.002236068}},
    {"rsqrt_decay", 1, 1000,
     {0, 1.0000002e-05, 0.0001, 0.00099000009, 0.001, 0.0050000004,
      0.0099900011, 0.010000001, 0.0099950042, 0.0070710685, 0.0031622779, 0.0014142137,
      0.0010000051, 0.001, 0.00081649661, 0.00070710684}},
    {"cosine_decay", 1, 1000,
     {0, 9.9977788e-06, 9.9977784e-05, 0.00098978006, 0.00099977793, 0.0049988893,
      0.0099877808, 0.0099977786, 0.0099977748, 0.0099911196, 0.0097797541, 0.0054999995,
      0.001, 0.001, 0.00070710678, 0.00050000002}},
    {"cosine_decay_spike", 1, 1000,
     {0, 3.6000001e-05, 0.00035999998, 0.0035639999, 0.0035999999, 0.017999999,
      0.035963997, 0.035999998, 0.035996001, 0.032000002, 0.0097797541, 0.0054999995,
      0.001, 0.001, 0.00070710678, 0.00050000002}},
    {"linear_decay", 1, 1000,
     {0, 9.9099998e-06, 9.9099991e-05, 0.00098109001, 0.00099099998, 0.0049549998,
      0.0099000894, 0.0099099996, 0.0099099101, 0.0098200003, 0.0090999994, 0.0055,
      0.00100009, 0.001, 0.00070710678, 0.00050000002}},
    {"rsqrt_decay_std", 0.5f, 50,
     {0, 0.001, 0.010000001, 0.050000001, 0.050000001, 0.022360681,
      0.0158193, 0.015811389, 0.015803488, 0.01118034, 0.0049999999, 0.002236068,
      0.0015811467, 0.0015811389, 0.0012909945, 0.001118034}},
};

static void rates_equal_the_original(void **state)
{
    (void)state;
    for (size_t s = 0; s < sizeof schedules / sizeof schedules[0]; s++)
        for (size_t i = 0; i < rate_count; i++) {
            brt_schedule schedule = {.peak = schedules[s].factor, .warmup = schedules[s].warmup, .steps = 100000};
            assert_ok(brt_schedule_parse(schedules[s].name, &schedule.kind));
            double expected = schedules[s].rates[i];
            double found = (double)brt_schedule_rate(&schedule, rate_steps[i], (double)rate_steps[i] / 1e5);
            if (!(fabs(found - expected) <= 1e-6 * expected))
                fail_msg("%s at step %llu: %.9g, expected %.9g", schedules[s].name,
                         (unsigned long long)rate_steps[i], found, expected);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(updates_equal_the_original),
        cmocka_unit_test(threads_change_nothing),
        cmocka_unit_test(clipping_changes_next_to_nothing),
        cmocka_unit_test(rates_equal_the_original),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
