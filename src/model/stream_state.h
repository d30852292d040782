/* What a stream holds, and what its files share: stream.c opens and resets, stream_feed.c feeds, stream_windows.c,
 * stream_states.c and stream_routed.c keep what is attended to, session.c reads and writes files. */
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

/* What is made of a state in the course of a block: what its readers need, and the parts of its write. Vectors go by
 * slices (stream_states.c), within which `query` and `log_sum` have key heads first. */
typedef struct brt_state_window {
    real *key, *value;         /* [rows, kv_heads, vectors, dim_head]: for the layer that reads */
    real *own_key, *own_value; /* likewise, for the state itself */
    real *query;               /* [rows, vectors, heads * dim_head]: to tokens */
    real *heard;               /* likewise: from tokens so far */
    real *log_sum;             /* [rows, vectors, heads]: of the softmax over them */
    real *projected[BRT_STATE_PROJECTIONS]; /* [rows, vectors, projected width]: of what is heard, the state's share */
    brt_matrix *token_projection[BRT_STATE_PROJECTIONS]; /* makes the tokens' share: brt_state_token_projection */
    size_t slices, chunks;     /* of vectors and of keys that are done */
    bool half_closed;          /* a block has ended, and the first half of the vectors are those of the next state */
} brt_state_window;

/* What a routed layer has chosen for the current part of the block, of which some tokens have been fed. */
typedef struct brt_routed_window {
    real *routes;      /* [rows, routes * dim_head]: chose it */
    real *key, *value; /* [rows, routes, routed_tokens + 1, dim_head] */
    real *input;       /* [rows, dim]: the layer's at the last token fed, where routes are made from it */
} brt_routed_window;

struct brt_stream {
    const brt_model *model;
    brt_tape *tape;
    size_t rows;
    bool no_states, no_memories;
    size_t filled;       /* tokens of the current block that have been fed */
    bool stale;          /* the forms that are made of what is carried are to be made anew before the next token ... */
    bool replaced;       /* ... also of states, which at a block's end have made theirs */
    uint64_t *position;  /* [rows] */
    uint64_t *past;      /* [rows]: full blocks of memory */
    size_t *first_key;   /* [rows]: brt_carried_first_key of past */
    size_t *offset;      /* [rows, block_width]: of the current call's part in its segment, first those of its rows */
    real **carried;      /* [slots], each [rows, vectors, width]: as the current block reads it */
    brt_window *window;  /* [depth] */
    brt_state_window *state; /* [containers] */
    brt_keys *state_keys;    /* [containers]: of the layer at hand, in the order of the model's readers */
    brt_routed chosen;       /* likewise */
    real **scores;           /* [conditional layers], each [rows, block_width]: of the current block's tokens so far */
    size_t memories, capacity; /* long ones: of routed layers, or one for exact recall without; tokens of each */
    size_t memory_layer;       /* of the latter */
    size_t recalls;            /* tokens that each head recalls exactly; 0: routes choose */
    brt_ring *rings, *scans;   /* [memories], not a part of `memory`; scans: NULL, or keys in 8 bits beside rings that
                                * keep them in more, for exact recall */
    real *recall_scale;        /* [dim_head]: of normalised queries that recall without a router */
    brt_recall recall;         /* of the layer at hand */
    brt_routed_window *routed; /* [routed layers] */
    uint64_t *begin, *draw;    /* [rows]: see brt_remembered */
    size_t *chosen_first_key;  /* [rows, parts of a block]: likewise */
    real *x;             /* [rows, block_width, dim]: between layers */
    int32_t *tokens;     /* [rows, block_width]: of the current call's part */
    void *memory;        /* the arrays above that are not told otherwise */
    real *projections;   /* packed, of all states */
    size_t memory_bytes;
};

static inline size_t brt_stream_width(const brt_stream *stream)
{
    return (size_t)stream->model->config.block_width;
}

static inline size_t brt_stream_dim_head(const brt_stream *stream)
{
    return (size_t)stream->model->config.dim_head;
}

static inline size_t brt_stream_key_heads(const brt_stream *stream)
{
    return (size_t)stream->model->config.kv_heads;
}

/* Keys before the current block's own. */
static inline size_t brt_stream_memory_keys(const brt_stream *stream)
{
    return brt_carried_keys(&stream->model->config);
}

/* Copies a result to where it is carried, and frees everything the tape made for it. */
void brt_stream_keep(const brt_stream *stream, const brt_tensor *result, real *to);
/* Everything that feeding asks of the tape. */
void brt_stream_plan_feeding(brt_stream *stream);

/* ---- windows, by their layer ---------------------------------------------------------------------------------- */

