/* Attention, forward and backward, against its formula in double; its independence of the number of threads. */
#include "attention_cases.h"

#include "base/rng.h"
#include "kernels/kernels.h"
#include "ops/attention.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

/* Largest difference over largest value: sums of at most 512 products and an exponential in float; 1e-13 in the build
 * with double; in bf16 operands are off by up to 0.4 %, and scores are sums of them in an exponential. */
static double tolerance(bool bf16)
{
    return bf16 ? 2e-2 : sizeof(real) == sizeof(float) ? 2e-6 : 1e-13;
}

static void assert_ok(brt_status status)
{
    if (status != BRT_OK)
        fail_msg("%s: %s", brt_status_name(status), brt_last_error());
}

/* ---- values ------------------------------------------------------------------------------------------- */

static double *zeros(size_t count)
{
    double *x = calloc(count, sizeof *x);
    assert_non_null(x);
    return x;
}

/* Values that a float holds exactly, so that both sides compute the same thing. */
static double *draw(size_t count, uint64_t stream)
{
    double *x = zeros(count);
    for (size_t i = 0; i < count; i++)
        x[i] = (double)(float)brt_rng_normal(1, stream, i);
    return x;
}

static brt_dropout dropout_of(const attention_case *c)
{
    return (brt_dropout){.rate = c->dropout, .seed = 1, .stream = 2, .index = 3};
}

/* 1 everywhere without dropout. */
static double *make_mask(const attention_case *c)
{
    brt_dropout how = dropout_of(c);
    uint32_t words[4];
    brt_rng_words(how.seed, how.stream, how.index, words);
    brt_mask mask = {{words[0], words[1]}, (uint32_t)(how.rate * 0x1p32), (real)(1 / (1 - how.rate))};
    size_t count = case_mask_count(c);
    double *x = zeros(count);
    for (size_t i = 0; i < count; i++) {
        real element = 1;
        brt_kernels_at(0)->drop(1, 1, &mask, (uint32_t)i, 0, &element, 1);
        x[i] = (double)element;
    }
    return x;
}

static attention_values make_values(const attention_case *c)
{
    size_t queries = case_query_count(c), keys = case_key_count(c);
    attention_values v = {.query = draw(queries, 1),
                          .key = draw(keys, 2),
                          .value = draw(keys, 3),
                          .bias = draw(case_bias_count(c), 5),
                          .out = zeros(queries),
                          .log_sum = zeros(case_row_count(c)),
                          .mask = make_mask(c),
                          .dout = draw(queries, 4),
                          .dlog_sum = draw(case_row_count(c), 6),
                          .dquery = zeros(queries),
                          .dkey = zeros(keys),
                          .dvalue = zeros(keys),
                          .dbias = zeros(case_bias_count(c))};
    for (size_t i = 0; i < queries; i++)
        v.query[i] *= 2; /* sharper weights */
    return v;
}

static void free_values(attention_values *v)
{
    free(v->query), free(v->key), free(v->value), free(v->bias), free(v->out), free(v->log_sum);
    free(v->mask);
    free(v->dout), free(v->dlog_sum), free(v->dquery), free(v->dkey), free(v->dvalue), free(v->dbias);
}

static void expect_close(const char *name, const char *what, size_t count, const real *got, const double *want,
                         bool bf16)
{
    double most = 0, difference = 0;
    for (size_t i = 0; i < count; i++) {
        most = fmax(most, fabs(want[i]));
        double d = fabs((double)got[i] - want[i]);
        difference = d > difference || isnan(d) ? d : difference;
    }
    if (!(difference <= tolerance(bf16) * (1 + most)))
        fail_msg("%s: %s differs by %g (largest value %g)", name, what, difference, most);
}

/* ---- the operation on a tape ----------------------------------------------------------------------------- */

/* `out` has more columns than this attention writes: per head `gap` of another's after its own. */
enum { offset = 3, gap = 2 };

typedef struct results {
    real *out, *log_sum, *dquery, *dkey, *dvalue, *dbias;
} results;

typedef struct run {
    const attention_case *c;
    const attention_values *values;
    real *query, *key, *value, *bias, *wide_out, *wide_dout, *dlog_sum; /* as the operation reads and writes them */
    results results;
    bool recording, bf16;
} run;

static size_t out_row(const attention_case *c)
{
    return offset + case_key_heads(c) * c->heads * (c->dim + gap);
}

/* A loss whose gradient is given: the second half of a dot product. */
static void write_gradient(brt_tape *tape, brt_node *node)
{
    const run *r = *(run **)node->attributes;
    const real *const gradients[] = {r->wide_dout, r->dlog_sum};
    for (size_t i = 0; i < 2 && node->in[i]; i++) {
        brt_gradient gradient = brt_gradient_open(tape, node->in[i]);
        if (gradient.data)
            memcpy(gradient.data, gradients[i], node->in[i]->count * sizeof(real));
        brt_gradient_close(tape, node->in[i], gradient);
    }
}

