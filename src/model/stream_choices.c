/* Conditional feed-forwards in a stream: what a block's tokens score is kept until the block is full. */
#include "stream_state.h"

#include <string.h>

static real *price_of(const brt_stream *stream, const brt_layer *layer)
{
    return stream->carried[stream->model->slots.price + layer->conditional.index];
}

static brt_tensor *own_price(const brt_stream *stream, const brt_layer *layer)
{
    return brt_tape_external(stream->tape, price_of(stream, layer), NULL,
                             BRT_SHAPE(stream->rows, 1, BRT_PRICE_NUMBERS));
}

brt_choice brt_streams_choice(brt_stream *const *streams, size_t count, const brt_layer *layer)
{
    if (layer->conditional.tokens == 0)
        return (brt_choice){0};
    if (count == 1)
        return (brt_choice){.price = own_price(streams[0], layer)};
    brt_tensor *prices = brt_tape_tensor(streams[0]->tape, BRT_SHAPE(count, 1, BRT_PRICE_NUMBERS));
    for (size_t i = 0; i < count && brt_tape_running(streams[0]->tape); i++)
        memcpy(prices->data + i * BRT_PRICE_NUMBERS, price_of(streams[i], layer), BRT_PRICE_NUMBERS * sizeof(real));
    return (brt_choice){.price = prices};
}

void brt_stream_keep_scores(brt_stream *stream, const brt_layer *layer, const real *scores, size_t time)
{
    real *kept = stream->scores[layer->conditional.index] + stream->filled;
    for (size_t row = 0; row < stream->rows; row++)
        memcpy(kept + row * brt_stream_width(stream), scores + row * time, time * sizeof *kept);
}

void brt_stream_renew_price(brt_stream *stream, const brt_layer *layer)
{
    if (layer->conditional.tokens == 0)
        return;
    brt_tensor *scores = brt_tape_external(stream->tape, stream->scores[layer->conditional.index], NULL,
                                           BRT_SHAPE(stream->rows, brt_stream_width(stream), 1));
    brt_stream_keep(stream, brt_conditional_ff_price(stream->tape, &layer->conditional, scores),
                    price_of(stream, layer));
}
