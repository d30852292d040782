/* Products with weights, of operands that are rounded to bf16 before or on the way. */
#include "normal_draws.h"

#include "tensor/gemm.h"

#include <string.h>

/* A weight of several blocks of panels, whose last rows and columns are odd. */
enum { rows = 70, outs = 150, ins = 3101 };

typedef struct operands {
    float *weight, *x, *dy;
    uint16_t *rounded_x, *rounded_dy;
    uint32_t *x_pairs, *dy_pairs;
} operands;

static operands draw_operands(const brt_kernels *kernels)
{
    operands o = {.weight = draw(outs * ins, 0, 1), .x = draw(rows * ins, 1, 1), .dy = draw(rows * outs, 2, 1)};
    o.rounded_x = make(rows * brt_bf16_row(ins) * sizeof *o.rounded_x);
    o.rounded_dy = make(rows * brt_bf16_row(outs) * sizeof *o.rounded_dy);
    brt_round_rows(kernels, rows, ins, o.x, ins, o.rounded_x);
    brt_round_rows(kernels, rows, outs, o.dy, outs, o.rounded_dy);
    o.x_pairs = make(rows / 2 * ins * sizeof *o.x_pairs);
    o.dy_pairs = make(rows / 2 * outs * sizeof *o.dy_pairs);
    kernels->pair_rows(rows, ins, o.x, ins, o.x_pairs, ins);
    kernels->pair_rows(rows, outs, o.dy, outs, o.dy_pairs, outs);
    return o;
}

static void close_operands(operands *o)
{
    free(o->weight);
    free(o->x);
    free(o->dy);
    free(o->rounded_x);
    free(o->rounded_dy);
    free(o->x_pairs);
    free(o->dy_pairs);
}

typedef struct products {
    float y[rows * outs], dx[rows * ins], dweight[outs * ins];
    uint16_t rounded_y[rows * outs];
} products;

static products *multiply(const brt_matrix *matrix, const operands *o, int threads, bool rounded_before)
{
    products *p = make(sizeof *p);
    float *room = make(brt_matrix_gradient_room(matrix, threads, true, rows) * sizeof *room);
    brt_operand x = {.reals = o->x}, dy = {.reals = o->dy};
    if (rounded_before) {
        x = (brt_operand){.bf16 = o->rounded_x};
        dy = (brt_operand){.bf16 = o->rounded_dy};
    }
    brt_matrix_forward(matrix, threads, true, rows, x, NULL, p->y);
    brt_matrix_forward_rounded(matrix, threads, rows, o->rounded_x, p->rounded_y);
    brt_matrix_input_gradient(matrix, threads, true, rows, dy, p->dx, false);
    if (rounded_before)
        brt_matrix_weight_gradient_of_pairs(matrix, threads, rows, o->dy_pairs, o->x_pairs, p->dweight, room);
    else
        brt_matrix_weight_gradient(matrix, threads, true, rows, o->dy, o->x, p->dweight, room);
    free(room);
    return p;
}

/* A matrix and the memory of its packed weights. */
typedef struct packed_matrix {
    brt_matrix *matrix;
    float *memory;
} packed_matrix;

static packed_matrix open_matrix(const brt_kernels *kernels, const float *weight, bool bf16)
{
    packed_matrix p;
    assert_int_equal(brt_matrix_create(&p.matrix, kernels, outs, ins, weight), BRT_OK);
    p.memory = make(brt_matrix_enabling_bytes(p.matrix, bf16, true));
    assert_int_equal(brt_matrix_enable(p.matrix, bf16, true, p.memory), BRT_OK);
    return p;
}

static void close_matrix(packed_matrix p)
{
    brt_matrix_close(p.matrix);
    free(p.memory);
}

/* Products have the same bits whenever their operands are rounded, and by any number of threads; a result in bf16 is
 * the one in f32, rounded. */
