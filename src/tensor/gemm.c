#include "gemm.h"

#include "../base/parallel.h"
#include "../base/size.h"
#include "../kernels/packed.h"

#include <stdint.h>
#include <stdlib.h>

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

/* Returns what is left of the room. */
static real *make_packed(brt_matrix *matrix, bool bf16, product_kind kind, real *room)
{
    packed *b = &matrix->copies[bf16][kind];
    size_t reals = packed_bytes(matrix->kernels, b, bf16) / sizeof(real);
    if (b->data)
        return room;
    b->data = room;
    repack(matrix, bf16, kind);
    return room + reals;
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

brt_status brt_matrix_enable(brt_matrix *matrix, bool bf16, bool gradients, real *room)
{
    if (bf16 && !brt_kernels_have_bf16(matrix->kernels))
        return BRT_FAIL(BRT_ERROR_UNSUPPORTED, "this processor has no products of bf16 numbers: train in f32");
    room = make_packed(matrix, bf16, x_weight_t, room);
    if (gradients)
        make_packed(matrix, bf16, dy_weight, room);
    return BRT_OK;
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
    /* Rows, or pairs, at a time: a panel of x (128 KiB on AVX-512) and the one of dy that it is multiplied with stay in
     * the second-level cache. Fewer read and write the gradient more often. */
    deepest = 512,
    task_ins = 64,      /* columns of x of a task, */
    most_panels = 64,   /* and panels of dy: the fewer tasks share the outs, the more rarely x is packed */
    tasks_each = 4,     /* for each thread, that none waits long for another */
    paired_rows = 2048, /* of both operands that are put into pairs at a time, */
    paired_outs = 4096, /* and columns of dy */
};

/* dweight[outs, ins] += dy^T x. A task is a part of the outs times a part of the ins, over all rows. In bf16 a pair of
 * rows stands where one does in f32. dy is read as it lies; packing it as well takes 5 % longer. */
typedef struct weight_product {
    const brt_kernels *kernels;
    bool bf16;
    size_t rows, outs, ins, out_parts, in_parts;
    const real *dy, *x; /* [rows, outs] and [rows, ins] */
    real *dweight;
    real *packed_x;     /* a panel for each thread, in memory that keeps its place in the second-level cache */
} weight_product;

typedef struct span {
    size_t begin, end;
} span;

/* Columns of part i of so many, in whole units: panels or, where parts are to be alike, vectors. */
static span part_of(size_t columns, size_t unit, size_t parts, size_t i)
{
    size_t units = brt_ceil_div(columns, unit);
    return (span){brt_min_size(columns, i * units / parts * unit),
                  brt_min_size(columns, (i + 1) * units / parts * unit)};
}

/* What is fetched while panel j of x is multiplied with panel i of dy: first the next panel of x, then those of dy. */
static brt_ahead next_panel(const weight_product *p, span outs, span ins, size_t row, size_t i, size_t j)
{
    size_t panel = (size_t)p->kernels->panel_columns, next_row = row + deepest;
    if (i == outs.begin)
        return (brt_ahead){j + panel < ins.end ? p->x + row * p->ins + j + panel : p->x + next_row * p->ins + ins.begin,
                           p->ins, deepest};
    if (i + panel < outs.end)
        return (brt_ahead){p->dy + row * p->outs + i + panel, p->outs, deepest};
    return (brt_ahead){p->dy + (j + panel < ins.end ? row : next_row) * p->outs + outs.begin, p->outs, deepest};
}

/* The product of panels i of dy and j of x, from `row` on. The first panel of dy packs that of x. */
static void add_product(const weight_product *p, span outs, span ins, size_t row, size_t i, size_t j, real *packed_x)
{
    const brt_kernels *kernels = p->kernels;
    size_t panel = (size_t)kernels->panel_columns, k = brt_min_size(deepest, p->rows - row);
    size_t m = brt_min_size(panel, outs.end - i), n = brt_min_size(panel, ins.end - j);
    const real *dy = p->dy + row * p->outs + i, *x = p->x + row * p->ins + j;
    real *c = p->dweight + i * p->ins + j;
    brt_ahead ahead = next_panel(p, outs, ins, row, i, j);
    if (i > outs.begin)
        multiply(kernels, p->bf16, m, n, k, dy, 1, p->outs, packed_x, c, c, p->ins, &ahead);
    else if (p->bf16)
        kernels->pack_matmul_bf16(m, n, k, as_const_pairs(dy), 1, p->outs, as_const_pairs(x), p->ins,
                                  as_pairs(packed_x), c, c, p->ins, &ahead);
    else
        kernels->pack_matmul(m, n, k, dy, 1, p->outs, x, p->ins, packed_x, c, c, p->ins, &ahead);
}

/* Reals of a panel of x. */
static size_t panel_reals(const brt_kernels *kernels)
{
    return deepest * (size_t)kernels->panel_columns;
}

static void gradient_task(void *context, size_t task, int thread)
{
    const weight_product *p = context;
    size_t panel = (size_t)p->kernels->panel_columns;
    span outs = part_of(p->outs, panel, p->out_parts, task / p->in_parts);
    span ins = part_of(p->ins, (size_t)p->kernels->lanes, p->in_parts, task % p->in_parts);
    real *packed_x = p->packed_x + (size_t)thread * panel_reals(p->kernels);
    for (size_t row = 0; row < p->rows; row += deepest)
        for (size_t j = ins.begin; j < ins.end; j += panel)
            for (size_t i = outs.begin; i < outs.end; i += panel)
                add_product(p, outs, ins, row, i, j, packed_x);
}

static void add_products(int threads, weight_product p)
{
    size_t panels = brt_ceil_div(p.outs, (size_t)p.kernels->panel_columns);
    p.in_parts = brt_ceil_div(p.ins, task_ins);
    p.out_parts = brt_max_size(brt_min_size(brt_ceil_div(tasks_each * (size_t)threads, p.in_parts), panels),
                               brt_ceil_div(panels, most_panels));
    brt_parallel_for(threads, p.out_parts * p.in_parts, gradient_task, &p);
}

/* Rows of x, x_row reals apart, as pairs. */
typedef struct pairing {
    size_t columns, x_row;
    const real *x;
    uint32_t *pairs; /* [ceil(rows / 2), columns] */
} pairing;

/* Some columns of both operands. */
typedef struct pairings {
    const brt_kernels *kernels;
    size_t rows, row_parts;
    pairing of[2];
} pairings;

static void pair_task(void *context, size_t task, int thread)
{
    const pairings *p = context;
    const pairing *of = &p->of[task / p->row_parts];
    size_t row = task % p->row_parts * rounded_rows, rows = brt_min_size(rounded_rows, p->rows - row);
    (void)thread;
    p->kernels->pair_rows(rows, of->columns, of->x + row * of->x_row, of->x_row, of->pairs + row / 2 * of->columns,
                          of->columns);
}

/* Of reals, rounded in room. */
static void add_rounded_products(int threads, const weight_product *whole, real *room)
{
    size_t outs = whole->outs, ins = whole->ins;
    for (size_t row = 0; row < whole->rows; row += paired_rows) {
        size_t rows = brt_min_size(paired_rows, whole->rows - row), pairs = brt_ceil_div(rows, 2);
        real *dy = room + pairs * ins;
        for (size_t out = 0; out < outs; out += paired_outs) {
            size_t columns = brt_min_size(paired_outs, outs - out);
            pairings both = {whole->kernels, rows, brt_ceil_div(rows, rounded_rows),
                             {{columns, outs, whole->dy + row * outs + out, as_pairs(dy)},
                              {ins, ins, whole->x + row * ins, as_pairs(room)}}};
            size_t operands = out == 0 ? 2 : 1; /* x stays for the other outs */
            brt_parallel_for(threads, operands * both.row_parts, pair_task, &both);
            weight_product p = *whole;
            p.rows = pairs;
            p.outs = columns;
            p.dy = dy;
            p.x = room;
            p.dweight += out * ins;
            add_products(threads, p);
        }
    }
}

/* A panel for each thread, then what is put into pairs. */
size_t brt_matrix_gradient_room(const brt_matrix *matrix, int threads, bool bf16, size_t rows)
{
    size_t panels = (size_t)threads * panel_reals(matrix->kernels);
    return panels + (bf16 ? brt_ceil_div(brt_min_size(rows, paired_rows), 2) *
                                (matrix->in + brt_min_size(matrix->out, paired_outs))
                          : 0);
}

static weight_product weight_product_of(const brt_matrix *matrix, bool bf16, size_t rows, const real *dy,
                                        const real *x, real *dweight, real *room)
{
    return (weight_product){.kernels = matrix->kernels,
                            .bf16 = bf16,
                            .rows = rows,
                            .outs = matrix->out,
                            .ins = matrix->in,
                            .dy = dy,
                            .x = x,
                            .dweight = dweight,
                            .packed_x = room};
}

void brt_matrix_weight_gradient(const brt_matrix *matrix, int threads, bool bf16, size_t rows, const real *dy,
                                const real *x, real *dweight, real *room)
{
    weight_product p = weight_product_of(matrix, bf16, rows, dy, x, dweight, room);
    if (bf16)
        add_rounded_products(threads, &p, room + (size_t)threads * panel_reals(matrix->kernels));
    else
        add_products(threads, p);
}

void brt_matrix_weight_gradient_of_pairs(const brt_matrix *matrix, int threads, size_t rows, const uint32_t *dy,
                                         const uint32_t *x, real *dweight, real *room)
{
    add_products(threads, weight_product_of(matrix, true, brt_ceil_div(rows, 2), (const real *)(const void *)dy,
                                            (const real *)(const void *)x, dweight, room));
}
