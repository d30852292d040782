#include "gemm.h"

#include "../base/parallel.h"
#include "../base/size.h"
#include "../kernels/packed.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* The right operand [inner, columns] of a product, packed: cut along the inner index into blocks (inner_step), each of
 * them in panels. In bf16 a pair of rows stands where one does in f32. */
typedef struct packed {
    size_t inner, columns;
    real *data; /* NULL: not wanted */
} packed;

typedef enum product_kind {
    x_weight_t, /* forward: times weight^T [in, out] */
    dy_weight,  /* gradient of the input: times weight [out, in] */
} product_kind;

struct brt_matrix {
    const brt_kernels *kernels;
    size_t out, in;
    const real *weight;
    packed copies[2][2]; /* by bf16 or not, and by kind */
};

/* ---- either type -------------------------------------------------------------------------------------------- */

/* Pairs of bf16 numbers take the place of reals. */
static uint32_t *as_pairs(real *data)
{
    return (uint32_t *)(void *)data;
}

static const uint32_t *as_const_pairs(const real *data)
{
    return (const uint32_t *)(const void *)data;
}

/* Rows that so many rows become, when packed. */
static size_t packed_rows(bool bf16, size_t rows)
{
    return bf16 ? brt_ceil_div(rows, 2) : rows;
}

static void pack(const brt_kernels *kernels, bool bf16, size_t k, size_t n, const real *b, size_t b_row,
                 size_t b_column, real *panels)
{
    if (bf16)
        kernels->pack_bf16(k, n, b, b_row, b_column, as_pairs(panels));
    else
        kernels->pack(k, n, b, b_row, b_column, panels);
}

/* k counts packed rows. */
static void multiply(const brt_kernels *kernels, bool bf16, size_t m, size_t n, size_t k, const real *a, size_t a_row,
                     size_t a_column, const real *panels, const real *added, real *c, size_t c_row,
                     const brt_ahead *ahead)
{
    if (bf16)
        kernels->matmul_packed_bf16(m, n, k, as_const_pairs(a), a_row, a_column, as_const_pairs(panels), added, c,
                                    c_row, ahead);
    else
        kernels->matmul_packed(m, n, k, a, a_row, a_column, panels, added, c, c_row, ahead);
}

void brt_round_rows(const brt_kernels *kernels, size_t rows, size_t columns, const real *x, size_t x_stride,
                    uint16_t *rounded)
{
    size_t row = brt_bf16_row(columns);
    for (size_t r = 0; r < rows; r++, x += x_stride, rounded += row) {
        rounded[row - 1] = 0;
        kernels->to_bf16(columns, x, rounded);
    }
}

/* ---- packed weights ------------------------------------------------------------------------------------------ */

enum {
    /* Packed rows of a block: its panels (192 KiB on AVX-512) and as much of the left operand stay in the second-level
     * cache. Larger blocks read and write the result more rarely. */
    largest_inner = 768,
};

/* Rows of each block but the last: as few blocks as can be, all alike, and no pair of rows in two of them. */
static size_t inner_step(const packed *b, bool bf16)
{
    size_t blocks = brt_ceil_div(packed_rows(bf16, b->inner), largest_inner);
    return brt_ceil_div(b->inner, 2 * blocks) * 2;
}

/* Where the block that begins with this row is. */
static size_t block_offset(const brt_kernels *kernels, const packed *b, bool bf16, size_t row)
{
    return packed_rows(bf16, row) * brt_round_to_vectors((size_t)kernels->lanes, b->columns);
}

static size_t packed_bytes(const brt_kernels *kernels, const packed *b, bool bf16)
{
    return brt_ceil_div(block_offset(kernels, b, bf16, b->inner) * sizeof(real), 64) * 64;
}

static void repack(const brt_matrix *matrix, bool bf16, product_kind kind)
{
    const packed *b = &matrix->copies[bf16][kind];
    size_t row = kind == x_weight_t ? 1 : matrix->in, column = kind == x_weight_t ? matrix->in : 1;
    size_t step = inner_step(b, bf16);
    for (size_t i = 0; b->data && i < b->inner; i += step) {
        size_t k = brt_min_size(step, b->inner - i);
        pack(matrix->kernels, bf16, k, b->columns, matrix->weight + i * row, row, column,
             b->data + block_offset(matrix->kernels, b, bf16, i));
    }
}

