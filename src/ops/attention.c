/* Attention of every head of every query over the keys and values that heads share:
 *   s_j = scale * (q . k_j + bias) over the keys j it may see,  p = softmax(s),  o = sum of p_j v_j,
 *   l = log of the softmax's sum;
 * with D = do . o - dl:  dv_j = sum of p_j do,  ds_j = scale * p_j (do . v_j - D) of q . k_j + bias,  dq = sum of
 * ds_j k_j, dk_j = sum of ds_j q, dbias = sum of ds_j, the sums for k and v over all queries and heads.
 *
 * What has keys of its own, a key head of a row, is called a batch row here. Keys and values are its heads' common
 * ones, so [queries, heads, dim] is a matrix of queries * heads rows. A task takes a tile of these rows through the keys
 * tile by tile; several heads of one query see the same keys, so a tile of few queries wastes little at the diagonal.
 * Keys (and, backward, values) are prepared first, once for all rows, in tiles of their own. A recording tape that uses
 * bf16 has bf16 products; a cache's few queries are always f32. */
#include "attention_sight.h"

#include "../base/parallel.h"
#include "../base/size.h"

#include <math.h>
#include <string.h>

enum {
    row_tile = BRT_ROW_TILE,
    few_queries = 8, /* up to here a task takes one query and some of the keys */
    key_chunk = 256, /* as many */
    /* Tasks of the backward pass: enough for 16 cores, few enough that their own sums of dk and dv cost little. */
    least_backward_tasks = 16,
};

typedef struct job {
    const brt_kernels *kernels;
    const attention *a;
    const real *query, *key, *value;
    const real *bias;               /* [key_heads * heads, span], backwards: keys come in the order of falling distance */
    real *out;
    real *maximum, *log_sum;        /* [batch, rows], of q . k + bias and its softmax, for the backward pass; or NULL */
    real *log_sum_exp;              /* [batch, rows] or NULL; in backward its gradient */
    real *key_tiles, *value_tiles;  /* [batch, key_tiles, prepared tile] */
    real *chunks;                   /* few queries: see struct chunk */
    real *scratch;                  /* [threads, scratch_count] */
    size_t scratch_count;
    const real *dout;
    real *dquery, *dkey, *dvalue;        /* NULL: not wanted */
    real *dbias;
    real *partial_dkey, *partial_dvalue; /* [batch, groups, key_rows, dim] */
    real *partial_dbias;                 /* [batch, groups, heads, span] */
} job;

/* ---- scores ------------------------------------------------------------------------------------------- */

static const real hidden = -1e30f; /* a score that exp takes to 0 */

/* Every row of x [rows, span] backwards, added to y. */
static void add_reversed(size_t rows, size_t span, const real *x, real *y)
{
    for (size_t row = 0; row < rows; row++)
        for (size_t i = 0; i < span; i++)
            y[row * span + i] += x[row * span + span - 1 - i];
}

static size_t bias_count(const attention *a)
{
    return a->key_heads * a->how.heads * a->span;
}

/* Scores of a row over keys [first, first + count): adds the bias to those that it sees, hides those before its window.
 * Those after its last key are count_visible's. */
static void place_scores(const job *j, size_t batch_row, size_t row, size_t first, size_t count, real *scores)
{
    const attention *a = j->a;
    size_t begin = brt_max_size(first, begin_key(a, row)), end = brt_min_size(first + count, end_key(a, row));
    for (size_t key = first; key < begin && key < end; key++)
        scores[key - first] = hidden;
    if (!j->bias || begin >= end)
        return;
    size_t head = batch_row % a->key_heads * a->how.heads + row % a->how.heads;
    size_t query = a->how.first_query + row / a->how.heads;
    j->kernels->add(end - begin, j->bias + head * a->span + a->span - 1 - query + begin, scores + begin - first);
}

static void place_tile_scores(const job *j, const tile *t, const key_range *keys, real *scores)
{
    if (!j->bias && begin_key(j->a, t->first + t->count - 1) <= keys->first)
        return;
    for (size_t i = 0; i < t->count; i++)
        place_scores(j, t->batch_row, t->first + i, keys->first, keys->count, scores + i * key_tile);
}

/* ---- steps both directions take ------------------------------------------------------------------------- */

