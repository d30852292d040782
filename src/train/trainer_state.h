/* What a trainer holds; shared by trainer.c (steps) and checkpoint.c (files). */
#ifndef BRT_TRAIN_TRAINER_STATE_H
#define BRT_TRAIN_TRAINER_STATE_H

#include "optimizer.h"
#include "segment.h"

/* Parts of an update, for the profile. */
typedef enum brt_update_part {
    BRT_UPDATE_NORM,
    BRT_UPDATE_OPTIMIZER,
    BRT_UPDATE_PACKING,
    BRT_UPDATE_PARTS
} brt_update_part;

struct brt_trainer {
    brt_model *model;
    brt_trainer_options options;
    brt_tape *record;   /* forward and backward; planned for a whole segment */
    brt_tape *evaluate; /* forward only; made when first needed */
    brt_optimizer optimizer;
    brt_carry carry;
    brt_replay replay; /* with recompute */
    uint64_t segments;  /* run so far: the index of the dropouts' random numbers */
    int32_t *tokens, *targets;
    bool *drop_memory, *drop_state, *fresh;
    brt_dropouts dropouts; /* of activations and of attention's weights */
    uint64_t *past;    /* room for a segment: see brt_segment_run */
    size_t *first_key, *first_old, *chosen_first_key, *offset;
    uint64_t *begin, *draw;
    double reconstruction; /* of the last segment with a gradient */
    uint64_t updates;
    double update_seconds[BRT_UPDATE_PARTS]; /* of all updates */
};

#endif
