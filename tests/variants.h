/* Models with random choices of everything that can be chosen: what must hold for every model is tested on them. A new
 * argument is a line here. */
#ifndef BRT_TESTS_VARIANTS_H
#define BRT_TESTS_VARIANTS_H

#include "base/rng.h"
#include "base/status.h"

#include <brt/brt.h>

#include <stdio.h>
#include <string.h>

/* Those of one arithmetic; NULL: of both. */
static const struct {
    const char *arithmetic, *key, *values[9]; /* as JSON */
} variant_choices[] = {
    {NULL, "recurrent_layers", {"[2]", "[1, 2]", "[1]", "[]"}},
    {NULL, "num_state_vectors", {"3", "7", "1"}},
    {NULL, "heads", {"2", "4"}},
    {NULL, "kv_heads", {"1", "2", "4"}},
    {NULL, "ff_mult", {"2", "1.3"}},
    {"reference", "read_recurrent_layers", {"null", "null", "[1]"}},
    {"reference", "all_layers_qk_rmsnorm", {"false", "true"}},
    {"reference", "recurrent_qk_rmsnorm", {"true", "true", "false"}},
    {"reference", "qk_logit_scale", {"0", "0", "0.9"}},
    {"reference", "state_gate_bias", {"0", "-3"}},
    {"reference", "state_cell", {"block_recurrent", "memformer"}},
    {"reference", "residual_gates", {"false", "false", "true"}},
    {"reference", "position_encoding", {"xpos", "rotary", "t5", "dynamic", "alibi", "none"}},
    {"reference", "window", {"block", "block", "exact", "previous"}},
    {"reference", "enhanced_recurrence", {"false", "true"}},
    {"reference", "use_compressed_mem", {"true", "false"}},
    {"reference", "compressed_mem_factor", {"2", "3", "4", "8", "1", "9"}},
    {"reference", "compression", {"convolution", "dilated", "mean", "max", "most_used"}},
    {NULL, "routed_layers", {"[]", "[1]", "[2]", "[2, 1]"}},
    {NULL, "routed_capacity", {"16", "100", "9"}},
    {NULL, "routed_dtype", {"bf16", "f32", "int8"}},
    {NULL, "routes", {"2", "1", "4"}},
    {NULL, "routed_tokens", {"5", "3", "64"}},
    {NULL, "route_every", {"0", "4", "2", "8"}},
    {NULL, "random_routes", {"false", "false", "true"}},
    {"reference", "conditional_ff_layers", {"[]", "[1]", "[2]", "[2, 1]"}},
    {"reference", "conditional_ff_tokens", {"3", "1", "8"}},
    {"reference", "light_ff_mult", {"0.5", "1"}},
    {"paper", "position_encoding", {"t5", "rotary", "absolute", "alibi", "fourier", "nn", "orthogonal", "none"}},
    {"paper", "window", {"previous", "previous", "exact", "block"}},
    {"paper", "state_gate", {"fixed", "lstm", "full", "residual"}},
    {"paper", "state_update", {"skip", "dual", "single"}},
    {"paper", "feedback", {"false", "true"}},
    {"paper", "cosine_attention", {"true", "true", "false"}},
    {"paper", "attention_scale", {"signed", "absolute"}},
    {"paper", "logit_divisor", {"vocabulary", "dim"}},
};
enum { variant_choice_count = sizeof variant_choices / sizeof variant_choices[0] };

/* Two layers of 12 in blocks of 8. */
static const char *const variant_sizes[][2] = {
    {"num_tokens", "11"}, {"dim", "12"},        {"depth", "2"},
    {"dim_head", "4"},    {"block_width", "8"}, {"max_seq_len", "24"},
    {"ignore_index", "-100"},
};
enum { variant_size_count = sizeof variant_sizes / sizeof variant_sizes[0] };

static inline const char *draw_choice(uint64_t seed, size_t choice)
{
    size_t count = 0;
    while (variant_choices[choice].values[count])
        count++;
    return variant_choices[choice].values[brt_rng_below(seed, 0, choice, count)];
}

static const char *const variant_arithmetics[] = {"reference", "paper"};
enum { variant_arithmetic_count = sizeof variant_arithmetics / sizeof variant_arithmetics[0] };

/* Variant `seed` of an arithmetic, described in `text`; false where the choices do not go together, and the model says
 * so. Includers have assert_ok. */
static inline bool make_variant(const char *arithmetic, uint64_t seed, brt_model **model, char *text, size_t size)
{
    brt_config *config;
    assert_ok(brt_config_create(&config));
    for (size_t i = 0; i < variant_size_count; i++)
        assert_ok(brt_config_set(config, variant_sizes[i][0], variant_sizes[i][1]));
    size_t length = (size_t)snprintf(text, size, "variant %llu, %s:", (unsigned long long)seed, arithmetic);
    assert_ok(brt_config_set(config, "arithmetic", arithmetic));
    for (size_t i = 0; i < variant_choice_count; i++) {
        if (variant_choices[i].arithmetic && strcmp(variant_choices[i].arithmetic, arithmetic) != 0)
            continue;
        const char *key = variant_choices[i].key, *value = draw_choice(seed, i);
        assert_ok(brt_config_set(config, key, value));
        if (length < size)
            length += (size_t)snprintf(text + length, size - length, " %s=%s", key, value);
    }
    brt_status status = brt_model_create(model, config, seed);
    brt_config_close(config);
    if (status == BRT_ERROR_CONFIG || status == BRT_ERROR_UNSUPPORTED)
        return false;
    assert_ok(status);
    return true;
}

#endif