/* Forward reads keys transposed and values by rows, backward both transposed and keys by rows. */
static void prepare_task(void *context, size_t task, int thread)
{
    const job *j = context;
    const attention *a = j->a;
    size_t batch_row = task / a->key_tiles, index = task % a->key_tiles;
    size_t first = first_key(a, batch_row) + index * key_tile, at = prepared_index(a, batch_row, index);
    (void)thread;
    if (first >= a->keys)
        return;
    size_t count = brt_min_size(key_tile, a->keys - first), from = key_index(a, batch_row, first);
    brt_tiles_transpose(&a->tiles, count, j->key + from, j->key_tiles + at);
    if (j->value_tiles)
        brt_tiles_transpose(&a->tiles, count, j->value + from, j->value_tiles + at);
    brt_tiles_pair_keys(&a->tiles, count, (j->value_tiles ? j->key : j->value) + from, j->key_tiles + at);
}

/* The tile of a task; the last rows, which see the most keys, first. */
static tile tile_at(const attention *a, size_t batch_row, size_t item)
{
    size_t first = (a->row_tiles - 1 - item) * row_tile;
    return (tile){batch_row, first, brt_min_size(row_tile, a->rows - first)};
}

/* ---- forward, many queries ----------------------------------------------------------------------------- */

/* Of one thread: out [row_tile, dim], scores [row_tile or heads, key_tile], and room for the products. */
static size_t forward_scratch(const attention *a)
{
    return row_tile * a->dim + brt_max_size(row_tile, a->how.heads) * key_tile + brt_rows_reals(&a->tiles) +
           brt_weights_reals(&a->tiles);
}

/* Divides by the sums and puts the rows where they belong; a row that saw nothing gets 0. */
static void finish_tile(const job *j, const tile *t, const real *maximum, const real *sum, const real *weighted)
{
    const attention *a = j->a;
    for (size_t i = 0; i < t->count; i++) {
        j->kernels->scale(a->dim, sum[i] != 0 ? 1 / sum[i] : 0, weighted + i * a->dim, j->out + out_index(a, t, i));
        real log_sum = (real)log((double)sum[i]);
        if (j->maximum) {
            j->maximum[row_index(a, t) + i] = maximum[i];
            j->log_sum[row_index(a, t) + i] = log_sum;
        }
        if (j->log_sum_exp)
            j->log_sum_exp[row_index(a, t) + i] = sum[i] != 0 ? a->how.scale * maximum[i] + log_sum : log_sum;
    }
}

static void forward_tile(const job *j, const tile *t, real *scratch)
{
    const attention *a = j->a;
    size_t dim = a->dim, visible[row_tile];
    real *out = scratch, *scores = out + row_tile * dim, maximum[row_tile], sum[row_tile] = {0};
    real *rows_room = scores + row_tile * key_tile, *weights_room = rows_room + brt_rows_reals(&a->tiles);
    brt_rows query = brt_rows_prepare(&a->tiles, t->count, j->query + query_index(a, t), rows_room);
    key_range keys;
    for (size_t i = 0; i < t->count; i++)
        maximum[i] = -(real)INFINITY;
    memset(out, 0, t->count * dim * sizeof *out);
    for (size_t index = first_index(a, t); keys_at(a, t, index, &keys); index++) {
        const real *prepared = j->key_tiles + prepared_index(a, t->batch_row, index);
        brt_scores(&a->tiles, &query, keys.count, prepared, scores);
        place_tile_scores(j, t, &keys, scores);
        j->kernels->softmax_step(t->count, keys.count, a->how.scale, count_visible(a, t, &keys, visible), scores,
                                 key_tile, maximum, sum, dim, out, dim);
        brt_add_weighted(&a->tiles, t->count, keys.count, scores, j->value + key_index(a, t->batch_row, keys.first),
                         prepared, out, weights_room);
    }
    finish_tile(j, t, maximum, sum, out);
}

static void forward_task(void *context, size_t task, int thread)
{
    const job *j = context;
    tile t = tile_at(j->a, task % j->a->batch, task / j->a->batch);
    forward_tile(j, &t, j->scratch + (size_t)thread * j->scratch_count);
}

/* ---- forward, few queries: generation ------------------------------------------------------------------- */

/* What all heads of one query got from one chunk of the keys. */
typedef struct chunk {
    real *out, *maximum, *sum; /* [heads, dim], [heads], [heads] */
} chunk;