static brt_status make_packed(brt_matrix *matrix, bool bf16, product_kind kind)
{
    packed *b = &matrix->copies[bf16][kind];
    if (b->data)
        return BRT_OK;
    b->data = aligned_alloc(64, packed_bytes(matrix->kernels, b, bf16));
    if (!b->data)
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for a packed weight of %zu x %zu", matrix->out, matrix->in);
    memset(b->data, 0, packed_bytes(matrix->kernels, b, bf16));
    repack(matrix, bf16, kind);
    return BRT_OK;
}

brt_status brt_matrix_create(brt_matrix **out, const brt_kernels *kernels, size_t rows, size_t columns,
                             const real *weight)
{
    brt_matrix *matrix = calloc(1, sizeof *matrix);
    if (!matrix)
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for a weight of %zu x %zu", rows, columns);
    *matrix = (brt_matrix){.kernels = kernels, .out = rows, .in = columns, .weight = weight};
    for (int bf16 = 0; bf16 < 2; bf16++) {
        matrix->copies[bf16][x_weight_t] = (packed){.inner = columns, .columns = rows};
        matrix->copies[bf16][dy_weight] = (packed){.inner = rows, .columns = columns};
    }
    *out = matrix;
    return BRT_OK;
}

brt_status brt_matrix_enable(brt_matrix *matrix, bool bf16, bool gradients)
{
    if (bf16 && !brt_kernels_have_bf16(matrix->kernels))
        return BRT_FAIL(BRT_ERROR_UNSUPPORTED, "this processor has no products of bf16 numbers: train in f32");
    BRT_TRY(make_packed(matrix, bf16, x_weight_t));
    return gradients ? make_packed(matrix, bf16, dy_weight) : BRT_OK;
}

void brt_matrix_refresh(brt_matrix *matrix)
{
    for (int bf16 = 0; bf16 < 2; bf16++) {
        repack(matrix, bf16, x_weight_t);
        repack(matrix, bf16, dy_weight);
    }
}

void brt_matrix_close(brt_matrix *matrix)
{
    if (!matrix)
        return;
    for (int bf16 = 0; bf16 < 2; bf16++) {
        free(matrix->copies[bf16][x_weight_t].data);
        free(matrix->copies[bf16][dy_weight].data);
    }
    free(matrix);
}

size_t brt_matrix_bytes(const brt_kernels *kernels, size_t out, size_t in)
{
    return packed_bytes(kernels, &(packed){.inner = in, .columns = out}, false);
}

size_t brt_matrix_enabling_bytes(const brt_matrix *matrix, bool bf16, bool gradients)
{
    const packed *forward = &matrix->copies[bf16][x_weight_t], *backward = &matrix->copies[bf16][dy_weight];
    return (forward->data ? 0 : packed_bytes(matrix->kernels, forward, bf16)) +
           (backward->data || !gradients ? 0 : packed_bytes(matrix->kernels, backward, bf16));
}

/* ---- rows times a weight --------------------------------------------------------------------------------------- */

enum {
    largest_rows = 128, /* of a task */
    smallest_rows = 32, /* below it a weight's bytes decide, not the arithmetic */
    rounded_rows = 64,  /* put into bf16 at a time */
    enough_tasks = 8,   /* to keep every core busy to the end */
    widest_panel = 64,  /* of any instruction set */
};

typedef struct row_product {
    const brt_kernels *kernels;
    const packed *b;
    bool bf16;
    size_t rows, row_step, column_step, column_parts; /* a task is row_step rows times column_step columns */
    brt_operand x;                                       /* [rows, inner] */
    const real *added;                                /* [rows, columns]: y, or another, or NULL */
    real *y;                                          /* [rows, columns], */
    uint16_t *rounded;                                /* or this in bf16, and nothing added */
} row_product;

/* What a task computes of y. */
typedef struct row_part {
    size_t row, rows, column, columns;
} row_part;

static size_t rows_of_task(size_t rows)
{
    size_t step = largest_rows;
    while (step > smallest_rows && rows / step < enough_tasks)
        step /= 2;
    return step;
}

/* Rows alone are cut where they are many, else whole panels of columns, too. One thread takes as many rows as it
 * can. */
