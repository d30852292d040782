/* Windows drawn at random from documents, every possible start equally likely. */
#ifndef BRT_DATA_CROPS_H
#define BRT_DATA_CROPS_H

#include "../base/status.h"

typedef struct brt_crops {
    uint64_t *ends; /* [documents] possible starts in this document and those before it */
    size_t documents;
    uint64_t window; /* tokens */
} brt_crops;

/* BRT_ERROR_DATA when no document has `window` tokens. */
brt_status brt_crops_open(brt_crops *out, const brt_dataset *dataset, uint64_t window);
/* Where window `number` begins: a function of (seed, number) alone. */
void brt_crops_draw(const brt_crops *crops, uint64_t seed, uint64_t number, size_t *document, uint64_t *offset);
void brt_crops_free(brt_crops *crops);

#endif
