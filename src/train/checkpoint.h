/* Everything a training run needs to go on, in one file: weights, moments, carried memories and states, and a JSON
 * text with the rest. One file is replaced as a whole, so a kill at any moment leaves a consistent checkpoint. */
#ifndef BRT_TRAIN_CHECKPOINT_H
#define BRT_TRAIN_CHECKPOINT_H

#include "../base/json.h"
#include "trainer_state.h"

/* `state` is the run's part (step, data cursor, options). */
brt_status brt_checkpoint_save(const brt_trainer *trainer, const json_t *state, const char *path);
/* What was given as `state`, as a new object. */
brt_status brt_checkpoint_state(const char *path, json_t **state);
/* Restores the trainer and its model's weights. */
brt_status brt_checkpoint_load(brt_trainer *trainer, const char *path);

#endif
