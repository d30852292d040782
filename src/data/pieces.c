#include "pieces.h"

#include "../base/rng.h"

#include <stdlib.h>

enum { order_stream = 4 }; /* random numbers of the run's seed: epoch * 2^32 + position */

/* Two tokens at least: with more rows than tokens, single tokens would all be left out. */
static uint64_t longest_piece(const brt_dataset *dataset, size_t rows)
{
    uint64_t tokens = brt_dataset_tokens(dataset), share = tokens / rows + (tokens % rows != 0);
    return share > 2 ? share : 2;
}

static uint64_t pieces_of(uint64_t tokens, uint64_t most)
{
    return tokens / most + (tokens % most != 0);
}

/* The first tokens % count pieces have one token more than the others. */
static void cut_document(brt_pieces *out, size_t document, uint64_t tokens, uint64_t count)
{
    uint64_t offset = 0;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t size = tokens / count + (i < tokens % count);
        if (size >= 2)
            out->items[out->count++] = (brt_piece){document, offset, size};
        offset += size;
    }
}

brt_status brt_pieces_cut(brt_pieces *out, const brt_dataset *dataset, size_t rows)
{
    *out = (brt_pieces){0};
    size_t documents = brt_dataset_documents(dataset), most = 0;
    uint64_t longest = longest_piece(dataset, rows);
    for (size_t i = 0; i < documents; i++)
        most += (size_t)pieces_of(brt_dataset_document_tokens(dataset, i), longest);
    out->items = calloc(most, sizeof *out->items);
    out->order = calloc(most, sizeof *out->order);
    if (!out->items || !out->order) {
        brt_pieces_free(out);
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for %zu pieces of documents", most);
    }
    for (size_t i = 0; i < documents; i++) {
        uint64_t tokens = brt_dataset_document_tokens(dataset, i);
        cut_document(out, i, tokens, pieces_of(tokens, longest));
    }
    if (out->count > 0)
        return BRT_OK;
    brt_pieces_free(out);
    return BRT_FAIL(BRT_ERROR_DATA, "each of the %zu documents has a single token; predicting needs 2", documents);
}

void brt_pieces_shuffle(brt_pieces *pieces, uint64_t seed, uint64_t epoch)
{
    for (size_t i = 0; i < pieces->count; i++) {
        size_t other = (size_t)brt_rng_below(seed, order_stream, epoch << 32 | i, i + 1);
        pieces->order[i] = pieces->order[other];
        pieces->order[other] = i;
    }
}

void brt_pieces_free(brt_pieces *pieces)
{
    free(pieces->items);
    free(pieces->order);
    *pieces = (brt_pieces){0};
}
