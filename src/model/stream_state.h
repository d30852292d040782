/* What a stream holds; shared by stream.c (feeding) and session.c (files). */
#ifndef BRT_MODEL_STREAM_STATE_H
#define BRT_MODEL_STREAM_STATE_H

#include "model.h"

/* A layer's window: raw projections of the block before and of the current block, and both as attention reads them. */
typedef struct brt_window {
    real *memory, *block; /* [rows, block_width, 2 * dim_head]: key | value */
    real *key, *value;    /* [rows, 2 * block_width, dim_head]: memory, then block */
} brt_window;

/* A state and what its readers need of it, made once per block. */
typedef struct brt_carried_state {
    real *state;       /* [rows, vectors, dim] */
    real *key, *value; /* [rows, vectors, dim_head] */
} brt_carried_state;

struct brt_stream {
    const brt_model *model;
    brt_tape *tape;
    size_t rows;
    bool no_states, no_memories;
    size_t filled;       /* tokens of the current block that have been fed */
    uint64_t *position;  /* [rows] */
    size_t *first_key;   /* [rows]: 0, or block_width for a row without memory */
    bool has_memory;     /* some block was committed since the last full reset */
    brt_window *window;  /* [depth] */
    brt_carried_state *carried; /* [containers] */
    real *x;             /* [rows, block_width, dim]: between layers */
    int32_t *tokens;     /* [rows, block_width]: of the current call's part */
    void *memory;        /* all of the arrays above */
    size_t memory_bytes;
};

/* Attention's form of the window's keys and of the states, from their raw forms: after a block, a reset, a load. */
brt_status brt_stream_prepare(brt_stream *stream);

/* Bytes of a stream with these options, without making it. */
brt_status brt_stream_measure(const brt_model *model, const brt_stream_options *options, uint64_t *bytes);

#endif
