/* How the rows of a product are cut: tiles of a power of two, as many as keep every core busy, then ever smaller
 * ones, and at last single rows for the matrix-vector kernel. A function of the number of rows alone. */
#ifndef BRT_TENSOR_TILES_H
#define BRT_TENSOR_TILES_H

#include "../base/size.h"

enum {
    BRT_TILE_LARGEST = 128, /* rows: more gains nothing on a 2 MiB second-level cache */
    BRT_TILE_SMALLEST = 8,  /* below it the weights' bytes decide, not the arithmetic */
};

typedef struct brt_tile {
    size_t first, rows;
} brt_tile;

/* Rows of the full tiles of a product of `rows` rows. */
static inline size_t brt_tile_rows(size_t rows)
{
    size_t tile = BRT_TILE_LARGEST;
    while (tile > 32 && rows / tile < 8)
        tile /= 2;
    return tile;
}

/* Number of tiles that cover all rows but the last rows % BRT_TILE_SMALLEST. */
static inline size_t brt_tile_count(size_t rows)
{
    size_t tile = brt_tile_rows(rows), count = rows / tile, rest = rows % tile;
    for (size_t part = tile / 2; part >= BRT_TILE_SMALLEST; part /= 2)
        count += (rest & part) != 0;
    return count;
}

static inline brt_tile brt_tile_at(size_t rows, size_t index)
{
    size_t tile = brt_tile_rows(rows), full = rows / tile;
    if (index < full)
        return (brt_tile){index * tile, tile};
    size_t first = full * tile, rest = rows % tile, part = tile / 2;
    for (size_t seen = full;; part /= 2) {
        if (!(rest & part))
            continue;
        if (seen++ == index)
            return (brt_tile){first, part};
        first += part;
    }
}

#endif
