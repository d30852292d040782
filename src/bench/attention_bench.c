/* Attention alone, forward and backward, between bursts that say what the machine can do. */
#include "machine.h"

#include "../base/size.h"
#include "../ops/attention.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { rounds = 9 };

static const double round_seconds = 0.03;

/* [rows, queries, heads, dim_head] of queries; [rows, keys, dim_head] of keys and of values. */
typedef struct bench {
    brt_attention_case how;
    brt_tape *tape;
    real *data, *gradient; /* of all three, one after the other */
    size_t queries, keys;  /* numbers */
} bench;

/* ---- one pass ---------------------------------------------------------------------------------------------------- */

static void nothing(brt_tape *tape, brt_node *node)
{
    (void)tape, (void)node;
}

/* The output itself serves as its gradient: any ordinary numbers do. */
static void start_backward(brt_tape *tape, brt_node *node)
{
    brt_gradient gradient = brt_gradient_open(tape, node->in[0]);
    if (gradient.data)
        memcpy(gradient.data, node->in[0]->data, node->in[0]->count * sizeof(real));
    brt_gradient_close(tape, node->in[0], gradient);
}

static const brt_op loss = {
    .name = "loss", .forward = nothing, .backward = start_backward, .starts_backward = true};

static void pass(const bench *b)
{
    const brt_attention_case *how = &b->how;
    size_t queries = b->queries, keys = b->keys;
    real *data = b->data, *gradient = b->gradient;
    brt_tensor *query = brt_tape_external(b->tape, data, gradient,
                                          BRT_SHAPE(how->rows, how->queries, how->heads, how->dim_head));
    brt_tensor *key = brt_tape_external(b->tape, data + queries, gradient + queries,
                                        BRT_SHAPE(how->rows, how->keys, how->dim_head));
    brt_tensor *value = brt_tape_external(b->tape, data + queries + keys, gradient + queries + keys,
                                          BRT_SHAPE(how->rows, how->keys, how->dim_head));
    brt_tensor *out = brt_tape_tensor(b->tape, BRT_SHAPE(how->rows, how->queries, how->heads * how->dim_head));
    brt_attention attention = {.heads = how->heads,
                               .scale = 1 / sqrtf((float)how->dim_head),
                               .causal = how->causal,
                               .first_query = how->causal ? how->keys - how->queries : 0,
                               .out_row = how->heads * how->dim_head,
                               .out_head = how->dim_head};
    brt_op_attention(b->tape, query, key, value, &attention, out);
    brt_tape_push(b->tape, &(brt_node){.op = &loss, .in = {out}}, 0);
    brt_tape_backward(b->tape);
}

/* ---- rounds ------------------------------------------------------------------------------------------------------ */

typedef struct seconds {
    double forward, backward;
} seconds;

/* Of attention alone, so far. */
static seconds seconds_so_far(const bench *b)
{
    size_t count;
    const brt_op_time *times = brt_tape_times(b->tape, &count);
    for (size_t i = 0; i < count; i++)
        if (strcmp(times[i].name, "attention") == 0)
            return (seconds){times[i].forward_seconds, times[i].backward_seconds};
    return (seconds){0};
}

/* Of one pass: the mean of as many as last. */
static seconds run_round(const bench *b)
{
    seconds before = seconds_so_far(b), after;
    size_t passes = 0;
    do {
        pass(b);
        passes++;
        after = seconds_so_far(b);
    } while (after.forward + after.backward - before.forward - before.backward < round_seconds);
    return (seconds){(after.forward - before.forward) / (double)passes,
                     (after.backward - before.backward) / (double)passes};
}

static double seen_pairs(const brt_attention_case *how)
{
    double queries = (double)how->queries, hidden = how->causal ? (queries - 1) / 2 : 0;
    return (double)how->rows * queries * ((double)how->keys - hidden);
}

