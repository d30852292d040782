#include "attention_job.h"

#include "../base/parallel.h"

#include <string.h>

/* Tiles of rows that a task takes through the keys together: a tile of keys and its gradients, 160 KiB at 64 numbers a
 * head, come to the second-level cache once for all of them. */
enum { together = 2 };

/* A tile of rows and its gradient. */
typedef struct backward_rows {
    tile t;
    brt_rows query, dout;
    real *dquery;         /* [row_tile, width] */
    real delta[row_tile]; /* D */
} backward_rows;

/* What a task adds up, and its scratch. */
typedef struct group {
    size_t batch_row, index;
    real *dkey, *dvalue;             /* [key_rows, width] */
    real *dbias;                     /* [heads, span] or NULL */
    real *scores, *dscores;          /* [row_tile, key_tile] */
    real *weights_room;              /* for three tiles of rounded weights */
    real *rows_room;                 /* [together, rows_reals] */
    backward_rows rows[together];
    size_t count;
} group;

/* ---- scratch -------------------------------------------------------------------------------------------- */

static size_t padded_reals(const attention *a)
{
    return row_tile * a->tiles.width;
}

/* dquery of a tile of rows, and either form of its query and of dout. */
static size_t rows_reals(const attention *a)
{
    return padded_reals(a) + 4 * brt_rows_reals(&a->tiles);
}

static size_t scratch_reals(const attention *a)
{
    size_t backward = 2 * row_tile * key_tile + 3 * brt_weights_reals(&a->tiles) + together * rows_reals(a);
    return brt_max_size(backward, brt_prepare_scratch(a));
}

/* ---- D -------------------------------------------------------------------------------------------------- */

/* dout of the tile's rows, and dout . out of each. */
static brt_rows gather_dout(const attention_job *j, const tile *t, real *room, real *delta)
{
    const attention *a = j->a;
    for (size_t i = 0; i < t->count; i++) {
        const real *dout = j->dout + out_index(a, t, i), *out = j->out + out_index(a, t, i);
        j->kernels->matvec(1, 1, a->dim, dout, a->dim, out, a->dim, delta + i, 1, false);
        brt_rows_put(&a->tiles, i, 1, dout, room);
    }
    return (brt_rows){.count = t->count, .left = room};
}

/* Rows that see one key: over it the softmax is 1 whatever the score, do . o is do . v, and but for that of the sum's
 * logarithm the score has no gradient, not even that of products rounded in different ways. dscores: of the first keys,
 * do . v. */
static void replace_delta_of_one_key(const attention *a, const tile *t, const real *dscores, real *delta)
{
    size_t end = first_key(a, t->batch_row) + 1;
    for (size_t i = 0; i < t->count && end_key(a, t->first + i) <= end; i++)
        delta[i] = dscores[i * key_tile];
}

/* delta = dout . out - the gradient of the sum's logarithm */
static void take_log_sum_gradient(const attention_job *j, const tile *t, real *delta)
{
    for (size_t i = 0; j->log_sum_exp && i < t->count; i++)
        delta[i] -= j->log_sum_exp[row_index(j->a, t) + i];
}

/* What the rows' scores bring to the bias, dbias [heads, span]. */
static void add_bias_gradient(const attention_job *j, const tile *t, const key_range *keys, const real *dscores,
                              real *dbias)
{
    const attention *a = j->a;
    for (size_t i = 0; i < t->count; i++) {
        size_t row = t->first + i, query = a->how.first_query + row / a->how.heads;
        size_t begin = brt_max_size(keys->first, begin_key(a, row));
        size_t end = brt_min_size(keys->first + keys->count, end_key(a, row));
        if (begin < end)
            j->kernels->add(end - begin, dscores + i * key_tile + begin - keys->first,
                            dbias + row % a->how.heads * a->span + a->span - 1 - query + begin);
    }
}

/* ---- a tile of rows and a tile of keys -------------------------------------------------------------------- */

