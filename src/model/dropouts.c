#include "dropouts.h"

enum { dropout_streams = 1 << 20 }; /* random streams from here on, one a place */

bool brt_drops(const brt_dropouts *dropouts)
{
    return dropouts && dropouts->rate > 0;
}

brt_tensor *brt_drop(brt_tape *tape, const brt_dropouts *dropouts, size_t layer, brt_drop_place place, brt_tensor *x,
                     brt_tensor *residual)
{
    if (!brt_drops(dropouts))
        return x;
    brt_dropout how = {.rate = dropouts->rate,
                       .seed = dropouts->seed,
                       .stream = dropout_streams + layer * BRT_DROP_PLACES + place,
                       .index = dropouts->segment,
                       .first = dropouts->first};
    return brt_op_dropout(tape, x, residual, &how);
}
