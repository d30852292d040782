/* Routed memories that are full, without the text that would fill them. */
#include "../model/stream_state.h"
#include "../train/trainer_state.h"

#include <brt/bench.h>

#include <stdlib.h>

/* Numbers between -1 and 1, always the same. */
static void draw(real *x, size_t count, uint64_t *state)
{
    for (size_t i = 0; i < count; i++) {
        *state = *state * 6364136223846793005u + 1442695040888963407u;
        x[i] = (real)(int32_t)(*state >> 32) / (real)INT32_MAX;
    }
}

/* Until the oldest position has been overwritten. */
static brt_status fill(brt_ring *rings, size_t count, const brt_kernels *kernels, int threads)
{
    const brt_ring_shape *shape = &rings[0].shape;
    size_t reals = shape->rows * shape->unit * 2 * shape->heads * shape->dim;
    real *raw = malloc(reals * sizeof *raw);
    uint64_t state = 1;
    if (!raw)
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for filling a routed memory");
    for (size_t done = 0; done <= shape->slots; done += shape->unit)
        for (size_t i = 0; i < count; i++) {
            draw(raw, reals, &state);
            brt_ring_append(&rings[i], kernels, threads, raw);
        }
    free(raw);
    return BRT_OK;
}

brt_status brt_stream_fill_routed(brt_stream *stream)
{
    const brt_model *model = stream->model;
    int threads = brt_tape_threads(stream->tape);
    if (stream->memories == 0)
        return BRT_OK;
    BRT_TRY(fill(stream->rings, stream->memories, model->kernels, threads));
    if (stream->scans)
        BRT_TRY(fill(stream->scans, stream->memories, model->kernels, threads));
    for (size_t row = 0; row < stream->rows; row++)
        stream->past[row] = stream->rings[0].end / stream->rings[0].shape.unit;
    stream->stale = true;
    return BRT_OK;
}

brt_status brt_trainer_fill_routed(brt_trainer *trainer)
{
    const brt_model *model = trainer->model;
    if (model->routed == 0)
        return BRT_OK;
    BRT_TRY(fill(trainer->carry.rings, model->routed, model->kernels, trainer->options.threads));
    for (size_t row = 0; row < trainer->options.rows; row++) {
        trainer->carry.born[row] = 0;
        trainer->carry.past[row] = trainer->carry.rings[0].end / trainer->carry.rings[0].shape.unit;
    }
    return BRT_OK;
}
