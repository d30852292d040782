/* Shapes at which attention is tested, and attention as its formula, in double, over whole matrices. */
#ifndef BRT_TESTS_ATTENTION_CASES_H
#define BRT_TESTS_ATTENTION_CASES_H

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>

typedef struct attention_case {
    const char *name;
    size_t batch, queries, keys, heads, dim;
    bool causal;
    size_t first_query;
    size_t first_key[4]; /* per row; all 0: none given */
    size_t key_heads;    /* 0: 1; `heads` is of each */
    bool strict;
    size_t window;
    double dropout;
    bool biased;         /* with a bias, and the sum's logarithm as a second output */
} attention_case;

static const attention_case attention_cases[] = {
    {.name = "one of each", .batch = 1, .queries = 1, .keys = 1, .heads = 1, .dim = 1},
    {.name = "one head, square, causal", .batch = 2, .queries = 5, .keys = 5, .heads = 1, .dim = 4, .causal = true},
    {.name = "no mask", .batch = 2, .queries = 7, .keys = 13, .heads = 3, .dim = 8},
    {.name = "no mask, tiles with rests", .batch = 1, .queries = 70, .keys = 131, .heads = 2, .dim = 16},
    {.name = "memory before the block", .batch = 2, .queries = 64, .keys = 128, .heads = 2, .dim = 64,
     .causal = true, .first_query = 64},
    {.name = "borders of tiles", .batch = 1, .queries = 128, .keys = 256, .heads = 2, .dim = 32,
     .causal = true, .first_query = 128},
    {.name = "beyond the borders", .batch = 2, .queries = 65, .keys = 129, .heads = 3, .dim = 24,
     .causal = true, .first_query = 64},
    {.name = "odd head", .batch = 1, .queries = 33, .keys = 50, .heads = 3, .dim = 7,
     .causal = true, .first_query = 17},
    {.name = "rows of different age", .batch = 4, .queries = 66, .keys = 130, .heads = 2, .dim = 16,
     .causal = true, .first_query = 64, .first_key = {64, 0, 3, 63}},
    {.name = "a row that sees nothing", .batch = 3, .queries = 10, .keys = 20, .heads = 2, .dim = 8,
     .causal = true, .first_query = 4, .first_key = {0, 20, 9}},
    {.name = "first key without order", .batch = 2, .queries = 20, .keys = 300, .heads = 2, .dim = 8,
     .first_key = {299, 128}},
    {.name = "room past the last query", .batch = 2, .queries = 40, .keys = 200, .heads = 2, .dim = 16,
     .causal = true, .first_query = 30, .first_key = {5, 0}},
    {.name = "wide head", .batch = 1, .queries = 20, .keys = 70, .heads = 1, .dim = 192,
     .causal = true, .first_query = 50},
    {.name = "many heads", .batch = 1, .queries = 17, .keys = 40, .heads = 20, .dim = 8,
     .causal = true, .first_query = 23},
    {.name = "model", .batch = 1, .queries = 192, .keys = 448, .heads = 8, .dim = 64,
     .causal = true, .first_query = 256},
    {.name = "next token", .batch = 1, .queries = 1, .keys = 300, .heads = 8, .dim = 64,
     .causal = true, .first_query = 299},
    {.name = "next token, cache with room", .batch = 2, .queries = 1, .keys = 1024, .heads = 3, .dim = 20,
     .causal = true, .first_query = 512, .first_key = {0, 511}},
    {.name = "next token, one chunk", .batch = 3, .queries = 1, .keys = 64, .heads = 4, .dim = 16,
     .causal = true, .first_query = 20, .first_key = {0, 20, 21}},
    {.name = "a few tokens", .batch = 2, .queries = 8, .keys = 600, .heads = 8, .dim = 32,
     .causal = true, .first_query = 515, .first_key = {0, 300}},
    {.name = "a few tokens, no mask", .batch = 1, .queries = 5, .keys = 257, .heads = 2, .dim = 12},
    {.name = "groups of heads", .batch = 2, .queries = 40, .keys = 140, .heads = 2, .dim = 16, .causal = true,
     .first_query = 90,
     .first_key = {70, 0}, .key_heads = 3},
    {.name = "a head of keys for every head", .batch = 2, .queries = 20, .keys = 30, .heads = 1, .dim = 8,
     .causal = true, .first_query = 10,
     .key_heads = 4},
    {.name = "groups of heads, next token", .batch = 2, .queries = 1, .keys = 300, .heads = 2, .dim = 16,
     .causal = true, .first_query = 299,
     .first_key = {0, 280}, .key_heads = 2},
    {.name = "strictly before", .batch = 2, .queries = 70, .keys = 140, .heads = 2, .dim = 16, .causal = true,
     .first_query = 64,
     .first_key = {0, 64}, .strict = true},
    {.name = "strictly before, without memory", .batch = 1, .queries = 9, .keys = 9, .heads = 2, .dim = 8,
     .causal = true, .first_query = 0,
     .strict = true},
    {.name = "a window", .batch = 2, .queries = 150, .keys = 300, .heads = 2, .dim = 16, .causal = true,
     .first_query = 150,
     .first_key = {0, 149}, .window = 20},
    {.name = "a window as wide as a block", .batch = 1, .queries = 130, .keys = 260, .heads = 3, .dim = 8,
     .causal = true, .first_query = 130,
     .window = 130},
    {.name = "a window strictly before", .batch = 1, .queries = 64, .keys = 128, .heads = 2, .dim = 8,
     .causal = true, .first_query = 64,
     .key_heads = 2, .strict = true, .window = 64},
    {.name = "a window of one key", .batch = 2, .queries = 20, .keys = 200, .heads = 1, .dim = 8, .causal = true,
     .first_query = 180,
     .window = 1},
    {.name = "a window, a few tokens", .batch = 2, .queries = 3, .keys = 900, .heads = 2, .dim = 16,
     .causal = true, .first_query = 890,
     .window = 300},
    {.name = "a bias", .batch = 2, .queries = 70, .keys = 140, .heads = 2, .dim = 16, .causal = true,
     .first_query = 70,
     .first_key = {0, 70}, .biased = true},
    {.name = "a bias in a window, groups of heads", .batch = 2, .queries = 70, .keys = 140, .heads = 2, .dim = 16,
     .causal = true, .first_query = 70,
     .first_key = {0, 3}, .key_heads = 2, .strict = true, .window = 40, .biased = true},
    {.name = "a bias, next token", .batch = 2, .queries = 1, .keys = 400, .heads = 3, .dim = 16, .causal = true,
     .first_query = 399,
     .first_key = {0, 399}, .key_heads = 2, .window = 300, .biased = true},
    {.name = "a bias, rows that see nothing", .batch = 2, .queries = 10, .keys = 12, .heads = 1, .dim = 8,
     .causal = true, .first_query = 2,
     .first_key = {3, 12}, .key_heads = 2, .strict = true, .biased = true},
    {.name = "dropout", .batch = 2, .queries = 70, .keys = 270, .heads = 2, .dim = 16, .causal = true,
     .first_query = 200, .first_key = {0, 70}, .dropout = 0.3},
    {.name = "dropout, a bias in a window, groups of heads", .batch = 2, .queries = 70, .keys = 140, .heads = 2,
     .dim = 16, .causal = true, .first_query = 70, .key_heads = 2, .dropout = 0.1, .strict = true, .window = 40,
     .biased = true},
};
enum { attention_case_count = sizeof attention_cases / sizeof attention_cases[0] };

