/* What a stream holds; shared by stream.c (feeding) and session.c (files). */
#ifndef BRT_MODEL_STREAM_STATE_H
#define BRT_MODEL_STREAM_STATE_H

#include "model.h"

/* A layer's window: the current block's raw keys, and those of memories and block as attention reads them. */
typedef struct brt_window {
    real *block;        /* [rows, block_width, keys | values] */
    real *key, *value;  /* [rows, kv_heads, memory keys + block_width, dim_head] */
    real *bias;         /* [heads, memory keys + block_width]: brt_positions_bias, where there is one */
    real *usage;        /* [rows, block_width]: attention that the memory of the block before has got from the current
                         * block's queries so far, where a compression asks for it */
} brt_window;

/* What a state's readers need of it, made once per block. */
typedef struct brt_state_window {
    real *key, *value; /* [rows, kv_heads, vectors, dim_head] */
} brt_state_window;

struct brt_stream {
    const brt_model *model;
    brt_tape *tape;
    size_t rows;
    bool no_states, no_memories;
    size_t filled;       /* tokens of the current block that have been fed */
    uint64_t *position;  /* [rows] */
    uint64_t *past;      /* [rows]: full blocks of memory */
    size_t *first_key;   /* [rows]: brt_carried_first_key of past */
    real **carried;      /* [slots], each [rows, vectors, width]: as the current block reads it */
    brt_window *window;  /* [depth] */
    brt_state_window *state; /* [containers] */
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
