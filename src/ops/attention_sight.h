/* Who sees what in an attention, and where it lies: tiles of rows (queries of all heads) and of keys, the keys that
 * each row sees, places in the tensors. */
#ifndef BRT_OPS_ATTENTION_SIGHT_H
#define BRT_OPS_ATTENTION_SIGHT_H

#include "attention.h"
#include "attention_products.h"

#include "../base/size.h"

enum { key_tile = BRT_KEY_TILE };

typedef struct attention {
    brt_attention how;
    brt_tiles tiles;
    size_t batch, rows, dim; /* batch: rows of the batch * key heads; rows: queries * heads */
    size_t key_heads, span;  /* span: columns of the bias, or 0 */
    size_t key_rows;         /* in memory, per batch row: with the other shapes they decide how work is cut */
    size_t keys;             /* of those, the ones that any query may see */
    size_t row_tiles, key_tiles, key_chunks;
    size_t groups; /* backward tasks per batch row */
    brt_mask mask; /* of dropout */
} attention;

/* The first key that is the batch row's own. */
static inline size_t first_key(const attention *a, size_t batch_row)
{
    return a->how.first_key ? brt_min_size(a->how.first_key[batch_row / a->key_heads], a->keys) : 0;
}

/* One past the last key that a row sees. */
static inline size_t end_key(const attention *a, size_t row)
{
    size_t end = a->how.first_query + row / a->how.heads + 1 - a->how.strict;
    return a->how.causal ? brt_min_size(a->keys, end) : a->keys;
}

/* The first key that a row's window lets it see. */
static inline size_t begin_key(const attention *a, size_t row)
{
    size_t beyond = a->how.first_query + row / a->how.heads + 1 - a->how.strict;
    return a->how.causal && a->how.window && beyond > a->how.window ? beyond - a->how.window : 0;
}

/* Rows [first, first + count) of a batch row. */
typedef struct tile {
    size_t batch_row, first, count;
} tile;

/* A tile of keys: index in the batch row's transposed tiles, range of keys. */
typedef struct key_range {
    size_t index, first, count;
} key_range;

/* The first tile of keys that some row of the tile sees. */
static inline size_t first_index(const attention *a, const tile *t)
{
    size_t first = first_key(a, t->batch_row), begin = begin_key(a, t->first);
    return begin > first ? (begin - first) / key_tile : 0;
}

/* The index-th tile of keys, as far as some row of the tile sees it; false past the last. */
static inline bool keys_at(const attention *a, const tile *t, size_t index, key_range *keys)
{
    size_t end = end_key(a, t->first + t->count - 1);
    keys->index = index;
    keys->first = first_key(a, t->batch_row) + index * key_tile;
    if (keys->first >= end)
        return false;
    keys->count = brt_min_size(key_tile, end - keys->first);
    return true;
}

/* How many of the keys each row of the tile sees, its last being the visible[i]-th; NULL when all see all. */
static inline const size_t *count_visible(const attention *a, const tile *t, const key_range *keys, size_t *visible)
{
    size_t past_keys = keys->first + keys->count;
    if (end_key(a, t->first) >= past_keys && begin_key(a, t->first + t->count - 1) < past_keys)
        return NULL;
    for (size_t i = 0; i < t->count; i++) {
        size_t end = end_key(a, t->first + i);
        bool some = end > keys->first && begin_key(a, t->first + i) < past_keys;
        visible[i] = some ? brt_min_size(end - keys->first, keys->count) : 0;
    }
    return visible;
}

/* ---- places ------------------------------------------------------------------------------------------- */

/* Of the tile's first row in query, [batch, rows, dim], and in maximum and log_sum, [batch, rows]. */
static inline size_t query_index(const attention *a, const tile *t)
{
    return (t->batch_row * a->rows + t->first) * a->dim;
}

static inline size_t row_index(const attention *a, const tile *t)
{
    return t->batch_row * a->rows + t->first;
}

/* Of the tile's i-th row in out: key heads stand beside each other there. */
static inline size_t out_index(const attention *a, const tile *t, size_t i)
{
    size_t queries = a->rows / a->how.heads, row = t->first + i, key_head = t->batch_row % a->key_heads;
    size_t query = t->batch_row / a->key_heads * queries + row / a->how.heads;
    return query * a->how.out_row + a->how.out_offset +
           (key_head * a->how.heads + row % a->how.heads) * a->how.out_head;
}

static inline size_t key_index(const attention *a, size_t batch_row, size_t key)
{
    return (batch_row * a->key_rows + key) * a->dim;
}

#endif