static void rows_may_be_rounded_before(void **state)
{
    const brt_kernels *kernels;
    (void)state;
    assert_int_equal(brt_kernels_select(&kernels), BRT_OK);
    if (!brt_kernels_have_bf16(kernels))
        skip();
    operands o = draw_operands(kernels);
    packed_matrix p = open_matrix(kernels, o.weight, true);
    products *first = multiply(p.matrix, &o, 1, false);
    uint16_t *rounded = make(sizeof first->rounded_y);
    brt_round_rows(kernels, rows, outs, first->y, outs, rounded);
    assert_memory_equal(first->rounded_y, rounded, sizeof first->rounded_y);
    for (int threads = 1; threads <= 3; threads++) {
        products *other = multiply(p.matrix, &o, threads, true);
        assert_memory_equal(other, first, sizeof *first);
        free(other);
    }
    close_matrix(p);
    close_operands(&o);
    free(rounded);
    free(first);
}

/* What is added may be elsewhere or in the result's place. */
static void adds_from_anywhere(void **state)
{
    const brt_kernels *kernels;
    (void)state;
    assert_int_equal(brt_kernels_select(&kernels), BRT_OK);
    operands o = draw_operands(kernels);
    packed_matrix p = open_matrix(kernels, o.weight, false);
    float *added = draw(rows * outs, 3, 1), *y = make(rows * outs * sizeof *y);
    float *in_place = make(rows * outs * sizeof *y);
    memcpy(in_place, added, rows * outs * sizeof *y);
    brt_matrix_forward(p.matrix, 2, false, rows, (brt_operand){.reals = o.x}, added, y);
    brt_matrix_forward(p.matrix, 1, false, rows, (brt_operand){.reals = o.x}, in_place, in_place);
    assert_memory_equal(y, in_place, rows * outs * sizeof *y);
    close_matrix(p);
    close_operands(&o);
    free(added);
    free(y);
    free(in_place);
}

/* More outs than are put into pairs at a time: their gradient has the bits of all pairs made before. */
static void many_outs_are_paired_in_parts(void **state)
{
    enum { few_rows = 11, pairs = 6, many_outs = 4200, few_ins = 19 };
    const brt_kernels *kernels;
    brt_matrix *matrix;
    (void)state;
    assert_int_equal(brt_kernels_select(&kernels), BRT_OK);
    if (!brt_kernels_have_bf16(kernels))
        skip();
    float *weight = draw(many_outs * few_ins, 0, 1), *x = draw(few_rows * few_ins, 1, 1);
    float *dy = draw(few_rows * many_outs, 2, 1);
    uint32_t *x_pairs = make(pairs * few_ins * sizeof *x_pairs), *dy_pairs = make(pairs * many_outs * sizeof *dy_pairs);
    float *at_once = make(many_outs * few_ins * sizeof(float)), *in_parts = make(many_outs * few_ins * sizeof(float));
    assert_int_equal(brt_matrix_create(&matrix, kernels, many_outs, few_ins, weight), BRT_OK);
    float *room = make(brt_matrix_gradient_room(matrix, 2, true, few_rows) * sizeof *room);
    kernels->pair_rows(few_rows, few_ins, x, few_ins, x_pairs, few_ins);
    kernels->pair_rows(few_rows, many_outs, dy, many_outs, dy_pairs, many_outs);
    brt_matrix_weight_gradient_of_pairs(matrix, 1, few_rows, dy_pairs, x_pairs, at_once, room);
    brt_matrix_weight_gradient(matrix, 2, true, few_rows, dy, x, in_parts, room);
    assert_memory_equal(at_once, in_parts, many_outs * few_ins * sizeof(float));
    brt_matrix_close(matrix);
    free(weight);
    free(x);
    free(dy);
    free(x_pairs);
    free(dy_pairs);
    free(at_once);
    free(in_parts);
    free(room);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_may_be_rounded_before),
        cmocka_unit_test(adds_from_anywhere),
        cmocka_unit_test(many_outs_are_paired_in_parts),
    };
    return cmocka_run_group_tests_name("products", tests, NULL, NULL);
}
