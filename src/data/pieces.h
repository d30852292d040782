/* A data set cut into pieces for rows that read side by side: a document longer than an even share of the tokens would
 * leave the other rows idle, or repeating themselves, while one row reads it. */
#ifndef BRT_DATA_PIECES_H
#define BRT_DATA_PIECES_H

#include "../base/status.h"

typedef struct brt_piece {
    size_t document;
    uint64_t offset, count;
} brt_piece;

typedef struct brt_pieces {
    brt_piece *items; /* in the order of the data */
    size_t *order;    /* of one epoch: indices of items */
    size_t count;
} brt_pieces;

/* A document of more than ceil(tokens / rows) tokens gives equal pieces of at most that many; any other is one piece.
 * Pieces of a single token, which predict nothing, are left out. */
brt_status brt_pieces_cut(brt_pieces *out, const brt_dataset *dataset, size_t rows);
/* The order of an epoch, a function of (seed, epoch) alone. */
void brt_pieces_shuffle(brt_pieces *pieces, uint64_t seed, uint64_t epoch);
void brt_pieces_free(brt_pieces *pieces);

#endif
