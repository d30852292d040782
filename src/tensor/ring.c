#define _GNU_SOURCE
#include "ring.h"

#include "../base/memory.h"
#include "../base/parallel.h"
#include "../base/size.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

size_t brt_ring_item_bytes(brt_ring_type type)
{
    return type == BRT_RING_F32 ? sizeof(real) : type == BRT_RING_BF16 ? sizeof(uint16_t) : sizeof(int8_t);
}

static size_t vector_count(const brt_ring_shape *shape)
{
    return shape->rows * shape->heads * shape->slots;
}

static size_t data_bytes(const brt_ring_shape *shape)
{
    return vector_count(shape) * shape->dim * brt_ring_item_bytes(shape->type);
}

static size_t scale_bytes(const brt_ring_shape *shape)
{
    return shape->type == BRT_RING_INT8 ? vector_count(shape) * sizeof(real) : 0;
}

uint64_t brt_ring_bytes(const brt_ring_shape *shape)
{
    return (shape->keys_only ? 1 : 2) * (uint64_t)(data_bytes(shape) + scale_bytes(shape));
}

static bool is_addressable(const brt_ring_shape *shape)
{
    size_t bytes;
    return brt_mul_ok(shape->rows, shape->heads, &bytes) && brt_mul_ok(bytes, shape->dim, &bytes) &&
           brt_mul_ok(bytes, shape->slots, &bytes) && brt_mul_ok(bytes, 4 * sizeof(real), &bytes);
}

/* Huge pages where the system has them: a memory is read through faster than small ones can be looked up. */
static void *allocate(size_t bytes)
{
    enum { page = 4096 };
    size_t size = brt_ceil_div(bytes, page) * page;
    void *memory = aligned_alloc(page, size);
    if (memory)
        madvise(memory, size, MADV_HUGEPAGE);
    return memory;
}

static bool allocate_stored(brt_stored *stored, const brt_ring_shape *shape)
{
    stored->data = allocate(data_bytes(shape));
    if (scale_bytes(shape))
        stored->scale = allocate(scale_bytes(shape));
    return stored->data && (stored->scale || !scale_bytes(shape));
}

brt_status brt_ring_create(brt_ring *ring, const brt_ring_shape *shape)
{
    *ring = (brt_ring){.shape = *shape};
    if (!is_addressable(shape))
        return BRT_FAIL(BRT_ERROR_ARGUMENT, "a routed memory of %zu positions in %zu rows is larger than a machine can "
                        "address",
                        shape->slots, shape->rows);
    BRT_TRY(brt_memory_check(brt_ring_bytes(shape), "a routed memory"));
    ring->room = calloc(shape->rows * shape->heads * 2 * shape->dim, sizeof *ring->room);
    if (!ring->room || !allocate_stored(&ring->key, shape) ||
        (!shape->keys_only && !allocate_stored(&ring->value, shape))) {
        brt_ring_close(ring);
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for a routed memory of %zu positions in %zu rows",
                        shape->slots, shape->rows);
    }
    return BRT_OK;
}

void brt_ring_close(brt_ring *ring)
{
    free(ring->key.data);
    free(ring->key.scale);
    free(ring->value.data);
    free(ring->value.scale);
    free(ring->room);
    *ring = (brt_ring){0};
}

/* ---- writing ----------------------------------------------------------------------------------------------- */

size_t brt_ring_index(const brt_ring *ring, size_t row, size_t head, uint64_t position)
{
    const brt_ring_shape *shape = &ring->shape;
    size_t slot = (size_t)(position % shape->slots), unit = slot / shape->unit;
    return ((unit * shape->rows + row) * shape->heads + head) * shape->unit + slot % shape->unit;
}

static void store(const brt_ring *ring, const brt_kernels *kernels, const brt_stored *to, size_t index, const real *x)
{
    size_t dim = ring->shape.dim;
    switch (ring->shape.type) {
    case BRT_RING_F32:
        memcpy((real *)to->data + index * dim, x, dim * sizeof *x);
        break;
    case BRT_RING_BF16:
        kernels->to_bf16(dim, x, (uint16_t *)to->data + index * dim);
        break;
    case BRT_RING_INT8:
        kernels->to_int8(1, dim, x, dim, (int8_t *)to->data + index * dim, to->scale + index);
        break;
    }
}

typedef struct job {
    brt_ring *ring;
    const brt_kernels *kernels;
    const real *raw;
} job;

/* One head of one row. */
static void append_task(void *context, size_t task, int thread)
{
    const job *j = context;
    const brt_ring *ring = j->ring;
    size_t heads = ring->shape.heads, dim = ring->shape.dim, unit = ring->shape.unit;
    size_t row = task / heads, head = task % heads;
    real *key = ring->room + task * 2 * dim, *ones = key + dim;
    (void)thread;
    for (size_t i = 0; i < dim; i++)
        ones[i] = 1;
    for (size_t i = 0; i < unit; i++) {
        const real *raw = j->raw + ((row * unit + i) * 2 * heads + head) * dim;
        size_t index = brt_ring_index(ring, row, head, ring->end + i);
        j->kernels->rotary_forward(1, dim, raw, dim, ring->shape.as_they_are ? NULL : ones, NULL, NULL, key, dim);
        store(ring, j->kernels, &ring->key, index, key);
        if (!ring->shape.keys_only)
            store(ring, j->kernels, &ring->value, index, raw + heads * dim);
    }
}

