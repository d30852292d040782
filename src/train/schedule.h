/* Learning rate over a run: linear warm-up, then constant, cosine or reciprocal square root; or as the code of Hutchins
 * et al. 2022 has it for Adafactor. */
#ifndef BRT_TRAIN_SCHEDULE_H
#define BRT_TRAIN_SCHEDULE_H

#include "../base/status.h"

typedef enum brt_schedule_kind {
    BRT_SCHEDULE_CONSTANT,
    BRT_SCHEDULE_COSINE,
    BRT_SCHEDULE_RSQRT,
    /* The original's, under its names. */
    BRT_SCHEDULE_RSQRT_DECAY_STD,
    BRT_SCHEDULE_RSQRT_DECAY,
    BRT_SCHEDULE_COSINE_DECAY,
    BRT_SCHEDULE_COSINE_DECAY_SPIKE,
    BRT_SCHEDULE_LINEAR_DECAY,
} brt_schedule_kind;

typedef struct brt_schedule {
    brt_schedule_kind kind;
    float peak, floor; /* of the rate; floor is where the cosine ends. Of the original's, peak is a factor */
    uint64_t warmup;   /* steps */
    uint64_t steps;    /* of the run, for the original's; 0: unknown, then the fraction is used */
} brt_schedule;

brt_status brt_schedule_parse(const char *name, brt_schedule_kind *out);
/* Rate of the update after `step` updates, when `fraction` (0 to 1) of the run is done. */
float brt_schedule_rate(const brt_schedule *schedule, uint64_t step, double fraction);

#endif
