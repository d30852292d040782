/* Models, tokens and files for the tests of what works with a model. */
#ifndef BRT_TESTS_MODELS_H
#define BRT_TESTS_MODELS_H

#include "scratch.h"

#include "base/json.h"
#include "base/rng.h"
#include "model/config.h"

#include <malloc.h>

/* ---- models -------------------------------------------------------------------------------------------- */

static inline json_t *parse_json(const char *text)
{
    json_t *object;
    assert_ok(brt_json_parse(&object, text, strlen(text), "the test"));
    return object;
}

static inline brt_config *make_config(const char *json)
{
    brt_config *config;
    json_t *object = parse_json(json);
    assert_ok(brt_config_create(&config));
    assert_ok(brt_config_from_json(config, object, "the test"));
    json_decref(object);
    return config;
}

static inline brt_model *make_model(const char *json)
{
    brt_model *model;
    brt_config *config = make_config(json);
    assert_ok(brt_model_create(&model, config, 1));
    brt_config_close(config);
    return model;
}

/* A model of tests/golden: its weights are far from the initial ones, so that little can go unseen. */
static inline brt_model *load_golden(const char *name)
{
    brt_model *model;
    assert_ok(brt_model_load(&model, fixture_path(name, "")));
    return model;
}

static inline size_t config_of(const brt_model *model, const char *key)
{
    return (size_t)brt_config_get(brt_model_config(model), key);
}

/* Of two trainers on models of one configuration, bit by bit. */
static inline void expect_same_gradients(const char *name, const brt_model *model, const brt_trainer *a,
                                         const brt_trainer *b)
{
    for (size_t i = 0; i < brt_model_parameter_count(model); i++) {
        brt_parameter_info parameter;
        assert_ok(brt_model_parameter(model, i, &parameter));
        float *left = malloc(parameter.count * sizeof *left), *right = malloc(parameter.count * sizeof *right);
        assert_ok(brt_trainer_gradient(a, i, left));
        assert_ok(brt_trainer_gradient(b, i, right));
        for (size_t j = 0; j < parameter.count; j++)
            if (left[j] != right[j])
                fail_msg("%s: gradient of %s[%zu] is %.9g and %.9g", name, parameter.name, j,
                         (double)left[j], (double)right[j]);
        free(left);
        free(right);
    }
}

static inline int32_t *draw_tokens(const brt_model *model, size_t count, uint64_t seed)
{
    int32_t *tokens = malloc(count * sizeof *tokens);
    for (size_t i = 0; i < count; i++)
        tokens[i] = (int32_t)brt_rng_below(seed, 0, i, config_of(model, "num_tokens"));
    return tokens;
}

/* What the allocator holds. */
static inline size_t bytes_in_use(void)
{
    struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
}

#endif
