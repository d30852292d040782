/* Which arguments go together, and what follows from them. */
#include "paper.h"

#include <math.h>

static void fill_defaults(brt_config *config)
{
    if (config->arithmetic == BRT_ARITHMETIC_PAPER)
        brt_paper_fill_defaults(config);
    else if (!brt_config_is_given(config, "recurrent_layers"))
        config->recurrent_layers = (brt_layer_list){1, {config->depth / 2}};
    if (!brt_config_is_given(config, "read_recurrent_layers"))
        config->read_recurrent_layers = config->recurrent_layers;
    if (!brt_config_is_given(config, "num_state_vectors"))
        config->num_state_vectors = config->block_width;
    if (!brt_config_is_given(config, "conditional_ff_tokens"))
        config->conditional_ff_tokens = (config->block_width + 15) / 16;
}

static brt_status check_required(const brt_config *config)
{
    const brt_config_key *key;
    for (size_t i = 0; (key = brt_config_key_at(i)) != NULL; i++)
        if (key->default_value[0] == '\0' && !brt_config_is_given(config, key->name))
            return BRT_FAIL(BRT_ERROR_CONFIG, "\"%s\" (%s) must be given", key->name, key->help);
    return BRT_OK;
}

/* Layers of the model, each once. */
static brt_status check_layer_list(const brt_config *config, const brt_layer_list *list, const char *name)
{
    for (size_t i = 0; i < list->count; i++) {
        if (list->layer[i] < 1 || list->layer[i] > config->depth)
            return BRT_FAIL(BRT_ERROR_CONFIG, "\"%s\" names layer %lld; layers range from 1 to depth (%lld)%s", name,
                            (long long)list->layer[i], (long long)config->depth,
                            brt_config_is_given(config, name) ? ""
                                                              : ": the default does not fit this depth, so give it");
        for (size_t j = 0; j < i; j++)
            if (list->layer[j] == list->layer[i])
                return BRT_FAIL(BRT_ERROR_CONFIG, "\"%s\" names layer %lld twice", name, (long long)list->layer[i]);
    }
    return BRT_OK;
}

static brt_status check_layers(const brt_config *config)
{
    const brt_layer_list *write = &config->recurrent_layers, *read = &config->read_recurrent_layers;
    if (write->count != read->count)
        return BRT_FAIL(BRT_ERROR_CONFIG,
                        "\"read_recurrent_layers\" has %zu entries and \"recurrent_layers\" %zu; each recurrent layer "
                        "needs one layer that reads it",
                        read->count, write->count);
    BRT_TRY(check_layer_list(config, write, "recurrent_layers"));
    for (size_t i = 0; i < write->count; i++)
        if (read->layer[i] < 1 || read->layer[i] > write->layer[i])
            return BRT_FAIL(BRT_ERROR_CONFIG,
                            "\"read_recurrent_layers\" names layer %lld for recurrent layer %lld; a state is read at a "
                            "layer from 1 up to the one that writes it",
                            (long long)read->layer[i], (long long)write->layer[i]);
    if (write->count && config->num_state_vectors < 1)
        return BRT_FAIL(BRT_ERROR_CONFIG, "\"num_state_vectors\" must be at least 1 with recurrent layers");
    return BRT_OK;
}

static double hidden_width(const brt_config *config)
{
    double width = (double)config->dim * config->ff_mult;
    return config->arithmetic == BRT_ARITHMETIC_PAPER ? round(width) : floor(width * 2 / 3);
}

/* The width of a feed-forward, `kind` ("light " or nothing), that the argument `name` gives. */
static brt_status check_width(const brt_config *config, const char *name, double mult, const char *kind, double width)
{
    if (width >= 1 && width <= INT32_MAX / 2)
        return BRT_OK;
    return BRT_FAIL(BRT_ERROR_CONFIG,
                    "\"%s\" (%g) times \"dim\" (%lld) gives a %sfeed-forward width of %g; it must lie between 1 and %d",
                    name, mult, (long long)config->dim, kind, width, INT32_MAX / 2);
}