static void cut(row_product *p, int threads)
{
    size_t panel = (size_t)p->kernels->panel_columns, panels = brt_ceil_div(p->b->columns, panel);
    p->row_step = threads > 1 ? rows_of_task(p->rows) : largest_rows;
    size_t row_parts = brt_ceil_div(p->rows, p->row_step);
    size_t column_parts = threads > 1 && row_parts < enough_tasks ? brt_ceil_div(2 * enough_tasks, row_parts) : 1;
    p->column_step = brt_ceil_div(panels, column_parts) * panel;
    p->column_parts = brt_ceil_div(p->b->columns, p->column_step);
}

/* A part of y[rows, columns] = added + x times the panels of the block that begins with row i. */
static void multiply_block(const row_product *p, const row_part *part, size_t i, const real *added, real *y,
                           size_t y_row)
{
    const packed *b = p->b;
    size_t rows = part->rows, columns = part->columns, inner = b->inner, pairs = brt_ceil_div(inner, 2);
    size_t length = brt_min_size(inner_step(b, p->bf16), inner - i), k = packed_rows(p->bf16, length);
    const real *panels = b->data + block_offset(p->kernels, b, p->bf16, i) + part->column * k;
    brt_ahead next = {panels + columns * k, (size_t)p->kernels->panel_columns, k};
    if (p->x.bf16) {
        const real *x = (const real *)(const void *)p->x.bf16 + part->row * pairs + i / 2;
        multiply(p->kernels, true, rows, columns, k, x, pairs, 1, panels, added, y, y_row, &next);
        return;
    }
    const real *x = p->x.reals + part->row * inner + i;
    if (!p->bf16) {
        multiply(p->kernels, false, rows, columns, k, x, inner, 1, panels, added, y, y_row, NULL);
        return;
    }
    real rounded[rounded_rows * largest_inner];
    for (size_t r = 0; r < rows; r += rounded_rows) {
        size_t count = brt_min_size(rounded_rows, rows - r), at = r * y_row;
        brt_round_rows(p->kernels, count, length, x + r * inner, inner, (uint16_t *)(void *)rounded);
        multiply(p->kernels, true, count, columns, k, rounded, k, 1, panels, added ? added + at : NULL, y + at, y_row,
                 NULL);
    }
}

/* added, as y, has rows of y_row reals. */
static void multiply_part(const row_product *p, const row_part *part, const real *added, real *y, size_t y_row)
{
    for (size_t i = 0; i < p->b->inner; i += inner_step(p->b, p->bf16))
        multiply_block(p, part, i, i > 0 ? y : added, y, y_row);
}

/* Some panels at a time, so that what is rounded is still in the caches. */
static void multiply_and_round(const row_product *p, const row_part *part)
{
    enum { width = 4 * widest_panel };
    size_t end = part->column + part->columns, row = brt_bf16_row(p->b->columns);
    real y[largest_rows * width];
    for (row_part some = *part; some.column < end; some.column += some.columns) {
        some.columns = brt_min_size(width, end - some.column);
        multiply_part(p, &some, NULL, y, width);
        for (size_t r = 0; r < some.rows; r++)
            p->kernels->to_bf16(some.columns, y + r * width, p->rounded + (some.row + r) * row + some.column);
    }
}

static void row_task(void *context, size_t task, int thread)
{
    const row_product *p = context;
    row_part part = {.row = task / p->column_parts * p->row_step, .column = task % p->column_parts * p->column_step};
    size_t columns = p->b->columns, at = part.row * columns + part.column;
    part.rows = brt_min_size(p->row_step, p->rows - part.row);
    part.columns = brt_min_size(p->column_step, columns - part.column);
    (void)thread;
    if (p->rounded)
        multiply_and_round(p, &part);
    else
        multiply_part(p, &part, p->added ? p->added + at : NULL, p->y + at, columns);
}

static void multiply_rows(int threads, row_product *p)
{
    if (p->rows == 0) /* of tokens that might have been chosen */
        return;
    cut(p, threads);
    brt_parallel_for(threads, brt_ceil_div(p->rows, p->row_step) * p->column_parts, row_task, p);
}

