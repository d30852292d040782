/* A ring of keys and values: what the rows of a batch have read so long ago that it has left every window. All rows
 * move on together; position p lies in slot p % slots, where the newest takes the place of the oldest. A row sees a
 * range of positions that its reader knows, so letting a row's document go takes moving the range's begin and nothing
 * else, and what was read before can be read again as long as it has not been overwritten.
 *
 * Keys are kept before any scale or position, at length 1 unless they are told to stay as they are. */
#ifndef BRT_TENSOR_RING_H
#define BRT_TENSOR_RING_H

#include "../kernels/kernels.h"

typedef enum brt_ring_type { BRT_RING_F32, BRT_RING_BF16, BRT_RING_INT8 } brt_ring_type;

typedef struct brt_ring_shape {
    brt_ring_type type;
    size_t rows, heads, dim; /* of a key and of a value */
    size_t unit;             /* positions that are written together */
    size_t slots;            /* a multiple of unit */
    bool as_they_are;        /* keys of any length */
    bool keys_only;          /* no values */
} brt_ring_shape;

/* Vectors [slots / unit, rows, heads, unit, dim]: what has been written is one stretch of memory, as a file has it.
 * 8-bit numbers are multiplied by their vector's scale. */
typedef struct brt_stored {
    void *data;
    real *scale; /* [slots / unit, rows, heads, unit] of 8-bit numbers, else NULL */
} brt_stored;

typedef struct brt_ring {
    brt_ring_shape shape;
    uint64_t end; /* positions written so far: those from end - slots on are there */
    brt_stored key, value;
    real *room; /* [rows, heads, 2 * dim]: a key to be rounded, and ones */
} brt_ring;

/* Bytes a ring holds, and of one of its numbers. */
uint64_t brt_ring_bytes(const brt_ring_shape *shape);
size_t brt_ring_item_bytes(brt_ring_type type);
/* Memory of what has not been written is not used yet. */
brt_status brt_ring_create(brt_ring *ring, const brt_ring_shape *shape);
void brt_ring_close(brt_ring *ring);

/* Appends a unit: raw [rows, unit, 2 * heads * dim], the keys of all heads, then their values. */
void brt_ring_append(brt_ring *ring, const brt_kernels *kernels, int threads, const real *raw);

/* What a file needs of a ring that ends at `end`: what has been written of its arrays. */
enum { BRT_RING_ARRAYS = 4 };
typedef struct brt_ring_array {
    const char *name, *dtype; /* "key", "key_scale", ...; "BF16", ... as safetensors has them */
    size_t dims, shape[5];
    void *data;
    size_t bytes;
} brt_ring_array;
/* Returns how many there are. */
size_t brt_ring_arrays(const brt_ring *ring, uint64_t end, brt_ring_array arrays[BRT_RING_ARRAYS]);

/* How many of `count` positions from `position` on lie side by side. */
size_t brt_ring_stretch(const brt_ring *ring, uint64_t position, size_t count);
/* Of a position's vector among all. Those of the positions that lie beside it follow. */
size_t brt_ring_index(const brt_ring *ring, size_t row, size_t head, uint64_t position);
/* Vectors as they are read: [count, dim], each to be multiplied by its scale unless scale is NULL. */
typedef struct brt_vectors {
    const real *data, *scale;
} brt_vectors;
/* `room` [count, dim] is used unless they are stored as they are read. */
brt_vectors brt_ring_read(const brt_ring *ring, const brt_kernels *kernels, const brt_stored *stored, size_t index,
                          size_t count, real *room);
/* Brings vectors that will soon be read to the first-level cache. */
void brt_ring_fetch(const brt_ring *ring, const brt_stored *stored, size_t index, size_t count);
/* One vector, scaled, to out [dim]. */
void brt_ring_copy(const brt_ring *ring, const brt_kernels *kernels, const brt_stored *stored, size_t row, size_t head,
                   uint64_t position, real *out);

/* The vectors at `count` listed positions after `begin`, scaled, to out [count, dim]. */
void brt_ring_gather(const brt_ring *ring, const brt_kernels *kernels, const brt_stored *stored, size_t row,
                     size_t head, uint64_t begin, const uint32_t *list, size_t count, real *out);

#endif