static void read_out(brt_tape *tape, brt_node *node)
{
    const run *r = *(run **)node->attributes;
    (void)tape;
    memcpy(r->wide_out, node->in[0]->data, node->in[0]->count * sizeof(real));
    if (node->in[1])
        memcpy(r->results.log_sum, node->in[1]->data, node->in[1]->count * sizeof(real));
}

static const brt_op loss = {.name = "loss", .forward = read_out, .backward = write_gradient, .starts_backward = true};

static void play(brt_tape *tape, run *r)
{
    const attention_case *c = r->c;
    brt_tensor *query = brt_tape_external(tape, r->query, r->recording ? r->results.dquery : NULL,
                                          BRT_SHAPE(case_batch(c), c->queries, c->heads, c->dim));
    brt_tensor *key = brt_tape_external(tape, r->key, r->recording ? r->results.dkey : NULL,
                                        BRT_SHAPE(case_batch(c), c->keys, c->dim));
    brt_tensor *value = brt_tape_external(tape, r->value, r->recording ? r->results.dvalue : NULL,
                                          BRT_SHAPE(case_batch(c), c->keys, c->dim));
    brt_tensor *out = brt_tape_tensor(tape, BRT_SHAPE(c->batch, c->queries, out_row(c)));
    brt_tensor *bias = brt_tape_external(tape, r->bias, r->recording ? r->results.dbias : NULL,
                                         BRT_SHAPE(case_key_heads(c) * c->heads, case_span(c)));
    brt_tensor *log_sum = brt_tape_tensor(tape, BRT_SHAPE(case_batch(c), c->queries, c->heads));
    brt_attention how = {.key_heads = c->key_heads,
                         .heads = c->heads,
                         .scale = 1 / (real)sqrt((double)c->dim),
                         .causal = c->causal,
                         .first_query = c->first_query,
                         .strict = c->strict,
                         .window = c->window,
                         .bias = c->biased ? bias : NULL,
                         .log_sum_exp = c->biased ? log_sum : NULL,
                         .first_key = case_first_key(c),
                         .dropout = dropout_of(c),
                         .out_row = out_row(c),
                         .out_offset = offset,
                         .out_head = c->dim + gap};
    brt_op_attention(tape, query, key, value, &how, out);
    brt_tensor *sum = brt_tape_tensor(tape, BRT_SHAPE(1));
    brt_tape_push(tape, &(brt_node){.op = &loss, .in = {out, how.log_sum_exp}, .out = {sum},
    .attributes = &r}, sizeof r);
    if (r->recording)
        brt_tape_backward(tape);
    else
        brt_tape_reset(tape);
}

static real *converted(size_t count, const double *x)
{
    real *y = malloc(count * sizeof *y);
    assert_non_null(y);
    for (size_t i = 0; i < count; i++)
        y[i] = (real)x[i];
    return y;
}

static real *zero_reals(size_t count)
{
    real *y = calloc(count, sizeof *y);
    assert_non_null(y);
    return y;
}

/* Where an element of [batch, key_heads, queries, heads, dim] is in the wide tensor. */
static size_t wide_index(const attention_case *c, size_t i)
{
    size_t d = i % c->dim, h = i / c->dim % c->heads, query = i / c->dim / c->heads;
    size_t t = query % c->queries, key_head = query / c->queries % case_key_heads(c);
    size_t row = query / c->queries / case_key_heads(c);
    return (row * c->queries + t) * out_row(c) + offset + (key_head * c->heads + h) * (c->dim + gap) + d;
}

static results attend(const attention_case *c, const attention_values *values, const brt_kernels *kernels, int threads,
                      bool recording, bool bf16)
{
    size_t queries = case_query_count(c), keys = case_key_count(c), wide = c->batch * c->queries * out_row(c);
    run r = {.c = c,
             .values = values,
             .query = converted(queries, values->query),
             .key = converted(keys, values->key),
             .value = converted(keys, values->value),
             .bias = converted(case_bias_count(c), values->bias),
             .wide_out = zero_reals(wide),
             .wide_dout = zero_reals(wide),
             .dlog_sum = converted(case_row_count(c), values->dlog_sum),
             .results = {zero_reals(queries), zero_reals(case_row_count(c)), zero_reals(queries), zero_reals(keys),
                         zero_reals(keys), zero_reals(case_bias_count(c))},
             .recording = recording,
             .bf16 = bf16};
    for (size_t i = 0; i < queries; i++)
        r.wide_dout[wide_index(c, i)] = (real)values->dout[i];
    brt_tape *tape;
    assert_ok(brt_tape_create(&tape, kernels, threads));
    brt_tape_record(tape, recording);
    if (bf16)
        brt_tape_use_bf16(tape);
    play(tape, &r);
    assert_ok(brt_tape_commit(tape));
    play(tape, &r);
    assert_ok(brt_tape_status(tape));
    brt_tape_close(tape);
    for (size_t i = 0; i < queries; i++)
        r.results.out[i] = r.wide_out[wide_index(c, i)];
    free(r.query), free(r.key), free(r.value), free(r.bias), free(r.wide_out), free(r.wide_dout), free(r.dlog_sum);
    return r.results;
}

