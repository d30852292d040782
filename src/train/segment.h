/* A training segment: several blocks of a batch, from the carried memories and states to the losses, on the tape.
 * Gradients flow through every block of the segment; what is carried to the next one is detached. */
#ifndef BRT_TRAIN_SEGMENT_H
#define BRT_TRAIN_SEGMENT_H

#include "../model/model.h"

/* What rows carry between segments. */
typedef struct brt_carry {
    size_t rows;
    real **slot;    /* [slots], each [rows, vectors, width] */
    uint64_t *past; /* [rows]: full blocks since the row's start; 0 has no memory and reads the initial state */
    real *storage;  /* what the slots point into, in their order */
    real *spare;    /* as large: what a segment carries on is written here, because its backward pass still reads what
                     * it was carried; then the two change places */
    size_t count;   /* reals of storage */
    const brt_model *model;
    brt_ring *rings; /* of routed layers: see brt_remembered */
    uint64_t *born;  /* [rows]: where the rings ended when the row started, whatever was dropped since */
} brt_carry;
/* `blocks`: of a segment that is run again, 0 when none is; routed memories then keep what they overwrite so long. */
brt_status brt_carry_create(brt_carry *carry, const brt_model *model, size_t rows, size_t blocks);
void brt_carry_close(brt_carry *carry);
/* The row starts anew. */
void brt_carry_clear_row(brt_carry *carry, size_t row);

/* For backward passes that keep the activations of one block only, whatever the number of blocks: what each block
 * starts from is kept, and a block is run again when the backward pass comes to it (the memory replay back-propagation
 * of Memformer, Wu et al. 2022). The gradients are those of the pass that keeps everything, bit by bit. */
typedef struct brt_replay {
    size_t blocks;
    real *starts;    /* [blocks, carry->count]: what is carried, laid out as a carry's storage */
    real *gradient;  /* [2, carry->count]: of a block's start, and of what it hands on */
    double *losses, *reconstructions; /* [blocks] */
} brt_replay;
brt_status brt_replay_create(brt_replay *replay, const brt_carry *carry, size_t blocks);
void brt_replay_close(brt_replay *replay);
uint64_t brt_replay_bytes(const brt_carry *carry, size_t blocks);

/* Token buffers of a segment, in blocks: block j at rows * block_width * j, [rows, its time]. */
typedef struct brt_segment_run {
    const brt_model *model;
    brt_carry *carry;
    brt_replay *replay;      /* NULL: the activations of all blocks are kept */
    size_t time;             /* per row */
    int32_t *tokens, *targets;
    const bool *drop_memory; /* [rows]: start without memories, whatever is carried; older routed memories come back in
                                the next segment, windows are forgotten */
    const bool *drop_state;  /* [rows]: start from the initial state */
    uint64_t *past;          /* [rows]: room; full blocks behind a row's first block, after the drops */
    size_t *first_key;       /* [blocks, rows]: room */
    uint64_t *begin, *draw;  /* [blocks, rows]: room for what is seen of routed memories */
    size_t *chosen_first_key; /* [blocks, rows, parts of a block]: room */
    uint64_t ring_end;       /* before the first block */
    size_t *first_old;       /* [blocks, rows]: room; as brt_reconstruction has it */
    size_t *offset;          /* [blocks, rows]: room */
    bool *fresh;             /* [2, rows]: room; rows that start from the initial state, and without memories */
    brt_dropouts *dropouts;  /* NULL: none; its `first` is set for each block */
    real weight;             /* of each target's loss in the gradient */
    real reconstruction_weight; /* of the mean of the reconstruction losses in the gradient; 0: there are none */
    real *logits;            /* [rows, time, num_tokens] or NULL */
    double loss;             /* out: sum over the targets */
    size_t compressions;     /* out: windows of a row and a layer that became entries of compressed memory */
    double reconstruction;   /* out: mean loss of these */
} brt_segment_run;
/* Runs the segment forward and, if the tape records, backward. While planning it takes its memory only. */
brt_status brt_segment_execute(brt_tape *tape, brt_segment_run *run);

#endif
