#include "paper.h"

void brt_paper_fill_defaults(brt_config *config)
{
    if (!brt_config_is_given(config, "recurrent_layers")) /* the third from the top */
        config->recurrent_layers = (brt_layer_list){1, {config->depth - 2}};
    if (!brt_config_is_given(config, "kv_heads"))
        config->kv_heads = config->heads;
    if (!brt_config_is_given(config, "routes"))
        config->routes = config->kv_heads;
    if (!brt_config_is_given(config, "window"))
        config->window = BRT_WINDOW_PREVIOUS;
    if (!brt_config_is_given(config, "position_encoding"))
        config->position_encoding = BRT_POSITION_T5;
    if (!brt_config_is_given(config, "ignore_index")) /* what documents are padded with */
        config->ignore_index = 0;
}

static brt_status refuse(const char *argument, const char *reason)
{
    return BRT_FAIL(BRT_ERROR_CONFIG, "%s does not go with \"arithmetic\": \"paper\": %s", argument, reason);
}

static brt_status check_readers(const brt_config *config)
{
    const brt_layer_list *write = &config->recurrent_layers, *read = &config->read_recurrent_layers;
    for (size_t i = 0; i < write->count && read->count == write->count; i++)
        if (read->layer[i] != write->layer[i])
            return refuse("\"read_recurrent_layers\"",
                          "a recurrent layer reads its own state, other layers with \"feedback\"");
    if (config->feedback && write->count == 0)
        return refuse("\"feedback\"", "there is no recurrent layer whose state could be fed back");
    return BRT_OK;
}

enum { most_terms = 16 }; /* more curves are hardly independent of each other */

static brt_status check_positions(const brt_config *config)
{
    if (config->position_encoding == BRT_POSITION_XPOS || config->position_encoding == BRT_POSITION_DYNAMIC)
        return refuse("\"position_encoding\"", "it has t5, rotary, absolute, alibi, fourier, nn, orthogonal and none");
    if (config->position_encoding == BRT_POSITION_ABSOLUTE && config->dim % 2)
        return BRT_FAIL(BRT_ERROR_CONFIG, "\"dim\" is %lld; absolute positions need an even number",
                        (long long)config->dim);
    if (config->alibi_bound != 0 && config->position_encoding != BRT_POSITION_ALIBI)
        return BRT_FAIL(BRT_ERROR_CONFIG, "\"alibi_bound\" is the bound of the \"position_encoding\" alibi");
    if (!(config->alibi_bound >= 0))
        return BRT_FAIL(BRT_ERROR_CONFIG, "\"alibi_bound\" is %g; it must not be negative", config->alibi_bound);
    if (config->position_encoding == BRT_POSITION_ORTHOGONAL && config->position_terms > most_terms)
        return BRT_FAIL(BRT_ERROR_CONFIG, "\"position_terms\" is %lld; it must lie between 2 and %d",
                        (long long)config->position_terms, most_terms);
    if (config->position_encoding == BRT_POSITION_ORTHOGONAL &&
        !(config->position_end > 0 && config->position_end <= 1e9))
        return BRT_FAIL(BRT_ERROR_CONFIG, "\"position_end\" is %g; it must be positive and at most 1e9",
                        config->position_end);
    return BRT_OK;
}

brt_status brt_paper_check(const brt_config *config)
{
    BRT_TRY(check_readers(config));
    BRT_TRY(check_positions(config));
    if (config->all_layers_qk_rmsnorm)
        return refuse("\"all_layers_qk_rmsnorm\"", "\"cosine_attention\" normalises queries and keys of all layers");
    if (config->qk_logit_scale != 0 || !config->recurrent_qk_rmsnorm)
        return refuse("\"qk_logit_scale\" or \"recurrent_qk_rmsnorm\"",
                      "\"cosine_attention\" has a learned scale of each head");
    if (config->state_cell != BRT_CELL_BLOCK_RECURRENT)
        return refuse("\"state_cell\"", "\"state_gate\" and \"state_update\" say how a state becomes the next");
    if (config->residual_gates || config->state_gate_bias != 0)
        return refuse("\"residual_gates\" or \"state_gate_bias\"",
                      "tokens have a plain residual stream, gates the paper's bias");
    if (config->use_compressed_mem || config->enhanced_recurrence)
        return refuse("\"use_compressed_mem\" or \"enhanced_recurrence\"",
                      "a layer's window is its own of the block before");
    if (config->conditional_ff_layers.count)
        return refuse("\"conditional_ff_layers\"", "every token has the layer's feed-forward");
    return BRT_OK;
}
