#include "arithmetic.h"

const brt_arithmetic *brt_arithmetic_of(const brt_config *config)
{
    static const brt_arithmetic arithmetics[] = {
        [BRT_ARITHMETIC_REFERENCE] = {.declare = brt_reference_declare,
                                      .norm = brt_op_layer_norm,
                                      .embedding = "token_emb.weight",
                                      .final_gain = "to_logits.0.gamma",
                                      .to_logits = "to_logits.1.weight",
                                      .layer = &brt_reference_layer,
                                      .state = &brt_reference_state},
        [BRT_ARITHMETIC_PAPER] = {.declare = brt_paper_declare,
                                  .norm = brt_op_rms_norm,
                                  .embedding = "embed/embedding",
                                  .final_gain = "final_layernorm/scale",
                                  .to_logits = "embed/embedding",
                                  .divides_logits = true,
                                  .layer = &brt_paper_layer,
                                  .state = &brt_paper_state},
    };
    return &arithmetics[config->arithmetic];
}