void brt_matrix_forward(const brt_matrix *matrix, int threads, bool bf16, size_t rows, brt_operand x,
                        const real *added, real *y)
{
    multiply_rows(threads, &(row_product){.kernels = matrix->kernels,
                                          .b = &matrix->copies[bf16][x_weight_t],
                                          .bf16 = bf16,
                                          .rows = rows,
                                          .x = x,
                                          .added = added,
                                          .y = y});
}

void brt_matrix_forward_rounded(const brt_matrix *matrix, int threads, size_t rows, const uint16_t *x, uint16_t *y)
{
    multiply_rows(threads, &(row_product){.kernels = matrix->kernels,
                                          .b = &matrix->copies[true][x_weight_t],
                                          .bf16 = true,
                                          .rows = rows,
                                          .x = {.bf16 = x},
                                          .rounded = y});
}

void brt_matrix_input_gradient(const brt_matrix *matrix, int threads, bool bf16, size_t rows, brt_operand dy, real *dx,
                               bool accumulate)
{
    multiply_rows(threads, &(row_product){.kernels = matrix->kernels,
                                          .b = &matrix->copies[bf16][dy_weight],
                                          .bf16 = bf16,
                                          .rows = rows,
                                          .x = dy,
                                          .added = accumulate ? dx : NULL,
                                          .y = dx});
}

/* ---- gradients of weights ------------------------------------------------------------------------------------ */

enum {
    largest_outs = 256, /* of a task: so often a packed row of x is used */
    smallest_outs = 128,
    smallest_ins = 128,
    packed_dy = 1 << 16, /* reals of dy that are packed at a time: 256 KiB of the second-level cache */
};

/* A task is a part of the outs times a part of the ins, over all rows, row_step at a time. */
typedef struct weight_product {
    const brt_matrix *matrix;
    bool bf16;
    size_t rows, row_step, out_parts, in_parts;
    brt_operand dy, x; /* [rows, out] and [rows, in] */
    real *dweight;
    real *room; /* [threads, room_size] */
} weight_product;

/* Of a task: packed rows of dy, and of a panel of x. */
static size_t room_size(const brt_kernels *kernels)
{
    return packed_dy + packed_dy / smallest_outs * (size_t)kernels->panel_columns;
}

size_t brt_matrix_gradient_room(const brt_matrix *matrix, int threads)
{
    return (size_t)threads * room_size(matrix->kernels);
}

/* The parts are of whole panels, as many as can be in each, and an even number of tasks, for two threads to share. */
static void cut_weight(weight_product *p)
{
    size_t out = p->matrix->out, in = p->matrix->in, panel = (size_t)p->matrix->kernels->panel_columns;
    size_t most = out * in < enough_tasks * largest_outs * largest_outs ? smallest_outs : largest_outs;
    size_t panels = brt_ceil_div(out, panel);
    p->out_parts = brt_ceil_div(panels, most / panel);
    p->row_step = packed_dy / most * (p->bf16 ? 2 : 1);
    p->in_parts = brt_min_size(brt_ceil_div(enough_tasks, p->out_parts), brt_ceil_div(in, smallest_ins));
    if (p->out_parts * p->in_parts % 2 && p->out_parts < panels)
        p->out_parts++;
}

/* Where part i of so many begins: a whole panel. */
static size_t part_begin(size_t columns, size_t panel, size_t parts, size_t i)
{
    return brt_min_size(columns, i * brt_ceil_div(columns, panel) / parts * panel);
}

/* The numbers from this row and column on; a row is of so many. */
static brt_operand part_of(brt_operand x, size_t row, size_t columns, size_t column)
{
    return x.bf16 ? (brt_operand){.bf16 = x.bf16 + row * brt_bf16_row(columns) + column}
                  : (brt_operand){.reals = x.reals + row * columns + column};
}

/* dweight[outs, ins] += dy[rows, outs]^T x[rows, ins]: what a task does at a time. */
typedef struct gradient_part {
    size_t outs, ins, rows;
    brt_operand dy, x;
    real *dweight;
} gradient_part;

static brt_ahead rows_ahead(brt_operand x, size_t columns, size_t rows)
{
    return x.bf16 ? (brt_ahead){(const real *)(const void *)x.bf16, brt_bf16_row(columns) / 2, rows}
                  : (brt_ahead){x.reals, columns, rows};
}

/* What is fetched while panel j of x is multiplied with panel i of dy: first the next panel of x, then panel j of the
 * next rows of dy. */
