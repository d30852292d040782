/* Learning rate over a run: linear warm-up, then constant, cosine or reciprocal square root. */
#ifndef BRT_TRAIN_SCHEDULE_H
#define BRT_TRAIN_SCHEDULE_H

#include "../base/status.h"

typedef enum brt_schedule_kind { BRT_SCHEDULE_CONSTANT, BRT_SCHEDULE_COSINE, BRT_SCHEDULE_RSQRT } brt_schedule_kind;

typedef struct brt_schedule {
    brt_schedule_kind kind;
    float peak, floor; /* of the rate; floor is where the cosine ends */
    uint64_t warmup;   /* steps */
} brt_schedule;

brt_status brt_schedule_parse(const char *name, brt_schedule_kind *out);
/* Rate of the update after `step` updates, when `fraction` (0 to 1) of the run is done. */
float brt_schedule_rate(const brt_schedule *schedule, uint64_t step, double fraction);

#endif
