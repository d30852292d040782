/* What becomes of raw keys [batch, block, width] when they leave the window: the compressions of the Compressive
 * Transformer (Rae et al. 2020) at the rate `factor`, and the queue that keeps what they make. A row is key | value.
 * Of a block that is no multiple of the factor the oldest rows are left out. */
#ifndef BRT_OPS_COMPRESSION_H
#define BRT_OPS_COMPRESSION_H

#include "attention.h"

/* A convolution of `factor` taps that are `dilation` rows apart, once every factor-th row: x [batch, block, width],
 * weight [width, group, factor], bias [width] -> [batch, block / factor, width]. Columns are in groups of `group` (the
 * key, the value), each of which sees itself only. Entry n's last tap is on row (n + 1) * factor - 1 of those that are
 * not left out; rows before the block are 0. */
brt_tensor *brt_op_convolve(brt_tape *tape, brt_tensor *x, brt_tensor *weight, brt_tensor *bias, size_t dilation);

typedef enum brt_pooling { BRT_POOL_MEAN, BRT_POOL_MAX } brt_pooling;
/* The mean or the maximum of `factor` rows, column by column -> [batch, block / factor, width] */
brt_tensor *brt_op_pool(brt_tape *tape, brt_tensor *x, brt_pooling pooling, size_t factor);

/* The block / factor rows with the largest usage [batch, block], in their order; of equals the earlier ones. The choice
 * has no gradient. */
brt_tensor *brt_op_most_used(brt_tape *tape, brt_tensor *x, brt_tensor *usage, size_t factor);

/* usage [batch, count]: how much attention keys [first, first + count) got from all heads of all queries, the sum of
 * their weights, in what brt_op_attention made of the same arguments before, how->log_sum_exp included. No gradient. */
void brt_op_usage(brt_tape *tape, brt_tensor *query, brt_tensor *key, const brt_attention *how, size_t first,
                  brt_tensor *usage);

/* The newest rows of queue | entries, as many as the queue has: queue [batch, rows, width], entries
 * [batch, any, width]. */
brt_tensor *brt_op_push(brt_tape *tape, brt_tensor *queue, brt_tensor *entries);

/* Mean of (x - target)^2 over each row of the batch: x and target [batch, ...] -> [batch]. A loss: its gradient is that
 * of weight * sum over the rows; the target has none. */
brt_tensor *brt_op_squared_error(brt_tape *tape, brt_tensor *x, brt_tensor *target, real weight);

#endif