/* The softmax's weights p and the scores' gradients ds, as the products take them. */
typedef struct tile_weights {
    const real *p, *ds;     /* for brt_add_transposed */
    const real *ds_by_rows; /* for brt_add_weighted */
} tile_weights;

/* In bf16, where nothing else reads p and ds: they are rounded at once. */
static tile_weights round_at_once(const attention_job *j, const group *g, const backward_rows *r, const key_range *keys,
                                  const size_t *seen)
{
    const attention *a = j->a;
    size_t room = brt_weights_reals(&a->tiles), row = row_index(a, &r->t);
    real *p = g->weights_room, *ds = p + room, *ds_by_rows = ds + room;
    j->kernels->softmax_tile_backward_bf16(r->t.count, keys->count, a->how.scale, seen, g->scores, j->maximum + row,
                                           j->log_sum + row, r->delta, g->dscores, key_tile, brt_paired(&a->tiles, p),
                                           brt_paired(&a->tiles, ds), brt_rounded(&a->tiles, ds_by_rows));
    return (tile_weights){p, ds, ds_by_rows};
}

static tile_weights take_weights(const attention_job *j, const group *g, const backward_rows *r, const key_range *keys,
                                 const size_t *seen)
{
    const attention *a = j->a;
    const tile *t = &r->t;
    size_t room = brt_weights_reals(&a->tiles), row = row_index(a, t);
    j->kernels->softmax_tile_backward(t->count, keys->count, a->how.scale, seen, g->scores, key_tile, j->maximum + row,
                                      j->log_sum + row, r->delta, g->dscores, key_tile);
    if (g->dbias)
        add_bias_gradient(j, t, keys, g->dscores, g->dbias);
    brt_drop_weights(j, t, keys, g->scores);
    return (tile_weights){
        brt_pair_weights(&a->tiles, t->count, keys->count, g->scores, g->weights_room),
        brt_pair_weights(&a->tiles, t->count, keys->count, g->dscores, g->weights_room + room),
        brt_round_weights(&a->tiles, t->count, keys->count, g->dscores, g->weights_room + 2 * room)};
}

static void backward_keys(const attention_job *j, const group *g, backward_rows *r, const key_range *keys)
{
    const attention *a = j->a;
    const tile *t = &r->t;
    size_t visible[row_tile], at = keys->first * a->tiles.width;
    size_t transposed = brt_transposed_index(a, t->batch_row, keys->index);
    const size_t *seen = count_visible(a, t, keys, visible);
    brt_scores(&a->tiles, &r->query, keys->count, seen, j->keys_transposed + transposed, g->scores);
    brt_place_tile_scores(j, t, keys, g->scores);
    brt_scores(&a->tiles, &r->dout, keys->count, seen, j->values_transposed + transposed, g->dscores);
    brt_drop_weights(j, t, keys, g->dscores);
    if (keys->index == 0)
        replace_delta_of_one_key(a, t, g->dscores, r->delta);
    if (keys->index == first_index(a, t))
        take_log_sum_gradient(j, t, r->delta);
    bool at_once = a->tiles.bf16 && !g->dbias && a->how.dropout.rate == 0;
    tile_weights w = (at_once ? round_at_once : take_weights)(j, g, r, keys, seen);
    brt_add_transposed(&a->tiles, keys->count, seen, w.p, &r->dout, g->dvalue + at);
    brt_add_transposed(&a->tiles, keys->count, seen, w.ds, &r->query, g->dkey + at);
    brt_add_weighted(&a->tiles, t->count, keys->count, seen, w.ds_by_rows,
                     j->keys_right + brt_right_index(a, t->batch_row, keys->index), r->dquery);
}

/* ---- a task ----------------------------------------------------------------------------------------------- */