/* Biases by distance do not change while the stream is open. */
void brt_stream_make_biases(brt_stream *stream);
/* NULL where there are none. */
brt_tensor *brt_stream_bias(brt_stream *stream, size_t layer);
/* Of memories and block, as attention reads them. */
brt_keys brt_stream_window_keys(brt_stream *stream, size_t layer);
/* Appends a part's raw keys [rows, time, keys | values] to the current block. */
void brt_stream_append_keys(brt_stream *stream, size_t layer, const real *raw_keys, size_t time);
/* Keys as attention reads them, and the first that a row sees, anew from what is carried. */
void brt_stream_prepare_windows(brt_stream *stream);
/* Adds what a part's queries used of the memory (NULL: nobody asks) to what the block's earlier ones did. */
void brt_stream_count_usage(brt_stream *stream, size_t layer, const brt_tensor *usage);
/* The memory that a layer has read goes on as entries of the compressed one (the same steps as in a training block). */
void brt_stream_compress_window(brt_stream *stream, size_t layer);
/* The block becomes the memory of every layer. */
void brt_stream_remember_block(brt_stream *stream);

/* ---- routed memories ------------------------------------------------------------------------------------------ */

/* What a router, whose layer's input is x [rows, time, dim], attends to; x is a part or begins one. */
brt_routed brt_stream_choose(brt_stream *stream, const brt_router *router, brt_tensor *x);
/* Of `time` tokens to be fed, as many as may be fed together. */
size_t brt_stream_part(const brt_stream *stream, size_t time);
/* A full block: windows go to the rings. */
void brt_stream_remember(brt_stream *stream);
/* The current block's tokens are dropped. */
void brt_stream_forget_part(brt_stream *stream);
/* What the current part chose, from its routes. */
void brt_stream_choose_again(brt_stream *stream);

/* Which layers have one: those with routes, or one for exact recall in a model without. */
brt_status brt_stream_choose_memories(brt_stream *stream, const brt_stream_options *options);
/* The index of a layer's long memory; false where it has none. */
bool brt_stream_has_memory(const brt_stream *stream, size_t layer, size_t *index);
/* How much of it a row remembers. */
size_t brt_stream_remembered(const brt_stream *stream, size_t row);
/* Bytes of all long memories. */
uint64_t brt_stream_memories_bytes(const brt_stream *stream);
brt_status brt_stream_create_memories(brt_stream *stream);
void brt_stream_close_memories(brt_stream *stream);
/* The memory of a layer for exact recall; NULL where nothing is recalled. */
const brt_recall *brt_stream_recall(brt_stream *stream, size_t layer);
/* [dim_head], or NULL: see recall_scale. */
brt_tensor *brt_stream_recall_scale(brt_stream *stream, size_t layer);

/* ---- conditional feed-forwards ---------------------------------------------------------------------------------- */

/* The prices that a layer's tokens of several streams meet, one after the other. */
brt_choice brt_streams_choice(brt_stream *const *streams, size_t count, const brt_layer *layer);
/* Of `time` tokens of the current block, the first row of the batch being the stream's. */
void brt_stream_keep_scores(brt_stream *stream, const brt_layer *layer, const real *scores, size_t time);
/* A full block: the next one's price. */
void brt_stream_renew_price(brt_stream *stream, const brt_layer *layer);

/* ---- states, by their index ----------------------------------------------------------------------------------- */

/* The matrices of their writes, which do not change while the stream is open; bytes of them. */
brt_status brt_stream_make_projections(brt_stream *stream);
void brt_stream_close_projections(brt_stream *stream);
size_t brt_stream_projections_bytes(const brt_stream *stream);
/* For the layer that reads. */
brt_keys brt_stream_state_keys(brt_stream *stream, size_t index);
/* Its keys, anew: where the state was replaced, or a block begins again. */
void brt_stream_open_state(brt_stream *stream, size_t index);
/* The parts of its write that the tokens so far make possible, and their number due. */
void brt_stream_advance_state(brt_stream *stream, size_t index);
/* The rest after the block's last token, its keys for the next block included, but for half of the vectors, ... */
void brt_stream_write_state(brt_stream *stream, size_t index);
/* ... which wait, in all states, for whoever needs them: the next block's first token, or a look at the states. */
void brt_stream_finish_states(const brt_stream *stream);
/* Everything that these ask of the tape. */
void brt_stream_plan_state(brt_stream *stream, size_t index);

/* Bytes of a stream with these options, without making it. */
brt_status brt_stream_measure(const brt_model *model, const brt_stream_options *options, uint64_t *bytes);

#endif