/* All as the operation has them: query [batch * key_heads, queries, heads, dim], key and value [batch * key_heads,
 * keys, dim], bias [key_heads * heads, span], log_sum [batch * key_heads, queries, heads], out as query. */
typedef struct attention_values {
    double *query, *key, *value, *bias, *out, *log_sum;
    double *mask; /* of dropout, [key_heads, queries, heads, keys] */
    double *dout, *dlog_sum, *dquery, *dkey, *dvalue, *dbias;
} attention_values;

static inline size_t case_key_heads(const attention_case *c)
{
    return c->key_heads ? c->key_heads : 1;
}

/* Rows that have keys of their own. */
static inline size_t case_batch(const attention_case *c)
{
    return c->batch * case_key_heads(c);
}

/* Columns of the bias: one more than the largest distance needs. */
static inline size_t case_span(const attention_case *c)
{
    return c->first_query + c->queries + 1;
}

static inline size_t case_bias_count(const attention_case *c)
{
    return case_key_heads(c) * c->heads * case_span(c);
}

static inline size_t case_row_count(const attention_case *c)
{
    return case_batch(c) * c->queries * c->heads;
}

static inline size_t case_query_count(const attention_case *c)
{
    return case_row_count(c) * c->dim;
}

static inline size_t case_key_count(const attention_case *c)
{
    return case_batch(c) * c->keys * c->dim;
}