void brt_ring_append(brt_ring *ring, const brt_kernels *kernels, int threads, const real *raw)
{
    job j = {ring, kernels, raw};
    brt_parallel_for(threads, ring->shape.rows * ring->shape.heads, append_task, &j);
    ring->end += ring->shape.unit;
}

/* ---- in files ---------------------------------------------------------------------------------------------- */

static brt_ring_array numbers_of(const brt_ring *ring, size_t units, const char *name, void *data)
{
    static const char *const dtypes[] = {[BRT_RING_F32] = "F32", [BRT_RING_BF16] = "BF16", [BRT_RING_INT8] = "I8"};
    const brt_ring_shape *s = &ring->shape;
    return (brt_ring_array){.name = name,
                            .dtype = dtypes[s->type],
                            .dims = 5,
                            .shape = {units, s->rows, s->heads, s->unit, s->dim},
                            .data = data,
                            .bytes = units * s->rows * s->heads * s->unit * s->dim * brt_ring_item_bytes(s->type)};
}

static brt_ring_array scales_of(const brt_ring *ring, size_t units, const char *name, real *scale)
{
    const brt_ring_shape *s = &ring->shape;
    return (brt_ring_array){.name = name,
                            .dtype = "F32",
                            .dims = 4,
                            .shape = {units, s->rows, s->heads, s->unit},
                            .data = scale,
                            .bytes = units * s->rows * s->heads * s->unit * sizeof(real)};
}

size_t brt_ring_arrays(const brt_ring *ring, uint64_t end, brt_ring_array arrays[BRT_RING_ARRAYS])
{
    size_t units = (end < ring->shape.slots ? (size_t)end : ring->shape.slots) / ring->shape.unit, count = 0;
    const brt_stored *const stored[] = {&ring->key, &ring->value};
    static const char *const names[] = {"key", "value"}, *const scales[] = {"key_scale", "value_scale"};
    for (size_t i = 0; i < (ring->shape.keys_only ? 1 : 2); i++) {
        arrays[count++] = numbers_of(ring, units, names[i], stored[i]->data);
        if (stored[i]->scale)
            arrays[count++] = scales_of(ring, units, scales[i], stored[i]->scale);
    }
    return count;
}

/* ---- reading ----------------------------------------------------------------------------------------------- */

size_t brt_ring_stretch(const brt_ring *ring, uint64_t position, size_t count)
{
    return brt_min_size(count, ring->shape.unit - (size_t)(position % ring->shape.unit));
}

brt_vectors brt_ring_read(const brt_ring *ring, const brt_kernels *kernels, const brt_stored *stored, size_t index,
                          size_t count, real *room)
{
    size_t first = index * ring->shape.dim, reals = count * ring->shape.dim;
    switch (ring->shape.type) {
    case BRT_RING_BF16:
        kernels->widen_bf16(reals, (const uint16_t *)stored->data + first, room);
        return (brt_vectors){room, NULL};
    case BRT_RING_INT8:
        kernels->widen_int8(reals, (const int8_t *)stored->data + first, room);
        return (brt_vectors){room, stored->scale + index};
    case BRT_RING_F32:
        break;
    }
    return (brt_vectors){(const real *)stored->data + first, NULL};
}

void brt_ring_fetch(const brt_ring *ring, const brt_stored *stored, size_t index, size_t count)
{
    enum { line_bytes = 64 };
    size_t bytes = ring->shape.dim * brt_ring_item_bytes(ring->shape.type);
    const char *first = (const char *)stored->data + index * bytes;
    for (const char *line = first; line < first + count * bytes; line += line_bytes)
        __builtin_prefetch(line, 0, 3);
}

void brt_ring_copy(const brt_ring *ring, const brt_kernels *kernels, const brt_stored *stored, size_t row, size_t head,
                   uint64_t position, real *out)
{
    brt_vectors vector =
        brt_ring_read(ring, kernels, stored, brt_ring_index(ring, row, head, position), 1, out);
    if (vector.data != out)
        memcpy(out, vector.data, ring->shape.dim * sizeof *out);
    if (vector.scale)
        kernels->scale(ring->shape.dim, *vector.scale, out, out);
}

void brt_ring_gather(const brt_ring *ring, const brt_kernels *kernels, const brt_stored *stored, size_t row,
                     size_t head, uint64_t begin, const uint32_t *list, size_t count, real *out)
{
    enum { ahead = 8 };
    for (size_t i = 0; i < count; i++) {
        if (i + ahead < count)
            brt_ring_fetch(ring, stored, brt_ring_index(ring, row, head, begin + list[i + ahead]), 1);
        brt_ring_copy(ring, kernels, stored, row, head, begin + list[i], out + i * ring->shape.dim);
    }
}
