#include "quantized.h"

#include "../base/parallel.h"
#include "../base/size.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *const names[] = {[BRT_F32] = "f32", [BRT_BF16] = "bf16", [BRT_INT8] = "int8"};
static const char *const dtypes[] = {[BRT_F32] = "F32", [BRT_BF16] = "BF16", [BRT_INT8] = "I8"};

bool brt_precision_parse(const char *name, brt_precision *out)
{
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(name, names[i]) == 0) {
            *out = (brt_precision)i;
            return true;
        }
    return false;
}

const char *brt_precision_name(brt_precision precision)
{
    return names[precision];
}

const char *brt_precision_dtype(brt_precision precision)
{
    return dtypes[precision];
}

/* ---- memory -------------------------------------------------------------------------------------------- */

size_t brt_quantized_item(const brt_quantized *q)
{
    return q->precision == BRT_INT8 ? sizeof(int8_t) : sizeof(uint16_t);
}

static size_t padded_out(const brt_quantized *q)
{
    return brt_ceil_div(q->out, q->panel) * q->panel;
}

static size_t number_bytes(const brt_quantized *q)
{
    return padded_out(q) * q->in * brt_quantized_item(q);
}

size_t brt_quantized_bytes(const brt_quantized *q)
{
    return number_bytes(q) + padded_out(q) * sizeof *q->scale;
}

brt_status brt_quantized_create(brt_quantized *q, brt_precision precision, size_t out, size_t in, size_t panel)
{
    *q = (brt_quantized){.precision = precision, .out = out, .in = in, .panel = panel};
    size_t bytes = brt_ceil_div(number_bytes(q), 64) * 64;
    q->numbers = aligned_alloc(64, bytes);
    q->scale = malloc(padded_out(q) * sizeof *q->scale);
    if (!q->numbers || !q->scale) {
        brt_quantized_close(q);
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for a weight of %zu x %zu", out, in);
    }
    memset(q->numbers, 0, bytes);
    for (size_t i = 0; i < padded_out(q); i++)
        q->scale[i] = 1;
    return BRT_OK;
}

void brt_quantized_close(brt_quantized *q)
{
    free(q->numbers);
    free(q->scale);
    q->numbers = NULL;
    q->scale = NULL;
}

void brt_quantized_copy(const brt_quantized *from, brt_quantized *to)
{
    memcpy(to->numbers, from->numbers, number_bytes(from));
    memcpy(to->scale, from->scale, padded_out(from) * sizeof *from->scale);
}

/* ---- rows ---------------------------------------------------------------------------------------------- */

enum { piece = 256 }; /* numbers of an output that are gathered at a time */

/* Numbers of one output, from some input on. */
typedef struct stretch {
    unsigned char *place;
    size_t item, step; /* bytes of a number, and from one to the next */
} stretch;

static stretch stretch_at(const brt_quantized *q, size_t output, size_t first)
{
    size_t item = brt_quantized_item(q), index = (output / q->panel * q->in + first) * q->panel + output % q->panel;
    return (stretch){(unsigned char *)q->numbers + index * item, item, q->panel * item};
}

static void scatter(stretch s, size_t count, const void *row)
{
    const unsigned char *from = row;
    for (size_t i = 0; i < count; i++)
        memcpy(s.place + i * s.step, from + i * s.item, s.item);
}

static void gather(stretch s, size_t count, void *row)
{
    unsigned char *to = row;
    if (s.step == s.item)
        memcpy(to, s.place, count * s.item);
    else
        for (size_t i = 0; i < count; i++)
            memcpy(to + i * s.item, s.place + i * s.step, s.item);
}

void brt_quantized_set_row(brt_quantized *q, size_t output, const void *row)
{
    scatter(stretch_at(q, output, 0), q->in, row);
}

void brt_quantized_get_row(const brt_quantized *q, size_t output, void *row)
{
    gather(stretch_at(q, output, 0), q->in, row);
}

bool brt_quantized_round_row(brt_quantized *q, const brt_kernels *kernels, size_t output, const real *weights,
                             void *room)
{
    double squares;
    kernels->sum_squares(q->in, weights, &squares);
    if (!isfinite(squares))
        return false;
    if (q->precision == BRT_BF16)
        kernels->to_bf16(q->in, weights, room);
    else
        kernels->to_int8(1, q->in, weights, q->in, room, &q->scale[output]);
    brt_quantized_set_row(q, output, room);
    return true;
}

