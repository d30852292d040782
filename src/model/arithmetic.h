/* Two arithmetics in one engine: the reference's (reference_*.c) and that of Hutchins et al. 2022 (paper_*.c). The
 * block loop, what is carried, attention, positions, streams, sessions and training are written once and ask these
 * tables for what differs. */
#ifndef BRT_MODEL_ARITHMETIC_H
#define BRT_MODEL_ARITHMETIC_H

#include "declaration.h"
#include "layer.h"

struct brt_arithmetic {
    void (*declare)(brt_declaration *d, const brt_config *config); /* every parameter, in the order of the files */
    brt_tensor *(*norm)(brt_tape *tape, brt_tensor *x, brt_tensor *gain);
    const char *embedding, *final_gain, *to_logits; /* names of parameters */
    bool divides_logits;                            /* by the root of the vocabulary, or of dim */
    const brt_layer_arithmetic *layer;
    const brt_state_arithmetic *state;
};

const brt_arithmetic *brt_arithmetic_of(const brt_config *config);

#endif