static void open_rows(const attention_job *j, const tile *t, real *room, backward_rows *r)
{
    const attention *a = j->a;
    size_t rows = brt_rows_reals(&a->tiles);
    r->t = *t;
    r->query = brt_rows_prepare(&a->tiles, t->count, j->query + query_index(a, t), room);
    brt_rows_make_right(&a->tiles, &r->query, room + rows);
    r->dout = gather_dout(j, t, room + 2 * rows, r->delta);
    brt_rows_make_right(&a->tiles, &r->dout, room + 3 * rows);
    r->dquery = room + 4 * rows;
    memset(r->dquery, 0, t->count * a->tiles.width * sizeof *r->dquery);
}

/* The group's next tiles of rows from the first-th on. */
static void open_tiles(const attention_job *j, group *g, size_t first)
{
    const attention *a = j->a;
    for (g->count = 0; g->count < together && first < a->row_tiles; g->count++, first += a->groups) {
        tile t = brt_row_tile_at(a, g->batch_row, first);
        open_rows(j, &t, g->rows_room + g->count * rows_reals(a), &g->rows[g->count]);
    }
}

static void close_tiles(const attention_job *j, const group *g)
{
    const attention *a = j->a;
    for (size_t i = 0; j->dquery && i < g->count; i++)
        brt_tiles_unpad(&a->tiles, g->rows[i].t.count, g->rows[i].dquery, j->dquery + query_index(a, &g->rows[i].t));
}

static void clear_keys(const attention *a, const group *g, size_t begin, size_t end)
{
    size_t width = a->tiles.width, count = (brt_min_size(end, a->key_rows) - begin) * width * sizeof(real);
    memset(g->dkey + begin * width, 0, count);
    memset(g->dvalue + begin * width, 0, count);
}

/* Takes the opened tiles through all keys. Gradients of keys become 0 when the first tiles come to them. */
static void backward_tiles(const attention_job *j, group *g, bool first)
{
    const attention *a = j->a;
    size_t begin = first_key(a, g->batch_row);
    if (first)
        clear_keys(a, g, 0, begin);
    for (size_t index = 0; begin < a->key_rows; index++, begin += key_tile) {
        if (first)
            clear_keys(a, g, begin, begin + key_tile);
        for (size_t i = 0; i < g->count; i++) {
            backward_rows *r = &g->rows[i];
            key_range keys;
            if (index >= first_index(a, &r->t) && keys_at(a, &r->t, index, &keys))
                backward_keys(j, g, r, &keys);
        }
    }
}

static void backward_task(void *context, size_t task, int thread)
{
    const attention_job *j = context;
    const attention *a = j->a;
    group g = {.batch_row = task % a->batch, .index = task / a->batch};
    size_t part = g.batch_row * a->groups + g.index, keys = a->key_rows * a->tiles.width;
    size_t biases = a->how.heads * a->span;
    g.dkey = j->partial_dkey + part * keys;
    g.dvalue = j->partial_dvalue + part * keys;
    g.scores = j->scratch + (size_t)thread * j->scratch_count;
    g.dscores = g.scores + row_tile * key_tile;
    g.weights_room = g.dscores + row_tile * key_tile;
    g.rows_room = g.weights_room + 3 * brt_weights_reals(&a->tiles);
    if (j->dbias) {
        g.dbias = j->partial_dbias + part * biases;
        memset(g.dbias, 0, biases * sizeof(real));
    }
    for (size_t first = g.index; first < a->row_tiles; first += together * a->groups) {
        open_tiles(j, &g, first);
        backward_tiles(j, &g, first == g.index);
        close_tiles(j, &g);
    }
}

/* ---- sums of the tasks ------------------------------------------------------------------------------------ */

/* Sums the groups' parts for some keys, in the order of the groups. */
static void combine(const attention_job *j, size_t batch_row, size_t first, size_t keys, real *parts, real *gradient)
{
    const attention *a = j->a;
    size_t width = a->tiles.width, size = a->key_rows * width;
    real *sum = parts + batch_row * a->groups * size + first * width;
    for (size_t part = 1; part < a->groups; part++)
        j->kernels->add(keys * width, sum + part * size, sum);
    brt_tiles_unpad(&a->tiles, keys, sum, gradient + key_index(a, batch_row, first));
}

