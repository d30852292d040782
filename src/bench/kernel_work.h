/* The kernels' benches: bench_NAME runs the kernel once and says how much work that was. */
#ifndef BRT_BENCH_KERNEL_WORK_H
#define BRT_BENCH_KERNEL_WORK_H

#include "../kernels/kernels.h"
#include "../kernels/peak.h"

enum {
    numbers = 1 << 14, /* of one array: 64 KiB, what a task of an operation handles */
    dim = 512,         /* of rows */
    rows = numbers / dim,
    head = 64, /* of heads */
    heads = numbers / head,
    tile_rows = 64, /* of a tile of attention */
    tile_keys = 128,
    classes = 256,
};

/* What kernels work on. Where a kernel adds to or overwrites what it reads, it finds its own results the next time:
 * they must stay normal numbers, because others take another time. */
typedef struct arrays {
    real a[numbers], b[numbers], c[numbers], d[numbers], e[numbers], ones[numbers];
    uint16_t bf16[2 * numbers]; /* random, of ordinary size */
    int32_t targets[numbers / classes];
} arrays;

typedef struct work {
    double flops, bytes; /* one of them is 0 */
} work;

static work products(double count)
{
    return (work){.flops = 2 * count};
}

/* `passes`: how many arrays are read or written. */
static work passes_over(double count, double passes)
{
    return (work){.bytes = count * passes * sizeof(real)};
}

/* ---- products ---------------------------------------------------------------------------------------------------- */

static work bench_matmul(const brt_kernels *kernels, arrays *x)
{
    kernels->matmul(tile_rows, tile_keys, head, x->a, head, 1, x->b, tile_keys, x->c, tile_keys, false);
    return products(tile_rows * tile_keys * head);
}

static work bench_matvec(const brt_kernels *kernels, arrays *x)
{
    kernels->matvec(1, rows, dim, x->a, dim, x->b, dim, x->c, rows, false);
    return passes_over(rows * dim, 1);
}

static work bench_matmul_bf16(const brt_kernels *kernels, arrays *x)
{
    const uint32_t *pairs = (const uint32_t *)(const void *)x->bf16;
    kernels->matmul_bf16(tile_rows, tile_keys, head / 2, pairs, head / 2, 1, pairs, tile_keys, x->c, tile_keys, false);
    return products(tile_rows * tile_keys * head);
}

static work bench_pack(const brt_kernels *kernels, arrays *x)
{
    kernels->pack(rows, dim, x->a, dim, 1, x->b);
    return passes_over(rows * dim, 2);
}

static work bench_pack_bf16(const brt_kernels *kernels, arrays *x)
{
    kernels->pack_bf16(rows, dim, x->a, dim, 1, (uint32_t *)x->bf16);
    return passes_over(rows * dim, 1.5);
}

static work bench_matmul_packed(const brt_kernels *kernels, arrays *x)
{
    kernels->matmul_packed(tile_rows, tile_keys, head, x->a, head, 1, x->b, NULL, x->c, tile_keys, NULL);
    return products(tile_rows * tile_keys * head);
}

static work bench_matmul_packed_bf16(const brt_kernels *kernels, arrays *x)
{
    const uint32_t *pairs = (const uint32_t *)(const void *)x->bf16;
    kernels->matmul_packed_bf16(tile_rows, tile_keys, head / 2, pairs, head / 2, 1, pairs, NULL, x->c, tile_keys,
                                NULL);
    return products(tile_rows * tile_keys * head);
}

static work bench_pack_matmul(const brt_kernels *kernels, arrays *x)
{
    size_t columns = (size_t)kernels->panel_columns;
    kernels->pack_matmul(tile_rows, columns, head, x->a, head, 1, x->b, columns, x->d, NULL, x->c, columns, NULL);
    return products((double)(tile_rows * columns * head));
}

static work bench_pack_matmul_bf16(const brt_kernels *kernels, arrays *x)
{
    size_t columns = (size_t)kernels->panel_columns;
    const uint32_t *pairs = (const uint32_t *)(const void *)x->bf16;
    kernels->pack_matmul_bf16(tile_rows, columns, head / 2, pairs, head / 2, 1, pairs, columns,
                              (uint32_t *)(void *)x->d, NULL, x->c, columns, NULL);
    return products((double)(tile_rows * columns * head));
}

