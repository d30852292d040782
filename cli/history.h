/* What a run has written of its losses. */
#ifndef BRT_CLI_HISTORY_H
#define BRT_CLI_HISTORY_H

#include <brt/brt.h>

/* Values that grow one by one. */
typedef struct history_points {
    double *x, *y;
    size_t count, room;
} history_points;

/* Training and validation of one run. */
typedef struct history {
    history_points train, validation, without_states, speed; /* by step; speed in no order */
    bool bytes;          /* losses are shown as bits per byte */
    double tokens_per_s; /* of the middle step */
} history;

/* Reads RUN/metrics.jsonl; training losses are averaged over steps so that at most 400 are left. A run without a step
 * is an error. Closed by the caller, whatever it returns. */
brt_status history_read(history *h, const char *run);
void history_close(history *h);

#endif