/* y = x, numbers of q's kind */
static void widen(const brt_quantized *q, const brt_kernels *kernels, size_t count, const void *x, real *y)
{
    if (q->precision == BRT_BF16)
        kernels->widen_bf16(count, x, y);
    else
        kernels->widen_int8(count, x, y);
}

void brt_quantized_widen_row(const brt_quantized *q, const brt_kernels *kernels, size_t output, real *weights)
{
    uint16_t numbers[piece];
    for (size_t first = 0; first < q->in; first += piece) {
        size_t count = brt_min_size(piece, q->in - first);
        gather(stretch_at(q, output, first), count, numbers);
        widen(q, kernels, count, numbers, weights + first);
    }
    kernels->scale(q->in, q->scale[output], weights, weights);
}

/* ---- products ------------------------------------------------------------------------------------------ */

enum {
    /* Up to so many rows weights are widened in registers, for each tile of rows anew; from there on, into memory. */
    few_rows = 16,
    row_tile = 128,    /* of a task: their sums and a panel's piece stay in the second-level cache */
    panel_piece = 256, /* inputs of a panel widened at a time: 64 KiB */
};

typedef struct product {
    const brt_quantized *q;
    const brt_kernels *kernels;
    size_t rows, row_tiles, panels;
    const real *x;
    real *y;
    bool accumulate;
} product;

static const void *panel_at(const brt_quantized *q, size_t panel, size_t first)
{
    return (const unsigned char *)q->numbers + (panel * q->in + first) * BRT_PANEL * brt_quantized_item(q);
}

/* sums[rows, BRT_PANEL] = x[rows, in] times a panel */
static void multiply_few(const product *p, size_t panel, size_t rows, const real *x, real *sums)
{
    const brt_quantized *q = p->q;
    if (q->precision == BRT_BF16)
        p->kernels->panel_bf16(rows, q->in, x, q->in, panel_at(q, panel, 0), sums);
    else
        p->kernels->panel_int8(rows, q->in, x, q->in, panel_at(q, panel, 0), sums);
}

static void multiply_many(const product *p, size_t panel, size_t rows, const real *x, real *sums)
{
    const brt_quantized *q = p->q;
    real widened[panel_piece * BRT_PANEL];
    for (size_t first = 0; first < q->in; first += panel_piece) {
        size_t depth = brt_min_size(panel_piece, q->in - first);
        widen(q, p->kernels, depth * BRT_PANEL, panel_at(q, panel, first), widened);
        p->kernels->matmul(rows, BRT_PANEL, depth, x + first, q->in, 1, widened, BRT_PANEL, sums, BRT_PANEL, first > 0);
    }
}

/* Consecutive tasks take the same panel. */
static void product_task(void *context, size_t task, int thread)
{
    const product *p = context;
    const brt_quantized *q = p->q;
    size_t panel = task / p->row_tiles, first = task % p->row_tiles * row_tile, output = panel * BRT_PANEL;
    size_t rows = brt_min_size(row_tile, p->rows - first);
    real sums[row_tile * BRT_PANEL];
    (void)thread;
    (p->rows <= few_rows ? multiply_few : multiply_many)(p, panel, rows, p->x + first * q->in, sums);
    p->kernels->scale_columns(rows, brt_min_size(BRT_PANEL, q->out - output), q->scale + output, sums, BRT_PANEL,
                              p->y + first * q->out + output, q->out, p->accumulate);
}

void brt_quantized_forward(const brt_quantized *q, const brt_kernels *kernels, int threads, size_t rows, const real *x,
                           real *y, bool accumulate)
{
    product p = {.q = q,
                 .kernels = kernels,
                 .rows = rows,
                 .row_tiles = brt_ceil_div(rows, row_tile),
                 .panels = brt_ceil_div(q->out, BRT_PANEL),
                 .x = x,
                 .y = y,
                 .accumulate = accumulate};
    brt_parallel_for(threads, p.panels * p.row_tiles, product_task, &p);
}