static void free_results(results *r)
{
    free(r->out), free(r->log_sum), free(r->dquery), free(r->dkey), free(r->dvalue), free(r->dbias);
}

/* ---- tests -------------------------------------------------------------------------------------------------- */

/* The sum's logarithm: the same infinity where nothing was seen. */
static void expect_log_sums(const attention_case *c, const real *got, const double *want, bool bf16)
{
    for (size_t i = 0; c->biased && i < case_row_count(c); i++) {
        bool same = isinf(want[i]) ? (double)got[i] == want[i]
                                   : fabs((double)got[i] - want[i]) <= tolerance(bf16) * (1 + fabs(want[i]));
        if (!same)
            fail_msg("%s: log-sum-exp %zu is %g, not %g", c->name, i, (double)got[i], want[i]);
    }
}

static void check_case(const attention_case *c, const brt_kernels *kernels, bool bf16)
{
    attention_values values = make_values(c);
    attend_plainly(c, &values);
    results with = attend(c, &values, kernels, 2, true, bf16);
    results without = attend(c, &values, kernels, 2, false, bf16);
    expect_close(c->name, "out", case_query_count(c), with.out, values.out, bf16);
    expect_close(c->name, "out (inference)", case_query_count(c), without.out, values.out, false);
    expect_log_sums(c, with.log_sum, values.log_sum, bf16);
    expect_log_sums(c, without.log_sum, values.log_sum, false);
    expect_close(c->name, "dquery", case_query_count(c), with.dquery, values.dquery, bf16);
    expect_close(c->name, "dkey", case_key_count(c), with.dkey, values.dkey, bf16);
    expect_close(c->name, "dvalue", case_key_count(c), with.dvalue, values.dvalue, bf16);
    expect_close(c->name, "dbias", case_bias_count(c), with.dbias, values.dbias, bf16);
    free_results(&with);
    free_results(&without);
    free_values(&values);
}

static void test_formula(void **state)
{
    const brt_kernels *kernels;
    (void)state;
    for (size_t set = 0; (kernels = brt_kernels_at(set)) != NULL; set++)
        for (size_t i = 0; i < attention_case_count; i++)
            check_case(&attention_cases[i], kernels, false);
}

/* Every set has the products, with the instruction or without. */
static void test_bf16(void **state)
{
    const brt_kernels *kernels;
    (void)state;
    for (size_t set = 0; (kernels = brt_kernels_at(set)) != NULL; set++)
        for (size_t i = 0; i < attention_case_count; i++)
            check_case(&attention_cases[i], kernels, true);
}

static void expect_same(const attention_case *c, const char *what, size_t count, const real *a, const real *b)
{
    if (memcmp(a, b, count * sizeof *a) != 0)
        fail_msg("%s: %s depends on the number of threads", c->name, what);
}

static void compare_threads(const attention_case *c, const brt_kernels *kernels, bool recording, bool bf16)
{
    attention_values values = make_values(c);
    results one = attend(c, &values, kernels, 1, recording, bf16);
    for (int threads = 2; threads <= 3; threads++) {
        results more = attend(c, &values, kernels, threads, recording, bf16);
        expect_same(c, "out", case_query_count(c), one.out, more.out);
        expect_same(c, "dquery", case_query_count(c), one.dquery, more.dquery);
        expect_same(c, "dkey", case_key_count(c), one.dkey, more.dkey);
        expect_same(c, "dvalue", case_key_count(c), one.dvalue, more.dvalue);
        expect_same(c, "dbias", case_bias_count(c), one.dbias, more.dbias);
        expect_same(c, "log-sum-exp", case_row_count(c), one.log_sum, more.log_sum);
        free_results(&more);
    }
    free_results(&one);
    free_values(&values);
}

static void test_threads(void **state)
{
    const brt_kernels *kernels;
    (void)state;
    assert_ok(brt_kernels_select(&kernels));
    for (size_t i = 0; i < attention_case_count; i++) {
        compare_threads(&attention_cases[i], kernels, true, false);
        compare_threads(&attention_cases[i], kernels, true, true);
        compare_threads(&attention_cases[i], kernels, false, false);
    }
}

