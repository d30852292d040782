/* metrics.jsonl: one JSON object a line, one line a step. */
#ifndef BRT_TRAIN_METRICS_H
#define BRT_TRAIN_METRICS_H

#include "../base/json.h"

#include <stdio.h>

typedef struct brt_metrics {
    FILE *file;
    char *path;
} brt_metrics;

/* Opens the file for appending, keeping only whole lines of steps up to `last_step` (a killed run may have written
 * more than its checkpoint knows; 0 begins anew). Takes a copy of the path. */
brt_status brt_metrics_open(brt_metrics *metrics, const char *path, uint64_t last_step);
/* Writes the object as a line and flushes it. Equal bits give equal text. Takes the object. */
brt_status brt_metrics_write(brt_metrics *metrics, json_t *object);
void brt_metrics_close(brt_metrics *metrics);

#endif
