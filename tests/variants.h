/* Models with random choices of everything that can be chosen: what must hold for every model is tested on them. A new
 * argument is a line here. */
#ifndef BRT_TESTS_VARIANTS_H
#define BRT_TESTS_VARIANTS_H

#include "base/rng.h"
#include "base/status.h"

#include <brt/brt.h>

#include <stdio.h>

static const struct {
    const char *key, *values[6]; /* as JSON */
} variant_choices[] = {
    {"recurrent_layers", {"[2]", "[1, 2]", "[1]", "[]"}},
    {"read_recurrent_layers", {"null", "null", "[1]"}},
    {"all_layers_qk_rmsnorm", {"false", "true"}},
    {"recurrent_qk_rmsnorm", {"true", "true", "false"}},
    {"qk_logit_scale", {"0", "0", "0.9"}},
    {"state_gate_bias", {"0", "-3"}},
    {"state_cell", {"\"block_recurrent\"", "\"memformer\""}},
    {"residual_gates", {"false", "false", "true"}},
    {"num_state_vectors", {"3", "7", "1"}},
    {"heads", {"2", "4"}},
    {"kv_heads", {"1", "2", "4"}},
    {"ff_mult", {"2", "1.3"}},
    {"position_encoding", {"\"xpos\"", "\"rotary\"", "\"t5\"", "\"dynamic\"", "\"alibi\"", "\"none\""}},
    {"window", {"\"block\"", "\"exact\""}},
    {"use_compressed_mem", {"true", "false"}},
    {"compressed_mem_factor", {"2", "3", "4", "8", "1", "9"}},
    {"compression", {"\"convolution\"", "\"dilated\"", "\"mean\"", "\"max\"", "\"most_used\""}},
    {"routed_layers", {"[]", "[1]", "[2]", "[2, 1]"}},
    {"routed_capacity", {"16", "100", "9"}},
    {"routed_dtype", {"\"bf16\"", "\"f32\"", "\"int8\""}},
    {"routes", {"2", "1", "4"}},
    {"routed_tokens", {"5", "3", "64"}},
    {"route_every", {"0", "4", "2", "8"}},
    {"random_routes", {"false", "false", "true"}},
};
enum { variant_choice_count = sizeof variant_choices / sizeof variant_choices[0] };

/* Two layers of 12 in blocks of 8. */
static const char *const variant_sizes[][2] = {
    {"num_tokens", "11"}, {"dim", "12"},        {"depth", "2"},
    {"dim_head", "4"},    {"block_width", "8"}, {"max_seq_len", "24"},
};
enum { variant_size_count = sizeof variant_sizes / sizeof variant_sizes[0] };

static inline const char *draw_choice(uint64_t seed, size_t choice)
{
    size_t count = 0;
    while (count < 6 && variant_choices[choice].values[count])
        count++;
    return variant_choices[choice].values[brt_rng_below(seed, 0, choice, count)];
}

/* Variant `seed`, described in `text`; false where the choices do not go together, and the model says so. Includers
 * have assert_ok. */
static inline bool make_variant(uint64_t seed, brt_model **model, char *text, size_t size)
{
    brt_config *config;
    assert_ok(brt_config_create(&config));
    for (size_t i = 0; i < variant_size_count; i++)
        assert_ok(brt_config_set(config, variant_sizes[i][0], variant_sizes[i][1]));
    size_t length = (size_t)snprintf(text, size, "variant %llu:", (unsigned long long)seed);
    for (size_t i = 0; i < variant_choice_count; i++) {
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