/* Keys that no query sees may hold anything (in f32: see attention_products.h). */
static void test_unseen_keys(void **state)
{
    const attention_case c = {.name = "unseen keys", .batch = 2, .queries = 20, .keys = 150, .heads = 2,
                              .dim = 16, .causal = true, .first_query = 70, .first_key = {10, 40}};
    const brt_kernels *kernels;
    (void)state;
    assert_ok(brt_kernels_select(&kernels));
    attention_values values = make_values(&c);
    attend_plainly(&c, &values);
    for (size_t row = 0; row < c.batch; row++)
        for (size_t j = 0; j < c.keys; j++)
            for (size_t d = 0; d < c.dim && !case_sees(&c, row, c.queries - 1, j); d++)
                values.key[(row * c.keys + j) * c.dim + d] = values.value[(row * c.keys + j) * c.dim + d] = (double)NAN;
    results r = attend(&c, &values, kernels, 2, true, false);
    expect_close(c.name, "out", case_query_count(&c), r.out, values.out, false);
    expect_close(c.name, "dquery", case_query_count(&c), r.dquery, values.dquery, false);
    expect_close(c.name, "dkey", case_key_count(&c), r.dkey, values.dkey, false);
    expect_close(c.name, "dvalue", case_key_count(&c), r.dvalue, values.dvalue, false);
    free_results(&r);
    free_values(&values);
}

static void expect_zero(const attention_case *c, const char *what, size_t count, const real *x)
{
    for (size_t i = 0; i < count; i++)
        if (x[i] != 0)
            fail_msg("%s: %s has %g at %zu", c->name, what, (double)x[i], i);
}

/* A query that sees one key does not care for its score: the gradient is 0, not nearly 0. */
static void test_one_key(void **state)
{
    const attention_case cases[] = {{.name = "one key", .batch = 2, .queries = 20, .keys = 1, .heads = 3, .dim = 21},
                                    {.name = "one key is left", .batch = 2, .queries = 70, .keys = 5, .heads = 3,
                                     .dim = 16, .first_key = {4, 4}},
                                    {.name = "the first query", .batch = 2, .queries = 20, .keys = 200,
                                     .heads = 3, .dim = 16, .causal = true, .first_query = 4, .first_key = {4, 4}}};
    const brt_kernels *kernels;
    (void)state;
    for (size_t set = 0; (kernels = brt_kernels_at(set)) != NULL; set++)
        for (size_t n = 0; n < sizeof cases / sizeof cases[0]; n++) {
            const attention_case *c = &cases[n];
            attention_values values = make_values(c);
            results r = attend(c, &values, kernels, 2, true, false);
            for (size_t row = 0; row < c->batch; row++)
                expect_zero(c, "dquery", c->heads * c->dim, r.dquery + row * c->queries * c->heads * c->dim);
            free_results(&r);
            free_values(&values);
        }
}

/* Rounding a score of 1e13 is worth more than any exponential bears, and must cancel. */
static void test_huge_scores(void **state)
{
    const attention_case many = {.name = "huge scores", .batch = 2, .queries = 20, .keys = 150, .heads = 2,
                                 .dim = 16, .causal = true, .first_query = 130, .first_key = {0, 40}};
    const attention_case few = {.name = "huge scores of a few queries", .batch = 2, .queries = 2, .keys = 600,
                                .heads = 2, .dim = 16, .causal = true, .first_query = 590, .first_key = {0, 40}};
    const attention_case *const cases[] = {&many, &few};
    const brt_kernels *kernels;
    (void)state;
    for (size_t set = 0; (kernels = brt_kernels_at(set)) != NULL; set++)
        for (size_t n = 0; n < 2; n++) {
            const attention_case *c = cases[n];
            attention_values values = make_values(c);
            for (size_t i = 0; i < case_query_count(c); i++)
                values.query[i] *= 0x1p42;
            attend_plainly(c, &values);
            results with = attend(c, &values, kernels, 2, true, false);
            results without = attend(c, &values, kernels, 2, false, false);
            expect_close(c->name, "out", case_query_count(c), with.out, values.out, false);
            expect_close(c->name, "out (inference)", case_query_count(c), without.out, values.out, false);
            expect_close(c->name, "dquery", case_query_count(c), with.dquery, values.dquery, false);
            expect_close(c->name, "dvalue", case_key_count(c), with.dvalue, values.dvalue, false);
            free_results(&with);
            free_results(&without);
            free_values(&values);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_formula),
        cmocka_unit_test(test_bf16),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_unseen_keys),
        cmocka_unit_test(test_one_key),
        cmocka_unit_test(test_huge_scores),
    };
    return cmocka_run_group_tests_name("attention", tests, NULL, NULL);
}