static brt_status check_sizes(const brt_config *config)
{
    if (config->depth > BRT_MAX_DEPTH)
        return BRT_FAIL(BRT_ERROR_CONFIG, "\"depth\" is %lld; at most %d are supported", (long long)config->depth,
                        BRT_MAX_DEPTH);
    if (config->heads % config->kv_heads)
        return BRT_FAIL(BRT_ERROR_CONFIG, "\"kv_heads\" is %lld; it must divide \"heads\" (%lld)",
                        (long long)config->kv_heads, (long long)config->heads);
    if (config->position_encoding <= BRT_POSITION_ROTARY && config->dim_head % 2)
        return BRT_FAIL(BRT_ERROR_CONFIG, "\"dim_head\" is %lld; rotary positions need an even number",
                        (long long)config->dim_head);
    if (config->max_seq_len % config->block_width)
        return BRT_FAIL(BRT_ERROR_CONFIG, "\"max_seq_len\" (%lld) must be a multiple of \"block_width\" (%lld)",
                        (long long)config->max_seq_len, (long long)config->block_width);
    if (!(config->qk_logit_scale >= 0 && config->qk_logit_scale <= 1e6))
        return BRT_FAIL(BRT_ERROR_CONFIG, "\"qk_logit_scale\" is %g; it must lie between 0 and 1e6",
                        config->qk_logit_scale);
    if (!(fabs(config->state_gate_bias) <= 100))
        return BRT_FAIL(BRT_ERROR_CONFIG, "\"state_gate_bias\" is %g; it must lie between -100 and 100",
                        config->state_gate_bias);
    return check_width(config, "ff_mult", config->ff_mult, "", hidden_width(config));
}

static brt_status check_compression(const brt_config *config)
{
    if (config->window != BRT_WINDOW_BLOCK)
        return BRT_FAIL(BRT_ERROR_CONFIG,
                        "\"window\" is exact or previous: a token sees block_width keys, all of them in the block and "
                        "the one before, and never a compressed memory; use \"use_compressed_mem\" with the window "
                        "\"block\"");
    if (config->block_width < 2)
        return BRT_FAIL(BRT_ERROR_CONFIG,
                        "\"block_width\" is %lld; \"use_compressed_mem\" keeps block_width / 2 entries and needs at "
                        "least 2",
                        (long long)config->block_width);
    if (config->compressed_mem_factor > config->block_width)
        return BRT_FAIL(BRT_ERROR_CONFIG,
                        "\"compressed_mem_factor\" (%lld) is larger than \"block_width\" (%lld): a block would leave "
                        "no entry, and there would never be a compressed memory",
                        (long long)config->compressed_mem_factor, (long long)config->block_width);
    return BRT_OK;
}

static brt_status check_routes(const brt_config *config)
{
    const brt_layer_list *layers = &config->routed_layers;
    if (layers->count == 0)
        return BRT_OK;
    BRT_TRY(check_layer_list(config, layers, "routed_layers"));
    if (config->heads % config->routes || config->routes % config->kv_heads)
        return BRT_FAIL(BRT_ERROR_CONFIG,
                        "\"routes\" is %lld; it must divide \"heads\" (%lld) and be a multiple of \"kv_heads\" (%lld): "
                        "the heads of a route look at the keys of one key head",
                        (long long)config->routes, (long long)config->heads, (long long)config->kv_heads);
    if (config->route_every && config->block_width % config->route_every)
        return BRT_FAIL(BRT_ERROR_CONFIG, "\"route_every\" is %lld; it must divide \"block_width\" (%lld)",
                        (long long)config->route_every, (long long)config->block_width);
    return BRT_OK;
}

static double light_hidden_width(const brt_config *config)
{
    return floor((double)config->dim * config->light_ff_mult * 2 / 3);
}