static work bench_transpose(const brt_kernels *kernels, arrays *x)
{
    kernels->transpose(tile_keys, head, x->a, head, x->b, tile_keys);
    return passes_over(tile_keys * head, 2);
}

/* ---- along vectors ----------------------------------------------------------------------------------------------- */

static work bench_add(const brt_kernels *kernels, arrays *x)
{
    kernels->add(numbers, x->a, x->b);
    return passes_over(numbers, 3);
}

static work bench_scale(const brt_kernels *kernels, arrays *x)
{
    kernels->scale(numbers, (real)0.3, x->a, x->b);
    return passes_over(numbers, 2);
}

static work bench_scale_add(const brt_kernels *kernels, arrays *x)
{
    kernels->scale_add(numbers, (real)0.3, x->a, (real)-0.7, x->b);
    return passes_over(numbers, 3);
}

static work bench_to_bf16(const brt_kernels *kernels, arrays *x)
{
    kernels->to_bf16(numbers, x->a, (uint16_t *)(void *)x->b);
    return passes_over(numbers, 1.5);
}

static work bench_widen_bf16(const brt_kernels *kernels, arrays *x)
{
    kernels->widen_bf16(numbers, x->bf16, x->a);
    return passes_over(numbers, 1.5);
}

static work bench_to_int8(const brt_kernels *kernels, arrays *x)
{
    kernels->to_int8(heads, head, x->a, head, (int8_t *)x->b, x->c);
    return passes_over(numbers, 1.25);
}

static work bench_widen_int8(const brt_kernels *kernels, arrays *x)
{
    kernels->widen_int8(numbers, (const int8_t *)x->bf16, x->a);
    return passes_over(numbers, 1.25);
}

static work bench_panel_bf16(const brt_kernels *kernels, arrays *x)
{
    kernels->panel_bf16(1, 2 * numbers / BRT_PANEL, x->a, 2 * numbers / BRT_PANEL, x->bf16, x->b);
    return (work){.bytes = 2 * numbers * sizeof(uint16_t)};
}

static work bench_panel_int8(const brt_kernels *kernels, arrays *x)
{
    kernels->panel_int8(1, 4 * numbers / BRT_PANEL, x->a, 4 * numbers / BRT_PANEL, (const int8_t *)x->bf16, x->b);
    return (work){.bytes = 4 * numbers};
}

static work bench_scale_columns(const brt_kernels *kernels, arrays *x)
{
    kernels->scale_columns(rows, dim, x->ones, x->a, dim, x->b, dim, false);
    return passes_over(rows * dim, 2);
}

static work bench_pair_rows(const brt_kernels *kernels, arrays *x)
{
    kernels->pair_rows(tile_keys, head, x->a, head, (uint32_t *)(void *)x->b, head);
    return passes_over(tile_keys * head, 1.5);
}

static work bench_pair_rounded_rows(const brt_kernels *kernels, arrays *x)
{
    kernels->pair_rounded_rows(tile_keys, head, x->bf16, head, (uint32_t *)(void *)x->b, head);
    return passes_over(tile_keys * head, 1);
}

static work bench_sum_squares(const brt_kernels *kernels, arrays *x)
{
    double sum;
    kernels->sum_squares(numbers, x->a, &sum);
    return passes_over(numbers, 1);
}

static work bench_adam(const brt_kernels *kernels, arrays *x)
{
    /* Moments that are kept: others would shrink to nothing. */
    static const brt_adam_step step = {1, (real)1e-6, 1, 1, (real)1e-8, (real)0.01, 1, 1};
    kernels->adam(numbers, x->a, x->b, x->c, x->d, &step);
    return passes_over(numbers, 8);
}

static work bench_add_squares(const brt_kernels *kernels, arrays *x)
{
    kernels->add_squares(numbers, x->a, x->b);
    return passes_over(numbers, 3);
}

static work bench_multiply(const brt_kernels *kernels, arrays *x)
{
    kernels->multiply(numbers, 1, x->ones, x->b);
    return passes_over(numbers, 3);
}

static work bench_adafactor_scale(const brt_kernels *kernels, arrays *x)
{
    kernels->adafactor_scale(numbers, 1, x->a, x->ones);
    return passes_over(numbers, 4);
}

