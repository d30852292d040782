/* Attention in the paper's arithmetic, of tokens and of states: keys and queries of length 1 (Henry et al. 2020), so
 * that a logit is a cosine times a learned scale s_h of its head; a bias by distance is multiplied with s_h, too. */
#include "paper.h"

#include <math.h>

/* ---- parameters ------------------------------------------------------------------------------------------------- */

brt_tensor *brt_paper_find(const brt_parameters *parameters, const char *prefix, const char *name)
{
    brt_parameter *found = brt_parameters_find(parameters, "%s%s", prefix, name);
    return found ? &found->tensor : NULL;
}

brt_linear brt_paper_find_linear(const brt_parameters *parameters, const char *prefix, const char *name)
{
    brt_parameter *kernel = brt_parameters_find(parameters, "%s%s/kernel", prefix, name);
    brt_parameter *bias = brt_parameters_find(parameters, "%s%s/bias", prefix, name);
    return kernel ? brt_parameter_linear(kernel, bias) : (brt_linear){0};
}

brt_paper_heads brt_paper_find_heads(const brt_parameters *parameters, const char *prefix, const brt_config *config)
{
    return (brt_paper_heads){.count = (size_t)config->heads,
                             .key_heads = (size_t)config->kv_heads,
                             .dim_head = (size_t)config->dim_head,
                             .by_cosine = config->cosine_attention,
                             .to_keys = brt_paper_find_linear(parameters, prefix, "_kvq/keys_layer"),
                             .to_values = brt_paper_find_linear(parameters, prefix, "_kvq/values_layer")};
}

brt_paper_queries brt_paper_find_queries(const brt_parameters *parameters, const char *prefix,
                                         const brt_config *config, bool across)
{
    return (brt_paper_queries){
        .to_queries =
            brt_paper_find_linear(parameters, prefix, across ? "_kvq/queries2_layer" : "_kvq/queries_layer"),
        .scale = brt_paper_find(parameters, prefix, across ? "attention_scale2" : "_kvq/attention_scale"),
        .signed_scale = config->attention_scale == BRT_SCALE_SIGNED};
}

/* ---- attention -------------------------------------------------------------------------------------------------- */

brt_tensor *brt_paper_raw_keys(brt_tape *tape, const brt_paper_heads *heads, brt_tensor *x)
{
    brt_tensor *key = brt_op_linear(tape, x, &heads->to_keys, NULL);
    brt_tensor *value = brt_op_linear(tape, x, &heads->to_values, NULL);
    return brt_op_concat(tape, heads->by_cosine ? brt_op_unit(tape, key, heads->key_heads, NULL) : key, value);
}

real brt_paper_logit_scale(const brt_paper_heads *heads)
{
    return heads->by_cosine ? 1 : 1 / (real)sqrt((double)heads->dim_head);
}

/* [heads], NULL without cosines */
static brt_tensor *scale_of(brt_tape *tape, const brt_paper_queries *queries)
{
    return queries->signed_scale || !queries->scale ? queries->scale : brt_op_magnitude(tape, queries->scale);
}

brt_tensor *brt_paper_make_queries(brt_tape *tape, const brt_paper_heads *heads, const brt_paper_queries *queries,
                                   brt_tensor *raw_queries, const brt_rotation *rotation, size_t first_query)
{
    brt_tensor *scaled = heads->by_cosine ? brt_op_unit(tape, raw_queries, heads->count, scale_of(tape, queries))
                                          : raw_queries;
    return brt_op_queries(tape, scaled, heads->key_heads, heads->count / heads->key_heads, NULL, rotation, first_query);
}

brt_tensor *brt_paper_scale_bias(brt_tape *tape, const brt_paper_heads *heads, const brt_paper_queries *queries,
                                 brt_tensor *bias)
{
    return brt_op_scale(tape, bias, scale_of(tape, queries), 1 / brt_paper_logit_scale(heads));
}
