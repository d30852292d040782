/* Segments for training: every row of a batch reads on in its own text, from segment to segment. */
#ifndef BRT_DATA_BATCHER_H
#define BRT_DATA_BATCHER_H

#include "../base/json.h"

typedef struct brt_batcher brt_batcher;

typedef struct brt_batcher_options {
    const char *sampling; /* "stream": whole documents, in an order shuffled every epoch, the long ones cut into pieces;
                             "crops": windows drawn at random */
    size_t rows;
    size_t time;          /* tokens per segment */
    size_t crop_tokens;   /* crops: the length of a window minus one, a multiple of `time` */
    int32_t ignore_index; /* the target where there is none */
    uint64_t seed;
} brt_batcher_options;

/* The data set must outlive the batcher and not be split meanwhile. Too little data is BRT_ERROR_DATA. */
brt_status brt_batcher_open(brt_batcher **out, const brt_dataset *dataset, const brt_batcher_options *options);
void brt_batcher_close(brt_batcher *batcher);

/* tokens, targets: [rows, time]. reset: [rows], true where the segment starts a document, a piece of one, or a window.
 * What is past the end of a piece is token 0 with the target ignore_index. */
brt_status brt_batcher_next(brt_batcher *batcher, int32_t *tokens, int32_t *targets, bool *reset);

/* Where it stands, as a new JSON object; NULL when out of memory. */
json_t *brt_batcher_cursor(const brt_batcher *batcher);
/* Goes on from there, bit by bit as the batcher that gave the cursor would have. BRT_ERROR_MISMATCH when that one read
 * other data or with other options; nothing is changed then. `what` names the cursor's file in errors. */
brt_status brt_batcher_restore(brt_batcher *batcher, const json_t *cursor, const char *what);

#endif