static size_t chunk_reals(const attention *a)
{
    return a->how.heads * (a->dim + 2);
}

static size_t chunk_tasks(const attention *a)
{
    return a->batch * (a->rows / a->how.heads) * a->key_chunks;
}

static chunk chunk_at(const job *j, size_t task)
{
    const attention *a = j->a;
    real *out = j->chunks + task * chunk_reals(a);
    return (chunk){out, out + a->how.heads * a->dim, out + a->how.heads * (a->dim + 1)};
}

/* The rows of one query of the batch: its heads. */
static tile heads_of(const attention *a, size_t query)
{
    size_t queries = a->rows / a->how.heads;
    return (tile){query / queries, query % queries * a->how.heads, a->how.heads};
}

static void chunk_task(void *context, size_t task, int thread)
{
    const job *j = context;
    const attention *a = j->a;
    tile t = heads_of(a, task / a->key_chunks);
    size_t chunk_first = first_key(a, t.batch_row) + task % a->key_chunks * key_chunk, dim = a->dim;
    size_t first = brt_max_size(chunk_first, begin_key(a, t.first));
    size_t end = brt_min_size(chunk_first + key_chunk, end_key(a, t.first));
    real *scores = j->scratch + (size_t)thread * j->scratch_count;
    chunk c = chunk_at(j, task);
    memset(c.out, 0, chunk_reals(a) * sizeof *c.out);
    for (size_t h = 0; h < t.count; h++)
        c.maximum[h] = -(real)INFINITY;
    for (; first < end; first += key_tile) {
        size_t count = brt_min_size(key_tile, end - first), at = key_index(a, t.batch_row, first);
        j->kernels->matvec(t.count, count, dim, j->query + query_index(a, &t), dim, j->key + at, dim, scores, key_tile,
                           false);
        for (size_t h = 0; h < t.count; h++)
            place_scores(j, t.batch_row, t.first + h, first, count, scores + h * key_tile);
        j->kernels->softmax_step(t.count, count, a->how.scale, NULL, scores, key_tile, c.maximum, c.sum, dim, c.out,
                                 dim);
        j->kernels->matmul(t.count, dim, count, scores, key_tile, 1, j->value + at, dim, c.out, dim, true);
    }
}

/* Adds one head's results of one more chunk to those of the chunks before. */
static void join(const attention *a, size_t head, chunk so_far, chunk more)
{
    if (more.sum[head] == 0)
        return;
    real before = so_far.maximum[head], now = more.maximum[head], most = before > now ? before : now;
    real keep = (real)exp((double)(a->how.scale * (before - most)));
    real take = (real)exp((double)(a->how.scale * (now - most)));
    so_far.maximum[head] = most;
    so_far.sum[head] = keep * so_far.sum[head] + take * more.sum[head];
    for (size_t d = head * a->dim; d < (head + 1) * a->dim; d++)
        so_far.out[d] = keep * so_far.out[d] + take * more.out[d];
}

static void join_chunks(const job *j, size_t query)
{
    const attention *a = j->a;
    tile t = heads_of(a, query);
    chunk all = chunk_at(j, query * a->key_chunks);
    for (size_t i = 1; i < a->key_chunks; i++)
        for (size_t h = 0; h < t.count; h++)
            join(a, h, all, chunk_at(j, query * a->key_chunks + i));
    finish_tile(j, &t, all.maximum, all.sum, all.out);
}

/* ---- forward --------------------------------------------------------------------------------------------- */

/* What the builder measured, and took for forward alone. */
typedef struct attributes {
    attention a;
    brt_tensor *key_tiles, *chunks; /* one of them */
    brt_tensor *bias; /* or NULL */
    brt_tensor *scratch;
} attributes;

/* What both directions read, and the output. */
static job make_job(brt_tape *tape, const brt_node *node, const attention *a)
{
    real *sums = node->out[1] ? node->out[1]->data : NULL;
    return (job){.kernels = brt_tape_kernels(tape),
                 .a = a,
                 .query = node->in[0]->data,
                 .key = node->in[1]->data,
                 .value = node->in[2]->data,
                 .out = node->out[0]->data,
                 .maximum = sums,
                 .log_sum = sums ? sums + a->batch * a->rows : NULL};
}