static inline size_t case_mask_count(const attention_case *c)
{
    return case_key_heads(c) * c->queries * c->heads * c->keys;
}

static inline const size_t *case_first_key(const attention_case *c)
{
    bool given = false;
    for (size_t b = 0; b < c->batch; b++)
        given = given || c->first_key[b] > 0;
    return given ? c->first_key : NULL;
}

static inline bool case_sees(const attention_case *c, size_t row, size_t query, size_t key)
{
    size_t at = c->first_query + query + 1 - c->strict; /* one past the last key */
    bool near = !c->window || key + c->window >= at;
    return key >= c->first_key[row] && (!c->causal || (key < at && near));
}

static inline double product(size_t n, const double *x, const double *y)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += x[i] * y[i];
    return sum;
}

/* One query of one head: where its values are. */
typedef struct case_query {
    size_t row, query, head; /* of the batch, the time, all heads */
    size_t at, keys_at;      /* of its rows, and of its keys, in units of dim */
    size_t mask_at;          /* of its keys in the mask */
} case_query;

/* Of the bias of a key that the query sees. */
static inline size_t bias_index(const attention_case *c, const case_query *q, size_t key)
{
    return q->head * case_span(c) + c->first_query + q->query - key;
}

/* p [keys] = softmax of what the query sees; all 0 when that is nothing. Returns the sum's logarithm. */
static inline double attend_weights(const attention_case *c, const attention_values *v, const case_query *q, double *p)
{
    double most = -(double)INFINITY, sum = 0, scale = 1 / sqrt((double)c->dim);
    for (size_t j = 0; j < c->keys; j++) {
        bool sees = case_sees(c, q->row, q->query, j);
        p[j] = -(double)INFINITY;
        if (sees)
            p[j] = scale * (product(c->dim, v->query + q->at * c->dim, v->key + (q->keys_at + j) * c->dim) +
                            (c->biased ? v->bias[bias_index(c, q, j)] : 0));
        most = p[j] > most ? p[j] : most;
    }
    for (size_t j = 0; j < c->keys; j++) {
        p[j] = p[j] > -(double)INFINITY ? exp(p[j] - most) : 0;
        sum += p[j];
    }
    for (size_t j = 0; j < c->keys && sum > 0; j++)
        p[j] /= sum;
    return log(sum) + (sum > 0 ? most : 0);
}

/* Out of one query, and its part of every gradient. */
static inline void attend_query(const attention_case *c, const attention_values *v, const case_query *q,
                                const double *p)
{
    double *out = v->out + q->at * c->dim, *dquery = v->dquery + q->at * c->dim, scale = 1 / sqrt((double)c->dim);
    const double *mask = v->mask + q->mask_at, *query = v->query + q->at * c->dim, *dout = v->dout + q->at * c->dim;
    for (size_t j = 0; j < c->keys; j++)
        for (size_t d = 0; d < c->dim; d++)
            out[d] += p[j] * mask[j] * v->value[(q->keys_at + j) * c->dim + d];
    double delta = product(c->dim, dout, out) - (c->biased ? v->dlog_sum[q->at] : 0);
    for (size_t j = 0; j < c->keys; j++) {
        size_t k = (q->keys_at + j) * c->dim;
        double ds = scale * p[j] * (mask[j] * product(c->dim, dout, v->value + k) - delta);
        for (size_t d = 0; d < c->dim; d++) {
            dquery[d] += ds * v->key[k + d];
            v->dkey[k + d] += ds * query[d];
            v->dvalue[k + d] += p[j] * mask[j] * dout[d];
        }
        if (c->biased && case_sees(c, q->row, q->query, j))
            v->dbias[bias_index(c, q, j)] += ds;
    }
}

/* Adds to out and the gradients, which start at 0. */
static inline void attend_plainly(const attention_case *c, const attention_values *v)
{
    double *p = malloc(c->keys * sizeof *p);
    for (size_t b = 0; b < case_batch(c); b++)
        for (size_t t = 0; t < c->queries; t++)
            for (size_t h = 0; h < c->heads; h++) {
                case_query q = {.row = b / case_key_heads(c),
                                .query = t,
                                .head = b % case_key_heads(c) * c->heads + h,
                                .at = (b * c->queries + t) * c->heads + h,
                                .keys_at = b * c->keys,
                              .mask_at = ((b % case_key_heads(c) * c->queries + t) * c->heads + h) * c->keys};
                v->log_sum[q.at] = attend_weights(c, v, &q, p);
                attend_query(c, v, &q, p);
            }
    free(p);
}

#endif
