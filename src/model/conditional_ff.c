#include "conditional_ff.h"

#include "../ops/conditional.h"

static const double epsilon = 0.3; /* half the spread of a new router's scores */

static brt_linear find_linear(const brt_parameters *parameters, size_t layer, const char *name)
{
    return brt_parameter_linear(brt_parameters_find(parameters, "layers.%zu.1.%s.weight", layer, name), NULL);
}

void brt_conditional_ff_bind(brt_conditional_ff *ff, const brt_parameters *parameters, const brt_config *config,
                             size_t layer)
{
    *ff = (brt_conditional_ff){0};
    if (!brt_config_is_conditional(config, layer))
        return;
    *ff = (brt_conditional_ff){
        .index = brt_config_rank(&config->conditional_ff_layers, layer),
        .tokens = (size_t)config->conditional_ff_tokens,
        .width = (size_t)config->block_width,
        .router = find_linear(parameters, layer, "router"),
        .light_in = find_linear(parameters, layer, "light.1"),
        .light_out = find_linear(parameters, layer, "light.3"),
    };
}

brt_tensor *brt_conditional_ff_forward(brt_tape *tape, const brt_conditional_ff *ff, const brt_linear *heavy_in,
                                       const brt_linear *heavy_out, brt_tensor *normalised, brt_tensor *x,
                                       brt_choice *choice)
{
    choice->scores = brt_op_linear(tape, normalised, &ff->router, NULL);
    brt_selection selection = {choice->scores, choice->price, epsilon, ff->tokens == ff->width};
    brt_tensor *light = brt_op_feed_forward(tape, normalised, &ff->light_in, &ff->light_out, x);
    brt_tensor *chosen = brt_op_take_chosen(tape, normalised, &selection);
    brt_tensor *heavy = brt_op_feed_forward(tape, chosen, heavy_in, heavy_out, NULL);
    brt_tape_forget(tape, chosen);
    return brt_op_add_chosen(tape, light, heavy, &selection);
}

brt_tensor *brt_conditional_ff_price(brt_tape *tape, const brt_conditional_ff *ff, brt_tensor *scores)
{
    return brt_op_price(tape, scores, ff->tokens, epsilon);
}