static void measure(const bench *b, int threads, bool bf16, brt_attention_speed *out)
{
    enum { peak, forward, backward, forward_fraction, backward_fraction, figures };
    double of[figures][rounds];
    double gflop = 4e-9 * seen_pairs(&b->how) * (double)(b->how.heads * b->how.dim_head);
    brt_burst burst = brt_burst_prepare(brt_tape_kernels(b->tape), threads, bf16);
    pass(b); /* warms up */
    for (size_t i = 0; i < rounds; i++) {
        of[peak][i] = brt_burst_gflops(&burst);
        seconds s = run_round(b);
        of[forward][i] = gflop / s.forward;
        of[backward][i] = 2.5 * gflop / s.backward;
        of[forward_fraction][i] = of[forward][i] / of[peak][i];
        of[backward_fraction][i] = of[backward][i] / of[peak][i];
    }
    *out = (brt_attention_speed){.peak_gflops = brt_median(of[peak], rounds),
                                 .forward_gflops = brt_median(of[forward], rounds),
                                 .backward_gflops = brt_median(of[backward], rounds),
                                 .forward_fraction = brt_median(of[forward_fraction], rounds),
                                 .backward_fraction = brt_median(of[backward_fraction], rounds)};
}

/* ---- the case ---------------------------------------------------------------------------------------------------- */

static brt_status check(const brt_attention_case *how)
{
    if (!how->rows || !how->queries || !how->keys || !how->heads || !how->dim_head)
        return BRT_FAIL(BRT_ERROR_ARGUMENT, "attention needs at least one row, query, key, head and number");
    if (strcmp(how->dtype, "f32") != 0 && strcmp(how->dtype, "bf16") != 0)
        return BRT_FAIL(BRT_ERROR_ARGUMENT, "there is no dtype \"%s\" of products; there are f32 and bf16", how->dtype);
    if (how->causal && how->keys < how->queries)
        return BRT_FAIL(BRT_ERROR_ARGUMENT, "%zu causal queries need as many keys, not %zu", how->queries, how->keys);
    return BRT_OK;
}

/* How many numbers queries and keys have. */
static bool count(bench *b)
{
    const brt_attention_case *how = &b->how;
    size_t row_numbers;
    return brt_mul_ok(how->rows, how->dim_head, &row_numbers) && brt_mul_ok(row_numbers, how->keys, &b->keys) &&
           brt_mul_ok(row_numbers, how->heads, &row_numbers) && brt_mul_ok(row_numbers, how->queries, &b->queries) &&
           b->queries <= SIZE_MAX / 32 && b->keys <= SIZE_MAX / 32;
}

static brt_status allocate(bench *b)
{
    bool possible = count(b);
    size_t total = b->queries + 2 * b->keys;
    b->data = possible ? calloc(total, sizeof *b->data) : NULL;
    b->gradient = possible ? calloc(total, sizeof *b->gradient) : NULL;
    if (!b->data || !b->gradient)
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for an attention of %zu rows", b->how.rows);
    for (size_t i = 0; i < total; i++)
        b->data[i] = (real)(i * 2654435761u % 8191) / 4096 - 1;
    return BRT_OK;
}

static brt_status prepare(bench *b, const brt_kernels *kernels, int threads, bool bf16)
{
    BRT_TRY(allocate(b));
    BRT_TRY(brt_tape_create(&b->tape, kernels, threads));
    brt_tape_record(b->tape, true);
    if (bf16)
        brt_tape_use_bf16(b->tape);
    brt_tape_take_times(b->tape);
    pass(b);
    return brt_tape_commit(b->tape);
}

brt_status brt_attention_measure(const brt_attention_case *how, brt_attention_speed *out)
{
    const brt_kernels *kernels;
    int threads;
    bool bf16 = strcmp(how->dtype, "bf16") == 0;
    BRT_TRY(check(how));
    BRT_TRY(brt_kernels_select(&kernels));
    BRT_TRY(brt_count_threads(how->threads, &threads));
    if (bf16 && !brt_kernels_have_bf16(kernels))
        return BRT_FAIL(BRT_ERROR_UNSUPPORTED, "the kernels %s have no products of bf16", kernels->isa);
    bench b = {.how = *how};
    brt_status status = prepare(&b, kernels, threads, bf16);
    if (status == BRT_OK)
        measure(&b, threads, bf16, out);
    if (status == BRT_OK)
        status = brt_tape_status(b.tape);
    brt_tape_close(b.tape);
    free(b.data);
    free(b.gradient);
    return status;
}