/* `room` is NULL without a bias. */
static void reverse_bias(job *j, const brt_node *node, const brt_tensor *room)
{
    if (!room)
        return;
    memset(room->data, 0, bias_count(j->a) * sizeof(real));
    add_reversed(j->a->key_heads * j->a->how.heads, j->a->span, node->in[3]->data, room->data);
    j->bias = room->data;
}

static void forward(brt_tape *tape, brt_node *node)
{
    const attributes *taken = node->attributes;
    const attention *a = &taken->a;
    int threads = brt_tape_threads(tape);
    job j = make_job(tape, node, a);
    j.log_sum_exp = node->out[2] ? node->out[2]->data : NULL;
    reverse_bias(&j, node, taken->bias);
    j.scratch = taken->scratch->data;
    j.scratch_count = forward_scratch(a);
    if (taken->chunks) {
        j.chunks = taken->chunks->data;
        brt_parallel_for(threads, chunk_tasks(a), chunk_task, &j);
        for (size_t query = 0; query < a->batch * (a->rows / a->how.heads); query++)
            join_chunks(&j, query);
    } else {
        j.key_tiles = taken->key_tiles->data;
        brt_parallel_for(threads, a->batch * a->key_tiles, prepare_task, &j);
        brt_parallel_for(threads, a->batch * a->row_tiles, forward_task, &j);
    }
}

/* ---- backward -------------------------------------------------------------------------------------------- */

/* Of one thread: dout and dquery [row_tile, dim], scores and dscores [row_tile, key_tile], and room for the products. */
static size_t backward_scratch(const attention *a)
{
    return 2 * row_tile * a->dim + 2 * row_tile * key_tile + 2 * brt_rows_reals(&a->tiles) +
           brt_weights_reals(&a->tiles);
}

