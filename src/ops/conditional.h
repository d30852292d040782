/* Work for chosen tokens only: their rows are taken out side by side, and what is made of them is added to the others'
 * again. Token i is chosen where its score reaches the threshold of its row, and enters with weight 1; backward, that
 * weight is p_i = min(1, exp((s_i + a) / epsilon)), so that what scores it learns (coordinate_descent.h). */
#ifndef BRT_OPS_CONDITIONAL_H
#define BRT_OPS_CONDITIONAL_H

#include "../tensor/tape.h"

typedef struct brt_selection {
    brt_tensor *scores; /* [batch, time, 1] */
    brt_tensor *price;  /* [batch, 1, 2]: threshold and a, of tokens that came before */
    double epsilon;
    bool everything;    /* all tokens, whatever they score, with weight 1 */
} brt_selection;

/* x [batch, time, dim] -> [batch, time, dim], of which the first rows are those of chosen tokens and the others
 * unused */
brt_tensor *brt_op_take_chosen(brt_tape *tape, brt_tensor *x, const brt_selection *selection);
/* x [batch, time, dim] + the rows of y at the chosen tokens */
brt_tensor *brt_op_add_chosen(brt_tape *tape, brt_tensor *x, brt_tensor *y, const brt_selection *selection);

#endif