static work bench_momentum_step(const brt_kernels *kernels, arrays *x)
{
    kernels->momentum_step(numbers, 1, (real)1e-6, x->a, x->b, x->c);
    return passes_over(numbers, 6);
}

static work bench_relu_forward(const brt_kernels *kernels, arrays *x)
{
    kernels->relu_forward(numbers, x->a, x->b);
    return passes_over(numbers, 2);
}

static work bench_relu_backward(const brt_kernels *kernels, arrays *x)
{
    kernels->relu_backward(numbers, x->a, x->b, x->c);
    return passes_over(numbers, 3);
}

static work bench_tanh_forward(const brt_kernels *kernels, arrays *x)
{
    kernels->tanh_forward(numbers, x->a, x->b);
    return passes_over(numbers, 2);
}

static work bench_tanh_backward(const brt_kernels *kernels, arrays *x)
{
    kernels->tanh_backward(numbers, x->a, x->b, x->c);
    return passes_over(numbers, 3);
}

static work bench_silu_forward(const brt_kernels *kernels, arrays *x)
{
    kernels->silu_forward(numbers, x->a, x->b);
    return passes_over(numbers, 2);
}

static work bench_silu_backward(const brt_kernels *kernels, arrays *x)
{
    kernels->silu_backward(numbers, x->a, x->b, x->c);
    return passes_over(numbers, 3);
}

static work bench_gate_full_forward(const brt_kernels *kernels, arrays *x)
{
    kernels->gate_full_forward(numbers, x->a, x->b, x->c, x->d);
    return passes_over(numbers, 4);
}

static work bench_gate_full_backward(const brt_kernels *kernels, arrays *x)
{
    /* The three gradients go to one place. */
    kernels->gate_full_backward(numbers, x->a, x->b, x->c, x->d, x->e, x->e, x->e);
    return passes_over(numbers, 7);
}

static work bench_gate_lstm_forward(const brt_kernels *kernels, arrays *x)
{
    kernels->gate_lstm_forward(numbers, x->a, x->b, x->c, x->d, x->e);
    return passes_over(numbers, 5);
}

static work bench_gate_lstm_backward(const brt_kernels *kernels, arrays *x)
{
    kernels->gate_lstm_backward(numbers, x->a, x->b, x->c, x->d, x->ones, x->e, x->e, x->e, x->e);
    return passes_over(numbers, 9);
}

/* ---- along rows -------------------------------------------------------------------------------------------------- */

static work bench_norm_forward(const brt_kernels *kernels, arrays *x)
{
    kernels->norm_forward(rows, dim, x->a, x->d, true, (real)1e-5, x->b, x->c, x->c + rows);
    return passes_over(rows * dim, 2);
}

static work bench_norm_backward(const brt_kernels *kernels, arrays *x)
{
    kernels->norm_backward(rows, dim, x->a, x->d, true, x->d, x->d, x->b, x->c, x->e);
    return passes_over(rows * dim, 4);
}

static work bench_geglu_forward(const brt_kernels *kernels, arrays *x)
{
    kernels->geglu_forward(rows, dim / 2, x->a, x->b);
    return passes_over(rows * dim, 1.5);
}

static work bench_geglu_backward(const brt_kernels *kernels, arrays *x)
{
    kernels->geglu_backward(rows, dim / 2, x->a, x->b, x->c, x->b);
    return passes_over(rows * dim, 3);
}

static work bench_geglu_forward_bf16(const brt_kernels *kernels, arrays *x)
{
    kernels->geglu_forward_bf16(rows, dim / 2, x->bf16, (uint16_t *)(void *)x->b);
    return passes_over(rows * dim, 0.75);
}

static work bench_geglu_backward_bf16(const brt_kernels *kernels, arrays *x)
{
    kernels->geglu_backward_bf16(rows, dim / 2, x->bf16, x->a, (uint16_t *)(void *)x->b, (uint32_t *)(void *)x->c,
                                 (uint32_t *)(void *)x->d);
    return passes_over(rows * dim, 2.25);
}

