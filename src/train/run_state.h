/* A training run in progress; shared by run.c (the loop) and run_files.c (its directory). */
#ifndef BRT_TRAIN_RUN_STATE_H
#define BRT_TRAIN_RUN_STATE_H

#include "../data/batcher.h"
#include "metrics.h"
#include "schedule.h"
#include "trainer_state.h"

typedef struct brt_run_state {
    brt_model *model;
    const brt_dataset *val;
    const brt_run_options *options;
    const brt_run_callbacks *callbacks;
    brt_trainer *trainer;
    brt_batcher *batcher;
    brt_schedule schedule;
    brt_metrics metrics;
    char *checkpoint_path, *state_path, *metrics_path;
    int lock; /* on the directory; -1 without */
    size_t segments_per_update;
    int32_t *tokens, *targets; /* [rows, time] */
    bool *reset;               /* [rows] */
    uint64_t step;
    double seconds_before;     /* of earlier sessions */
    double started;            /* monotonic clock */
    brt_run_progress progress;
} brt_run_state;

brt_status brt_run_options_check(const brt_run_options *options, const brt_model *model);

/* Takes and prepares the directory; with `resume` goes on from its checkpoint, if there is one. */
brt_status brt_run_open_files(brt_run_state *run);
void brt_run_close_files(brt_run_state *run);
/* optimizer.safetensors (all that resuming needs), then model.safetensors and trainer_state.json. */
brt_status brt_run_save(brt_run_state *run);
double brt_run_seconds(const brt_run_state *run);
void brt_run_say(const brt_run_state *run, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
