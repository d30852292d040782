/* The operations a model is written in. Each one is a file: its formula, forward and backward side by side. A builder
 * takes the tape and its inputs and returns its output. Attention has a header of its own. */
#ifndef BRT_OPS_OPS_H
#define BRT_OPS_OPS_H

#include "../tensor/gemm.h"
#include "../tensor/quantized.h"
#include "../tensor/tape.h"

/* A table [num_tokens, dim] of rows to look up; quantized: for inference, in the place of the tensor's data, or
 * NULL. */
typedef struct brt_table {
    brt_tensor *rows;
    const brt_quantized *quantized;
} brt_table;
/* tokens [batch, time] (lives until backward) -> [batch, time, dim] */
brt_tensor *brt_op_embedding(brt_tape *tape, const brt_table *table, const int32_t *tokens, size_t batch, size_t time);

/* x [..., dim], gain [dim] -> (x - mean) / sqrt(variance + 1e-5) * gain */
brt_tensor *brt_op_layer_norm(brt_tape *tape, brt_tensor *x, brt_tensor *gain);
/* The same -> x / sqrt(mean of x^2 + 1e-6) * gain */
brt_tensor *brt_op_rms_norm(brt_tape *tape, brt_tensor *x, brt_tensor *gain);

/* x [batch, rows, dim] + added [rows, dim] */
brt_tensor *brt_op_add_rows(brt_tape *tape, brt_tensor *x, brt_tensor *added);

/* x [batch, time, dim] + table [positions, dim] from row first[b] on; table and first [batch] live until backward */
brt_tensor *brt_op_add_positions(brt_tape *tape, brt_tensor *x, const real *table, const size_t *first);

/* A weight [out, in], an optional bias [out], and the form the product reads: the packed one, or, for inference, one in
 * fewer bits. */
typedef struct brt_linear {
    brt_tensor *weight, *bias;
    const brt_matrix *matrix;
    const brt_quantized *quantized;
} brt_linear;
/* x [..., in] -> x weight^T + bias + residual; residual [..., out] may be NULL */
brt_tensor *brt_op_linear(brt_tape *tape, brt_tensor *x, const brt_linear *linear, brt_tensor *residual);

/* x [..., dim] -> gelu(gate) * a times out^T + residual [..., dim] (or NULL), with a | gate = x times in^T: in
 * [2 * inner, dim], out [dim, inner]; no biases */
brt_tensor *brt_op_feed_forward(brt_tape *tape, brt_tensor *x, const brt_linear *in, const brt_linear *out,
                                brt_tensor *residual);

brt_tensor *brt_op_relu(brt_tape *tape, brt_tensor *x);
brt_tensor *brt_op_tanh(brt_tape *tape, brt_tensor *x);
/* x sigmoid(x) */
brt_tensor *brt_op_silu(brt_tape *tape, brt_tensor *x);
/* x [m, n] -> [n, m] */
brt_tensor *brt_op_transpose(brt_tape *tape, brt_tensor *x);
/* |x| */
brt_tensor *brt_op_magnitude(brt_tape *tape, brt_tensor *x);
/* factor * scale[r] * x[r], x [rows, ...], scale [rows] or NULL: 1 */
brt_tensor *brt_op_scale(brt_tape *tape, brt_tensor *x, brt_tensor *scale, real factor);
/* a [..., m] and b [..., n] -> a | b, [..., m + n] */
brt_tensor *brt_op_concat(brt_tape *tape, brt_tensor *a, brt_tensor *b);

/* x [batch, time, dim] -> its rows first, first + step, ..., [batch, count, dim]; row -1 is that of before
 * [batch, 1, dim] (NULL where it is not picked) */
brt_tensor *brt_op_pick(brt_tape *tape, brt_tensor *x, brt_tensor *before, ptrdiff_t first, size_t step, size_t count);
/* x [batch, ...], each one `times` times -> [batch, times, ...] */
brt_tensor *brt_op_repeat(brt_tape *tape, brt_tensor *x, size_t times);

/* Where random numbers are taken: a mask is a function of these alone. */
typedef struct brt_dropout {
    double rate;            /* probability of 0 */
    uint64_t seed, stream;  /* as brt_rng_words has them */
    uint64_t index;         /* of the mask in the stream */
    size_t first;           /* position of the first row in its segment: the mask goes on where the last block ended */
} brt_dropout;
/* x [batch, time, dim] with some columns of some positions set to 0, the others scaled, + residual (or NULL) */
brt_tensor *brt_op_dropout(brt_tape *tape, brt_tensor *x, brt_tensor *residual, const brt_dropout *how);

