#include "dropouts.h"

enum { dropout_streams = 1 << 20 }; /* random streams from here on, one a place */

bool brt_drops(const brt_dropouts *dropouts)
{
    return dropouts && dropouts->rate > 0;
}

static brt_dropout dropout_at(const brt_dropouts *dropouts, size_t layer, brt_drop_place place, double rate)
{
    return (brt_dropout){.rate = rate,
                         .seed = dropouts->seed,
                         .stream = dropout_streams + layer * BRT_DROP_PLACES + place,
                         .index = dropouts->segment,
                         .first = dropouts->first};
}

brt_dropout brt_attention_dropout(const brt_dropouts *dropouts, size_t layer)
{
    return dropouts ? dropout_at(dropouts, layer, BRT_DROP_ATTENTION, dropouts->attention_rate) : (brt_dropout){0};
}

brt_tensor *brt_drop(brt_tape *tape, const brt_dropouts *dropouts, size_t layer, brt_drop_place place, brt_tensor *x,
                     brt_tensor *residual)
{
    if (!brt_drops(dropouts))
        return x;
    brt_dropout how = dropout_at(dropouts, layer, place, dropouts->rate);
    return brt_op_dropout(tape, x, residual, &how);
}
