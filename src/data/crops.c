#include "crops.h"

#include "../base/rng.h"

#include <stdlib.h>

enum { crop_stream = 5 }; /* random numbers of the run's seed: one a window */

brt_status brt_crops_open(brt_crops *out, const brt_dataset *dataset, uint64_t window)
{
    *out = (brt_crops){.documents = brt_dataset_documents(dataset), .window = window};
    uint64_t starts = 0, longest = 0;
    out->ends = calloc(out->documents, sizeof *out->ends);
    if (!out->ends)
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for %zu documents", out->documents);
    for (size_t i = 0; i < out->documents; i++) {
        uint64_t tokens = brt_dataset_document_tokens(dataset, i);
        longest = tokens > longest ? tokens : longest;
        starts += tokens >= window ? tokens - window + 1 : 0;
        out->ends[i] = starts;
    }
    if (starts > 0)
        return BRT_OK;
    brt_crops_free(out);
    return BRT_FAIL(BRT_ERROR_DATA, "the longest document has %llu tokens; a crop takes %llu (its length plus one)",
                    (unsigned long long)longest, (unsigned long long)window);
}

void brt_crops_draw(const brt_crops *crops, uint64_t seed, uint64_t number, size_t *document, uint64_t *offset)
{
    uint64_t start = brt_rng_below(seed, crop_stream, number, crops->ends[crops->documents - 1]);
    size_t low = 0, high = crops->documents - 1;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (crops->ends[middle] > start)
            high = middle;
        else
            low = middle + 1;
    }
    *document = low;
    *offset = start - (low > 0 ? crops->ends[low - 1] : 0);
}

void brt_crops_free(brt_crops *crops)
{
    free(crops->ends);
    *crops = (brt_crops){0};
}
