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
} attention_case;

static const attention_case attention_cases[] = {
    {"one of each", 1, 1, 1, 1, 1, false, 0, {0}},
    {"one head, square, causal", 2, 5, 5, 1, 4, true, 0, {0}},
    {"no mask", 2, 7, 13, 3, 8, false, 0, {0}},
    {"no mask, tiles with rests", 1, 70, 131, 2, 16, false, 0, {0}},
    {"memory before the block", 2, 64, 128, 2, 64, true, 64, {0}},
    {"borders of tiles", 1, 128, 256, 2, 32, true, 128, {0}},
    {"beyond the borders", 2, 65, 129, 3, 24, true, 64, {0}},
    {"odd head", 1, 33, 50, 3, 7, true, 17, {0}},
    {"rows of different age", 4, 66, 130, 2, 16, true, 64, {64, 0, 3, 63}},
    {"a row that sees nothing", 3, 10, 20, 2, 8, true, 4, {0, 20, 9}},
    {"first key without order", 2, 20, 300, 2, 8, false, 0, {299, 128}},
    {"room past the last query", 2, 40, 200, 2, 16, true, 30, {5, 0}},
    {"wide head", 1, 20, 70, 1, 192, true, 50, {0}},
    {"many heads", 1, 17, 40, 20, 8, true, 23, {0}},
    {"model", 1, 192, 448, 8, 64, true, 256, {0}},
    {"next token", 1, 1, 300, 8, 64, true, 299, {0}},
    {"next token, cache with room", 2, 1, 1024, 3, 20, true, 512, {0, 511}},
    {"next token, one chunk", 3, 1, 64, 4, 16, true, 20, {0, 20, 21}},
    {"a few tokens", 2, 8, 600, 8, 32, true, 515, {0, 300}},
    {"a few tokens, no mask", 1, 5, 257, 2, 12, false, 0, {0}},
};
enum { attention_case_count = sizeof attention_cases / sizeof attention_cases[0] };

/* All as the operation has them: query [batch, queries, heads, dim], key and value [batch, keys, dim], out as query. */
typedef struct attention_values {
    double *query, *key, *value, *out, *dout, *dquery, *dkey, *dvalue;
} attention_values;

static inline size_t case_query_count(const attention_case *c)
{
    return c->batch * c->queries * c->heads * c->dim;
}

static inline size_t case_key_count(const attention_case *c)
{
    return c->batch * c->keys * c->dim;
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
    return key >= c->first_key[row] && (!c->causal || key <= c->first_query + query);
}

static inline double product(size_t n, const double *x, const double *y)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += x[i] * y[i];
    return sum;
}

/* p [keys] = softmax of what the query sees; all 0 when that is nothing. */
static inline void attend_weights(const attention_case *c, size_t row, size_t t, const double *query, const double *keys,
                                  double *p)
{
    double most = -INFINITY, sum = 0, scale = 1 / sqrt((double)c->dim);
    for (size_t j = 0; j < c->keys; j++) {
        p[j] = case_sees(c, row, t, j) ? scale * product(c->dim, query, keys + j * c->dim) : -INFINITY;
        most = p[j] > most ? p[j] : most;
    }
    for (size_t j = 0; j < c->keys; j++) {
        p[j] = p[j] > -INFINITY ? exp(p[j] - most) : 0;
        sum += p[j];
    }
    for (size_t j = 0; j < c->keys && sum > 0; j++)
        p[j] /= sum;
}

/* Out of one query, and its part of every gradient. `at` is the query's place, `keys_at` that of its row's keys. */
static inline void attend_query(const attention_case *c, const attention_values *v, size_t at, size_t keys_at,
                                const double *p)
{
    double *out = v->out + at, *dquery = v->dquery + at, scale = 1 / sqrt((double)c->dim);
    const double *query = v->query + at, *dout = v->dout + at;
    for (size_t j = 0; j < c->keys; j++)
        for (size_t d = 0; d < c->dim; d++)
            out[d] += p[j] * v->value[keys_at + j * c->dim + d];
    double delta = product(c->dim, dout, out);
    for (size_t j = 0; j < c->keys; j++) {
        size_t k = keys_at + j * c->dim;
        double ds = scale * p[j] * (product(c->dim, dout, v->value + k) - delta);
        for (size_t d = 0; d < c->dim; d++) {
            dquery[d] += ds * v->key[k + d];
            v->dkey[k + d] += ds * query[d];
            v->dvalue[k + d] += p[j] * dout[d];
        }
    }
}

/* Adds to out and the gradients, which start at 0. */
static inline void attend_plainly(const attention_case *c, const attention_values *v)
{
    double *p = malloc(c->keys * sizeof *p);
    for (size_t row = 0; row < c->batch; row++)
        for (size_t t = 0; t < c->queries; t++)
            for (size_t h = 0; h < c->heads; h++) {
                size_t at = ((row * c->queries + t) * c->heads + h) * c->dim, keys_at = row * c->keys * c->dim;
                attend_weights(c, row, t, v->query + at, v->key + keys_at, p);
                attend_query(c, v, at, keys_at, p);
            }
    free(p);
}

#endif