/* x [batch, time, heads * dim_head], the vector of each head made unit and multiplied by scale [heads] (or NULL: 1) */
brt_tensor *brt_op_unit(brt_tape *tape, brt_tensor *x, size_t heads, brt_tensor *scale);

/* Biases of attention by distance, [heads, span]: entry d for a key d positions back. */
/* table [heads, terms], basis [terms, span] (lives until backward) */
brt_tensor *brt_op_distance_bias(brt_tape *tape, brt_tensor *table, const real *basis, size_t span);
/* scale [1]; bound [1], or NULL: fixed_bound */
brt_tensor *brt_op_alibi(brt_tape *tape, brt_tensor *scale, brt_tensor *bound, real fixed_bound, size_t heads,
                         size_t span);

/* weight and shift [hidden], of a hidden layer asinh(shift - weight * distance); table [heads, hidden] */
brt_tensor *brt_op_network_bias(brt_tape *tape, brt_tensor *weight, brt_tensor *shift, brt_tensor *table, size_t span);

/* Cosines and sines of the rotary embedding (Su et al. 2021) times the xPos factors (Sun et al. 2022), for positions
 * [0, width); query rows carry the factor, key rows its inverse. All are [width, dim]. */
typedef struct brt_rotation {
    const real *query_cosine, *query_sine, *key_cosine, *key_sine;
} brt_rotation;

/* x [batch, time, key_heads * heads * dim_head] -> [batch * key_heads, time, heads, dim_head]: each head's vector is
 * normalised and scaled if `scale` [dim_head] is given, then turned to positions position, position + 1, ... if
 * `rotation` is given. */
brt_tensor *brt_op_queries(brt_tape *tape, brt_tensor *x, size_t key_heads, size_t heads, brt_tensor *scale,
                           const brt_rotation *rotation, size_t position);
/* The same without a rotation, in parts of `part` queries, the last one filled up with zeros
 * -> [batch * parts * key_heads, part, heads, dim_head] */
brt_tensor *brt_op_queries_in_parts(brt_tape *tape, brt_tensor *x, size_t part, size_t key_heads, size_t heads,
                                    brt_tensor *scale);

/* Keys and values as attention reads them, of up to 5 parts one after the other: memories, then the block, each
 * [batch, time, 2 * key_heads * dim_head], a row the raw keys of all heads and their values; the keys normalised,
 * scaled and turned as above, to positions 0, 1, ... */
typedef struct brt_keys {
    brt_tensor *key, *value; /* [batch * key_heads, time of all parts, dim_head] */
} brt_keys;
brt_keys brt_op_keys(brt_tape *tape, size_t parts, brt_tensor *const *raw, size_t key_heads, brt_tensor *scale,
                     const brt_rotation *rotation);

/* [batch, rows, dim]: previous[b], or initial [rows, dim] where reset[b]; previous NULL: initial everywhere.
 * reset (may be NULL) lives until backward. */
brt_tensor *brt_op_select_state(brt_tape *tape, brt_tensor *previous, brt_tensor *initial, const bool *reset,
                                size_t batch);

/* sigmoid(beta) * z + (1 - sigmoid(beta)) * state; beta [dim]; z and state [batch, rows, dim] */
brt_tensor *brt_op_ema(brt_tape *tape, brt_tensor *beta, brt_tensor *z, brt_tensor *state);

/* Gates of the original with kernels, u, forget and input being the kernels' outputs; all of one shape:
 * sigmoid(u + 1) * state + (1 - sigmoid(u + 1)) * z, and sigmoid(forget + 1) * state + sigmoid(input - 1) * z */
brt_tensor *brt_op_gate_full(brt_tape *tape, brt_tensor *u, brt_tensor *z, brt_tensor *state);
brt_tensor *brt_op_gate_lstm(brt_tape *tape, brt_tensor *forget, brt_tensor *input, brt_tensor *z, brt_tensor *state);

/* logits [..., classes], targets [...] (live until backward) -> loss per row [...], 0 where target == ignore. The
 * gradient is that of weight * sum of the losses; it takes the place of the logits when recording. */
brt_tensor *brt_op_cross_entropy(brt_tape *tape, brt_tensor *logits, const int32_t *targets, int32_t ignore,
                                 real weight);

#endif