static void combine_task(void *context, size_t task, int thread)
{
    const attention_job *j = context;
    const attention *a = j->a;
    size_t batch_row = task / a->key_tiles, first = task % a->key_tiles * key_tile;
    size_t keys = brt_min_size(key_tile, a->key_rows - first);
    (void)thread;
    if (j->dkey)
        combine(j, batch_row, first, keys, j->partial_dkey, j->dkey);
    if (j->dvalue)
        combine(j, batch_row, first, keys, j->partial_dvalue, j->dvalue);
}

/* The bias is all rows' common one. */
static void combine_bias(const attention_job *j)
{
    const attention *a = j->a;
    size_t biases = a->how.heads * a->span;
    for (size_t part = 0; part < a->batch * a->groups; part++)
        brt_add_reversed(a->how.heads, a->span, j->partial_dbias + part * biases,
                         j->dbias + part / a->groups % a->key_heads * biases);
}

/* ---- backward --------------------------------------------------------------------------------------------- */

static void run_backward(brt_tape *tape, attention_job *j)
{
    const attention *a = j->a;
    int threads = brt_tape_threads(tape);
    brt_prepare_keys(tape, j);
    brt_parallel_for(threads, a->batch * a->groups, backward_task, j);
    brt_parallel_for(threads, a->batch * a->key_tiles, combine_task, j);
    if (j->dbias)
        combine_bias(j);
}

void brt_attention_backward(brt_tape *tape, brt_node *node)
{
    const attention *a = &((const attention_attributes *)node->attributes)->a;
    size_t scratch_count = scratch_reals(a), parts = a->batch * a->groups * a->key_rows * a->tiles.width;
    size_t transposed = brt_transposed_index(a, a->batch, 0), right = brt_right_index(a, a->batch, 0);
    brt_gradient dquery = brt_gradient_open(tape, node->in[0]), dkey = brt_gradient_open(tape, node->in[1]);
    brt_gradient dvalue = brt_gradient_open(tape, node->in[2]);
    real *dbias = node->in[3] ? brt_gradient_accumulate(tape, node->in[3]) : NULL;
    brt_tensor *bias = a->span ? brt_scratch(tape, brt_attention_bias_count(a)) : NULL;
    brt_tensor *partial_dbias = a->span ? brt_scratch(tape, a->batch * a->groups * a->how.heads * a->span) : NULL;
    brt_tensor *tiles = brt_scratch(tape, 2 * transposed + right), *partial = brt_scratch(tape, 2 * parts);
    brt_tensor *scratch = brt_scratch(tape, (size_t)brt_tape_threads(tape) * scratch_count);
    if (brt_tape_running(tape)) {
        attention_job j = brt_attention_job(tape, node, a, bias);
        j.keys_transposed = tiles->data;
        j.values_transposed = tiles->data + transposed;
        j.keys_right = tiles->data + 2 * transposed;
        j.scratch = scratch->data;
        j.scratch_count = scratch_count;
        j.dout = node->out[0]->gradient;
        j.dquery = dquery.data;
        j.dkey = dkey.data;
        j.dvalue = dvalue.data;
        j.dbias = dbias;
        j.partial_dbias = partial_dbias ? partial_dbias->data : NULL;
        j.log_sum_exp = node->out[2] ? node->out[2]->gradient : NULL;
        j.partial_dkey = partial->data;
        j.partial_dvalue = partial->data + parts;
        run_backward(tape, &j);
    }
    brt_scratch_free(tape, scratch);
    brt_scratch_free(tape, partial);
    brt_scratch_free(tape, tiles);
    if (a->span) {
        brt_scratch_free(tape, partial_dbias);
        brt_scratch_free(tape, bias);
    }
    brt_gradient_close(tape, node->in[2], dvalue);
    brt_gradient_close(tape, node->in[1], dkey);
    brt_gradient_close(tape, node->in[0], dquery);
}