static brt_status check_conditional(const brt_config *config)
{
    if (config->conditional_ff_layers.count == 0)
        return BRT_OK;
    BRT_TRY(check_layer_list(config, &config->conditional_ff_layers, "conditional_ff_layers"));
    if (config->conditional_ff_tokens > config->block_width)
        return BRT_FAIL(BRT_ERROR_CONFIG, "\"conditional_ff_tokens\" is %lld; a block has block_width (%lld) tokens",
                        (long long)config->conditional_ff_tokens, (long long)config->block_width);
    return check_width(config, "light_ff_mult", config->light_ff_mult, "light ", light_hidden_width(config));
}

/* What the paper has alone is left at its default. */
static brt_status check_reference(const brt_config *config)
{
    bool plain = config->state_gate == 0 && config->state_update == 0 && config->attention_scale == 0 &&
                 config->logit_divisor == 0 && config->alibi_bound == 0 && !config->feedback &&
                 config->cosine_attention && config->position_encoding < BRT_POSITION_ABSOLUTE;
    return plain ? BRT_OK
                 : BRT_FAIL(BRT_ERROR_CONFIG,
                            "\"arithmetic\" is \"reference\", which has no state_gate, state_update, feedback, "
                            "cosine_attention, attention_scale, logit_divisor, alibi_bound, and no positions absolute, "
                            "fourier, nn or orthogonal; \"paper\" has them");
}

brt_status brt_config_check(brt_config *config)
{
    BRT_TRY(check_required(config));
    fill_defaults(config);
    BRT_TRY(check_sizes(config));
    if (config->use_compressed_mem)
        BRT_TRY(check_compression(config));
    BRT_TRY(config->arithmetic == BRT_ARITHMETIC_PAPER ? brt_paper_check(config) : check_reference(config));
    BRT_TRY(check_layers(config));
    BRT_TRY(check_routes(config));
    return check_conditional(config);
}

/* ---- what follows ---------------------------------------------------------------------------------------- */

size_t brt_config_ff_inner(const brt_config *config)
{
    return (size_t)hidden_width(config);
}

size_t brt_config_light_ff_inner(const brt_config *config)
{
    return (size_t)light_hidden_width(config);
}

bool brt_config_normalises(const brt_config *config, size_t layer)
{
    size_t read;
    return config->all_layers_qk_rmsnorm ||
           (config->recurrent_qk_rmsnorm && brt_config_writes_state(config, layer, &read));
}

double brt_config_logit_scale(const brt_config *config, bool normalised)
{
    return normalised && config->qk_logit_scale > 0 ? config->qk_logit_scale : 1 / sqrt((double)config->dim_head);
}

bool brt_config_learns_compression(const brt_config *config)
{
    return config->use_compressed_mem && config->compressed_mem_factor > 1 &&
           (config->compression == BRT_COMPRESSION_CONVOLUTION || config->compression == BRT_COMPRESSION_DILATED);
}

static bool is_listed(const brt_layer_list *list, size_t layer)
{
    for (size_t i = 0; i < list->count; i++)
        if ((size_t)list->layer[i] == layer + 1)
            return true;
    return false;
}

size_t brt_config_rank(const brt_layer_list *list, size_t layer)
{
    size_t before = 0;
    for (size_t i = 0; i < list->count; i++)
        before += (size_t)list->layer[i] < layer + 1;
    return before;
}

bool brt_config_is_routed(const brt_config *config, size_t layer)
{
    return is_listed(&config->routed_layers, layer);
}

bool brt_config_is_conditional(const brt_config *config, size_t layer)
{
    return is_listed(&config->conditional_ff_layers, layer);
}

bool brt_config_writes_state(const brt_config *config, size_t layer, size_t *read)
{
    for (size_t i = 0; i < config->recurrent_layers.count; i++)
        if ((size_t)config->recurrent_layers.layer[i] == layer + 1) {
            *read = (size_t)config->read_recurrent_layers.layer[i] - 1;
            return true;
        }
    return false;
}
