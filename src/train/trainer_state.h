/* What a trainer holds; shared by trainer.c (steps) and checkpoint.c (files). */
#ifndef BRT_TRAIN_TRAINER_STATE_H
#define BRT_TRAIN_TRAINER_STATE_H

#include "optimizer.h"
#include "segment.h"

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
    uint64_t *past;    /* room for a segment: see brt_segment_run */
    size_t *first_key, *chosen_first_key;
    uint64_t *begin, *draw;
    uint64_t updates;       /* and their time, for the profile */
    double update_seconds;
};

#endif