static brt_ahead next_source(const weight_product *p, const gradient_part *part, size_t i, size_t j)
{
    size_t out = p->matrix->out, in = p->matrix->in, panel = (size_t)p->matrix->kernels->panel_columns;
    if (i == 0)
        return rows_ahead(j + panel < part->ins ? part_of(part->x, 0, in, j + panel)
                                                : part_of(part->x, part->rows, in, 0),
                          in, part->rows);
    if (i == panel && j < part->outs)
        return rows_ahead(part_of(part->dy, part->rows, out, j), out, part->rows);
    return (brt_ahead){0};
}

/* Adds the product of a panel of dy, packed, and one of x. The first panel of dy packs that of x. */
static void multiply_panels(const weight_product *p, const gradient_part *part, size_t i, size_t j, const real *dy,
                            real *x)
{
    const brt_kernels *kernels = p->matrix->kernels;
    size_t in = p->matrix->in, panel = (size_t)kernels->panel_columns, k = packed_rows(p->bf16, part->rows);
    size_t outs = brt_min_size(panel, part->outs - i), ins = brt_min_size(panel, part->ins - j);
    size_t width = brt_panel_width(panel, (size_t)kernels->lanes, part->outs - i);
    real *dweight = part->dweight + i * in + j;
    brt_operand source = part_of(part->x, 0, in, j);
    brt_ahead ahead = next_source(p, part, i, j);
    dy += i * k;
    if (i > 0)
        multiply(kernels, p->bf16, outs, ins, k, dy, 1, width, x, dweight, dweight, in, &ahead);
    else if (source.bf16)
        kernels->pack_matmul_pairs(outs, ins, part->rows, as_const_pairs(dy), 1, width, source.bf16, brt_bf16_row(in),
                                   as_pairs(x), dweight, dweight, in, &ahead);
    else if (p->bf16)
        kernels->pack_matmul_bf16(outs, ins, part->rows, as_const_pairs(dy), 1, width, source.reals, in, as_pairs(x),
                                  dweight, dweight, in, &ahead);
    else
        kernels->pack_matmul(outs, ins, part->rows, dy, 1, width, source.reals, in, x, dweight, dweight, in, &ahead);
}

static void gradient_task(void *context, size_t task, int thread)
{
    const weight_product *p = context;
    const brt_kernels *kernels = p->matrix->kernels;
    size_t out = p->matrix->out, in = p->matrix->in, panel = (size_t)kernels->panel_columns;
    size_t out_part = task / p->in_parts, in_part = task % p->in_parts;
    size_t first_out = part_begin(out, panel, p->out_parts, out_part);
    size_t first_in = part_begin(in, panel, p->in_parts, in_part);
    size_t outs = part_begin(out, panel, p->out_parts, out_part + 1) - first_out;
    size_t ins = part_begin(in, panel, p->in_parts, in_part + 1) - first_in;
    real *dy = p->room + (size_t)thread * room_size(kernels), *x = dy + packed_dy;
    for (size_t row = 0; row < p->rows; row += p->row_step) {
        gradient_part part = {.outs = outs,
                              .ins = ins,
                              .rows = brt_min_size(p->row_step, p->rows - row),
                              .dy = part_of(p->dy, row, out, first_out),
                              .x = part_of(p->x, row, in, first_in),
                              .dweight = p->dweight + first_out * in + first_in};
        if (part.dy.bf16)
            kernels->pack_pairs(part.rows, part.outs, part.dy.bf16, brt_bf16_row(out), as_pairs(dy));
        else
            pack(kernels, p->bf16, part.rows, part.outs, part.dy.reals, out, 1, dy);
        for (size_t j = 0; j < part.ins; j += panel)
            for (size_t i = 0; i < part.outs; i += panel)
                multiply_panels(p, &part, i, j, dy, x);
    }
}

void brt_matrix_weight_gradient(const brt_matrix *matrix, int threads, bool bf16, size_t rows, brt_operand dy,
                                brt_operand x, real *dweight, real *room)
{
    weight_product p = {
        .matrix = matrix, .bf16 = bf16, .rows = rows, .dy = dy, .x = x, .dweight = dweight, .room = room};
    cut_weight(&p);
    brt_parallel_for(threads, p.out_parts * p.in_parts, gradient_task, &p);
}
