/* Long memories of a stream, and exact recall from them: each head of each token takes keys of its own choice. */
#include "stream_state.h"

#include "../base/size.h"

static const brt_layer *memory_layer(const brt_stream *stream)
{
    return &stream->model->layers[stream->memory_layer];
}

bool brt_stream_has_memory(const brt_stream *stream, size_t layer, size_t *index)
{
    const brt_router *router = stream->model->layers[layer].router;
    *index = router ? router->ring : 0;
    return router || (stream->memories && !stream->model->routed && layer == stream->memory_layer);
}

size_t brt_stream_remembered(const brt_stream *stream, size_t row)
{
    return brt_routed_remembered(stream->capacity, brt_stream_width(stream), stream->past[row]);
}

/* ---- choosing ----------------------------------------------------------------------------------------------- */

static brt_status check_recall(const brt_model *model, const brt_stream_options *options)
{
    if (options->recall_capacity < 1 || options->recall_capacity > INT32_MAX)
        return BRT_FAIL(BRT_ERROR_ARGUMENT, "\"recall_capacity\" is %zu; it must lie between 1 and %d",
                        options->recall_capacity, INT32_MAX);
    if (options->recall_layer > model->depth)
        return BRT_FAIL(BRT_ERROR_ARGUMENT, "\"recall_layer\" is %zu; layers range from 1 to %zu",
                        options->recall_layer, model->depth);
    if (model->routed && options->recall_layer)
        return BRT_FAIL(BRT_ERROR_ARGUMENT, "\"recall_layer\" is for models without routed memories; this one's are "
                                            "what is recalled");
    return BRT_OK;
}

brt_status brt_stream_choose_memories(brt_stream *stream, const brt_stream_options *options)
{
    const brt_model *model = stream->model;
    BRT_TRY(check_recall(model, options));
    size_t middle = brt_min_size(model->depth / 2 + 1, model->depth);
    stream->capacity = model->routed ? (size_t)model->config.routed_capacity : options->recall_capacity;
    stream->recalls = brt_min_size(options->recall_tokens, stream->capacity);
    stream->memories = model->routed ? model->routed : stream->recalls > 0;
    stream->memory_layer = (options->recall_layer ? options->recall_layer : middle) - 1;
    return BRT_OK;
}

/* ---- making ------------------------------------------------------------------------------------------------- */

/* Without a router, keys that their layer does not normalise are recalled as they are. */
static brt_ring_shape ring_shape(const brt_stream *stream)
{
    brt_ring_shape shape = brt_routed_ring_shape(&stream->model->config, stream->capacity, stream->rows, 0);
    shape.as_they_are = !stream->model->routed && !memory_layer(stream)->k_scale;
    return shape;
}

static brt_ring_shape scan_shape(const brt_stream *stream)
{
    brt_ring_shape shape = ring_shape(stream);
    shape.type = BRT_RING_INT8;
    shape.keys_only = true;
    return shape;
}

static bool needs_scans(const brt_stream *stream)
{
    return stream->recalls && stream->model->config.routed_dtype != BRT_ROUTED_INT8;
}

uint64_t brt_stream_memories_bytes(const brt_stream *stream)
{
    brt_ring_shape ring = ring_shape(stream), scan = scan_shape(stream);
    return stream->memories * (brt_ring_bytes(&ring) + (needs_scans(stream) ? brt_ring_bytes(&scan) : 0));
}

/* What both of a product's scales amount to. */
static void make_recall_scale(brt_stream *stream)
{
    const brt_layer *layer = memory_layer(stream);
    for (size_t i = 0; layer->k_scale && i < layer->dim_head; i++)
        stream->recall_scale[i] = layer->q_scale->data[i] * layer->k_scale->data[i];
}

brt_status brt_stream_create_memories(brt_stream *stream)
{
    brt_ring_shape ring = ring_shape(stream), scan = scan_shape(stream);
    make_recall_scale(stream);
    BRT_TRY(brt_rings_create(&stream->rings, &ring, stream->memories));
    return needs_scans(stream) ? brt_rings_create(&stream->scans, &scan, stream->memories) : BRT_OK;
}

void brt_stream_close_memories(brt_stream *stream)
{
    brt_rings_close(stream->rings, stream->memories);
    brt_rings_close(stream->scans, stream->memories);
}

/* ---- recalling ---------------------------------------------------------------------------------------------- */

const brt_recall *brt_stream_recall(brt_stream *stream, size_t layer)
{
    size_t index;
    if (!stream->recalls || !brt_stream_has_memory(stream, layer, &index))
        return NULL;
    const brt_ring *ring = stream->rings ? &stream->rings[index] : NULL;
    stream->recall = (brt_recall){.ring = ring,
                                  .scan = stream->scans ? &stream->scans[index] : ring,
                                  .capacity = stream->capacity,
                                  .begin = stream->begin,
                                  .end = ring ? ring->end : 0,
                                  .tokens = stream->recalls};
    for (size_t row = 0; row < stream->rows && brt_tape_running(stream->tape); row++)
        stream->begin[row] = stream->recall.end - brt_stream_remembered(stream, row);
    return &stream->recall;
}

brt_tensor *brt_stream_recall_scale(brt_stream *stream, size_t layer)
{
    const brt_layer *at = &stream->model->layers[layer];
    if (!stream->recalls || at->router || !at->k_scale)
        return NULL;
    return brt_tape_external(stream->tape, stream->recall_scale, NULL, BRT_SHAPE(at->dim_head));
}