static work bench_rotary_forward(const brt_kernels *kernels, arrays *x)
{
    kernels->rotary_forward(heads, head, x->a, head, x->d, x->d, x->d + head, x->b, head);
    return passes_over(heads * head, 2);
}

static work bench_rotary_backward(const brt_kernels *kernels, arrays *x)
{
    kernels->rotary_backward(heads, head, x->a, head, x->d, x->d, x->d + head, x->b, head, x->c, head, x->e);
    return passes_over(heads * head, 3);
}

static work bench_unit_forward(const brt_kernels *kernels, arrays *x)
{
    kernels->unit_forward(rows, dim / head, head, x->a, x->d, (real)1e-6, x->b);
    return passes_over(rows * dim, 2);
}

static work bench_unit_backward(const brt_kernels *kernels, arrays *x)
{
    kernels->unit_backward(rows, dim / head, head, x->a, x->d, (real)1e-6, x->b, x->c, x->e);
    return passes_over(rows * dim, 3);
}

static work bench_softmax_step(const brt_kernels *kernels, arrays *x)
{
    kernels->softmax_step(tile_rows, tile_keys, (real)0.125, NULL, x->a, tile_keys, x->d, x->d + tile_rows, head, x->b,
                          head, NULL);
    return passes_over(tile_rows * tile_keys, 2);
}

static work bench_exp_sum(const brt_kernels *kernels, arrays *x)
{
    real sum;
    kernels->exp_sum(numbers, (real)0.125, 1, x->a, &sum);
    return passes_over(numbers, 2);
}

static work bench_exp_below(const brt_kernels *kernels, arrays *x)
{
    kernels->exp_below(tile_rows, tile_keys, (real)0.125, x->ones, x->a, tile_keys, x->b, tile_keys, x->d);
    return passes_over(tile_rows * tile_keys, 2);
}

static work bench_collect_least(const brt_kernels *kernels, arrays *x)
{
    size_t count;
    kernels->collect_least(numbers, (real)1.49, x->a, (uint32_t *)(void *)x->b, &count); /* the largest 1 % */
    return passes_over(numbers, 1);
}

static work bench_drop(const brt_kernels *kernels, arrays *x)
{
    brt_mask mask = {.key = {1, 2}, .least = 1u << 28, .kept = 1};
    kernels->drop(tile_rows, tile_keys, &mask, 0, 2 * tile_keys, x->a, tile_keys);
    return passes_over(tile_rows * tile_keys, 2);
}

static work bench_softmax_tile_backward_bf16(const brt_kernels *kernels, arrays *x)
{
    uint32_t *pairs = (uint32_t *)(void *)x->c;
    kernels->softmax_tile_backward_bf16(tile_rows, tile_keys, (real)0.125, NULL, x->a, x->d, x->d, x->d, x->b,
                                        tile_keys, pairs, pairs + tile_rows / 2 * tile_keys,
                                        (uint16_t *)(void *)x->e);
    return passes_over(tile_rows * tile_keys, 3.5);
}

static work bench_softmax_tile_backward(const brt_kernels *kernels, arrays *x)
{
    kernels->softmax_tile_backward(tile_rows, tile_keys, (real)0.125, NULL, x->a, tile_keys, x->d, x->d, x->d, x->b,
                                   tile_keys);
    return passes_over(tile_rows * tile_keys, 4);
}

static work bench_cross_entropy(const brt_kernels *kernels, arrays *x)
{
    kernels->cross_entropy(numbers / classes, classes, x->targets, -1, true, 1, x->a, x->b);
    return passes_over(numbers, 2);
}

static work bench_ema_forward(const brt_kernels *kernels, arrays *x)
{
    kernels->ema_forward(rows, dim, x->d, x->a, x->b, x->c);
    return passes_over(rows * dim, 3);
}

static work bench_ema_backward(const brt_kernels *kernels, arrays *x)
{
    /* The gradients of z and of the state go to one place. */
    kernels->ema_backward(rows, dim, x->d, x->a, x->b, x->d, x->c, x->c, x->e);
    return passes_over(rows * dim, 5);
}

static work bench_peak(const brt_kernels *kernels, arrays *x)
{
    enum { length = 1000 };
    kernels->peak(length, x->a);
    return products((double)length * BRT_PEAK_CHAINS * kernels->lanes);
}

#endif
