/* A conditional feed-forward, as in CoLT5 (Ainslie et al. 2023): a light one for every token, and the layer's own for
 * those that a router finds worth it, `tokens` of a block on average,
 *   s = router . LN(x),  y = x + light(LN(x)) + [s >= threshold] heavy(LN(x)).
 * CoLT5 takes the tokens of a text that score highest, which depends on later ones. Here a token is measured against
 * the block before: `price` is what it took there to be among the best. It is carried from block to block like a
 * memory, so a token's choice is final when it is read, in any split of a text, and its work can be skipped. A row's
 * first block has a threshold of 0. Gradients: conditional.h; what moves the price pulls back the scores that made it,
 * so that a router cannot gain by raising all of them. */
#ifndef BRT_MODEL_CONDITIONAL_FF_H
#define BRT_MODEL_CONDITIONAL_FF_H

#include "../ops/coordinate_descent.h"
#include "parameters.h"

typedef struct brt_conditional_ff {
    size_t index;         /* which of the model's, ascending by layer */
    size_t tokens, width; /* chosen of a block, and its own; 0: every token has the layer's feed-forward */
    brt_linear router;    /* [1, dim] */
    brt_linear light_in, light_out;
} brt_conditional_ff;

void brt_conditional_ff_bind(brt_conditional_ff *ff, const brt_parameters *parameters, const brt_config *config,
                             size_t layer);

/* What a layer measures tokens by, and what it found. */
typedef struct brt_choice {
    brt_tensor *price;  /* [batch, 1, BRT_PRICE_NUMBERS], of the block before; NULL where the layer has no choice */
    brt_tensor *scores; /* out: [batch, time, 1] */
} brt_choice;

/* normalised [batch, time, dim] -> x + the light and, where chosen, the heavy feed-forward of it; x may be NULL */
brt_tensor *brt_conditional_ff_forward(brt_tape *tape, const brt_conditional_ff *ff, const brt_linear *heavy_in,
                                       const brt_linear *heavy_out, brt_tensor *normalised, brt_tensor *x,
                                       brt_choice *choice);
/* The next block's price, from the scores of a full one. */
brt_tensor *brt_conditional_ff_price(brt_tape *tape, const brt_conditional_ff *ff, brt_tensor *scores);

#endif