/* dout of the tile's rows in one piece, and dout . out of each. */
static void gather_dout(const job *j, const tile *t, real *dout, real *delta)
{
    const attention *a = j->a;
    for (size_t i = 0; i < t->count; i++, dout += a->dim) {
        size_t at = out_index(a, t, i);
        memcpy(dout, j->dout + at, a->dim * sizeof *dout);
        j->kernels->matvec(1, 1, a->dim, dout, a->dim, j->out + at, a->dim, delta + i, 1, false);
    }
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
static void take_log_sum_gradient(const job *j, const tile *t, real *delta)
{
    for (size_t i = 0; j->log_sum_exp && i < t->count; i++)
        delta[i] -= j->log_sum_exp[row_index(j->a, t) + i];
}

/* What the rows' scores bring to the bias, dbias [heads, span]. */
static void add_bias_gradient(const job *j, const tile *t, const key_range *keys, const real *dscores, real *dbias)
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

/* What a tile of rows brings to each tile of keys, and the gradients it adds to. */
typedef struct backward_rows {
    brt_rows query, dout;
    real *delta;                  /* [rows]: dout . out */
    real *dquery, *dkey, *dvalue; /* [rows, dim], [key_rows, dim] */
    real *dbias;                  /* [heads, span] or NULL */
    real *scratch;                /* scores and dscores [row_tile, key_tile], and room for the products */
} backward_rows;

static void backward_keys(const job *j, const tile *t, const backward_rows *r, const key_range *keys)
{
    const attention *a = j->a;
    size_t visible[row_tile], prepared = prepared_index(a, t->batch_row, keys->index), at = keys->first * a->dim;
    real *scores = r->scratch, *dscores = scores + row_tile * key_tile, *room = dscores + row_tile * key_tile;
    brt_scores(&a->tiles, &r->query, keys->count, j->key_tiles + prepared, scores);
    place_tile_scores(j, t, keys, scores);
    brt_scores(&a->tiles, &r->dout, keys->count, j->value_tiles + prepared, dscores);
    if (keys->index == 0)
        replace_delta_of_one_key(a, t, dscores, r->delta);
    if (keys->index == first_index(a, t))
        take_log_sum_gradient(j, t, r->delta);
    j->kernels->softmax_tile_backward(t->count, keys->count, a->how.scale, count_visible(a, t, keys, visible), scores,
                                      key_tile, j->maximum + row_index(a, t), j->log_sum + row_index(a, t), r->delta,
                                      dscores, key_tile);
    if (r->dbias)
        add_bias_gradient(j, t, keys, dscores, r->dbias);
    brt_add_transposed(&a->tiles, keys->count, scores, &r->dout, r->dvalue + at, room);
    brt_add_transposed(&a->tiles, keys->count, dscores, &r->query, r->dkey + at, room);
    brt_add_weighted(&a->tiles, t->count, keys->count, dscores, j->key + key_index(a, t->batch_row, keys->first),
                     j->key_tiles + prepared, r->dquery, room);
}

static void backward_tile(const job *j, const tile *t, real *dkey, real *dvalue, real *dbias, real *scratch)
{
    const attention *a = j->a;
    size_t size = row_tile * a->dim, prepared = brt_rows_reals(&a->tiles);
    real *dout = scratch, *no_dquery = dout + size, *query_room = no_dquery + size, *dout_room = query_room + prepared;
    real delta[row_tile];
    gather_dout(j, t, dout, delta);
    backward_rows r = {.query = brt_rows_prepare(&a->tiles, t->count, j->query + query_index(a, t), query_room),
                       .dout = brt_rows_prepare(&a->tiles, t->count, dout, dout_room),
                       .delta = delta,
                       .dquery = j->dquery ? j->dquery + query_index(a, t) : no_dquery,
                       .dkey = dkey,
                       .dvalue = dvalue,
                       .dbias = dbias,
                       .scratch = dout_room + prepared};
    key_range keys;
    memset(r.dquery, 0, t->count * a->dim * sizeof(real));
    for (size_t index = first_index(a, t); keys_at(a, t, index, &keys); index++)
        backward_keys(j, t, &r, &keys);
}

static void backward_task(void *context, size_t task, int thread)
{
    const job *j = context;
    const attention *a = j->a;
    size_t batch_row = task % a->batch, group = task / a->batch, count = a->key_rows * a->dim;
    size_t at = (batch_row * a->groups + group) * count;
    memset(j->partial_dkey + at, 0, count * sizeof(real));
    memset(j->partial_dvalue + at, 0, count * sizeof(real));
    size_t biases = a->how.heads * a->span;
    real *dbias = j->dbias ? j->partial_dbias + (batch_row * a->groups + group) * biases : NULL;
    if (dbias)
        memset(dbias, 0, biases * sizeof(real));
    for (size_t item = group; item < a->row_tiles; item += a->groups) {
        tile t = tile_at(a, batch_row, item);
        backward_tile(j, &t, j->partial_dkey + at, j->partial_dvalue + at, dbias,
                      j->scratch + (size_t)thread * j->scratch_count);
    }
}

/* Sums the groups' parts for some keys, in the order of the groups. */
static void combine(const job *j, size_t batch_row, size_t first, size_t keys, const real *parts, real *gradient)
{
    const attention *a = j->a;
    size_t size = a->key_rows * a->dim, count = keys * a->dim;
    real *sum = gradient + key_index(a, batch_row, first);
    const real *part = parts + batch_row * a->groups * size + first * a->dim;
    memcpy(sum, part, count * sizeof *sum);
    for (size_t group = 1; group < a->groups; group++)
        j->kernels->add(count, part + group * size, sum);
}

static void combine_task(void *context, size_t task, int thread)
{
    const job *j = context;
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
static void combine_bias(const job *j)
{
    const attention *a = j->a;
    size_t biases = a->how.heads * a->span;
    for (size_t part = 0; part < a->batch * a->groups; part++)
        add_reversed(a->how.heads, a->span, j->partial_dbias + part * biases,
                     j->dbias + part / a->groups % a->key_heads * biases);
}

static void run_backward(brt_tape *tape, job *j)
{
    const attention *a = j->a;
    int threads = brt_tape_threads(tape);
    brt_parallel_for(threads, a->batch * a->key_tiles, prepare_task, j);
    brt_parallel_for(threads, a->batch * a->groups, backward_task, j);
    brt_parallel_for(threads, a->batch * a->key_tiles, combine_task, j);
    if (j->dbias)
        combine_bias(j);
}

static void backward(brt_tape *tape, brt_node *node)
{
    const attention *a = &((const attributes *)node->attributes)->a;
    size_t scratch_count = backward_scratch(a), parts = a->batch * a->groups * a->key_rows * a->dim;
    brt_gradient dquery = brt_gradient_open(tape, node->in[0]), dkey = brt_gradient_open(tape, node->in[1]);
    brt_gradient dvalue = brt_gradient_open(tape, node->in[2]);
    real *dbias = node->in[3] ? brt_gradient_accumulate(tape, node->in[3]) : NULL;
    brt_tensor *bias = a->span ? brt_scratch(tape, bias_count(a)) : NULL;
    brt_tensor *partial_dbias = a->span ? brt_scratch(tape, a->batch * a->groups * a->how.heads * a->span) : NULL;
    brt_tensor *tiles = brt_scratch(tape, 2 * prepared_count(a)), *partial = brt_scratch(tape, 2 * parts);
    brt_tensor *scratch = brt_scratch(tape, (size_t)brt_tape_threads(tape) * scratch_count);
    if (brt_tape_running(tape)) {
        job j = make_job(tape, node, a);
        j.key_tiles = tiles->data;
        j.value_tiles = tiles->data + prepared_count(a);
        j.scratch = scratch->data;
        j.scratch_count = scratch_count;
        j.dout = node->out[0]->gradient;
        j.dquery = dquery.data;
        j.dkey = dkey.data;
        j.dvalue = dvalue.data;
        j.dbias = dbias;
        j.partial_dbias = partial_dbias ? partial_dbias->data : NULL;
        reverse_bias(&j, node, bias);
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

static const brt_op op = {.name = "attention", .forward = forward, .backward = backward};

static attention measure(const brt_tape *tape, const brt_tensor *query, const brt_tensor *key, const brt_attention *how)
{
    size_t queries = query->shape[1];
    attention a = {.how = *how,
                   .batch = query->shape[0],
                   .rows = queries * how->heads,
                   .dim = query->shape[3],
                   .key_heads = brt_max_size(1, how->key_heads),
                   .span = how->bias ? how->bias->shape[1] : 0,
                   .key_rows = key->shape[1],
                   .keys = key->shape[1]};
    a.tiles = (brt_tiles){brt_tape_kernels(tape), brt_tape_recording(tape) && brt_tape_has_bf16(tape) && a.dim % 2 == 0,
                          a.dim};
    if (how->causal)
        a.keys = brt_min_size(a.keys, how->first_query + queries - how->strict);
    a.row_tiles = brt_ceil_div(a.rows, row_tile);
    a.key_tiles = brt_ceil_div(a.key_rows, key_tile);
    a.key_chunks = brt_max_size(1, brt_ceil_div(a.key_rows, key_chunk));
    a.groups = brt_min_size(a.row_tiles, brt_ceil_div(least_backward_tasks, brt_max_size(1, a.batch)));
    return a;
}

/* Of both products, as if every batch row saw from key 0. */
static size_t count_flops(const attention *a)
{
    size_t pairs = 0;
    for (size_t row = 0; row < a->rows; row += a->how.heads)
        pairs += (end_key(a, row) - brt_min_size(end_key(a, row), begin_key(a, row))) * a->how.heads;
    return 4 * a->batch * pairs * a->dim;
}

void brt_op_attention(brt_tape *tape, brt_tensor *query, brt_tensor *key, brt_tensor *value, const brt_attention *how,
                      brt_tensor *out)
{
    bool recording = brt_tape_recording(tape);
    attributes taken = {.a = measure(tape, query, key, how)};
    const attention *a = &taken.a;
    brt_tensor *sums = recording ? brt_tape_tensor(tape, BRT_SHAPE(2, a->batch, a->rows)) : NULL;
    if (!recording && query->shape[1] <= few_queries)
        taken.chunks = brt_scratch(tape, chunk_tasks(a) * chunk_reals(a));
    else
        taken.key_tiles = brt_scratch(tape, prepared_count(a));
    taken.bias = a->span ? brt_scratch(tape, bias_count(a)) : NULL;
    taken.scratch = brt_scratch(tape, (size_t)brt_tape_threads(tape) * forward_scratch(a));
    brt_tape_push(tape,
                  &(brt_node){.op = &op,
                              .in = {query, key, value, how->bias},
                              .out = {out, sums, how->log_sum_exp},
                              .attributes = &taken,
                              .flops = count_flops(a),
                              .backward_flops = count_flops(a) / 2 * 5}, /* five products instead of two */
                  sizeof taken);
    brt_scratch_free(tape, taken.scratch);
    if (taken.bias)
        brt_scratch_free(tape, taken.bias);
    brt_scratch_free(tape, taken.chunks ? taken.chunks : taken.key_tiles);
}
