/* A soft choice of k out of n by their scores s, as CoLT5 (Ainslie et al. 2023) routes tokens: the weights p that
 *   maximise  sum of p_i s_i + epsilon * entropy of p  with  sum of p_i = k,  0 <= p_i <= 1,
 * which are p_i = min(1, exp((s_i + a) / epsilon)). Coordinate descent on the dual finds a step by step:
 *   a <- epsilon (log k - log sum of exp(min(s_i, -a) / epsilon)).
 * Its limit has a closed form: with m weights at 1, those of the largest scores,
 *   a = epsilon (log(k - m) - log sum over the others of exp(s_i / epsilon)),
 * and m is the one number for which the m-th largest score + a >= 0 and the next + a < 0. */
#ifndef BRT_OPS_COORDINATE_DESCENT_H
#define BRT_OPS_COORDINATE_DESCENT_H

#include "../tensor/tape.h"

/* a. `largest` [count], descending, holds the ceil(k) largest scores or all; log_rest is log of the sum of
 * exp(s_i / epsilon) over all others (-infinity: there are none). Infinity, weights of 1, when there are no more than k
 * scores. *saturated becomes m. */
double brt_coordinate_descent(size_t count, const real *largest, double log_rest, double k, double epsilon,
                              size_t *saturated);

/* Puts scores into the order that the solver wants. */
void brt_sort_descending(size_t count, real *scores);

enum { BRT_PRICE_THRESHOLD, BRT_PRICE_A, BRT_PRICE_NUMBERS };
/* What tokens must score to be among the k best, from a block to the next: scores [batch, n, 1] -> [batch, 1, 2], of
 * each row the threshold, half way between the k-th largest score and the next, and a of the soft choice of 9/8 k (less
 * near n). Backward, where p_i < 1:  ds_i = -p_i da / sum over U of p_j;  the threshold has no gradient. 0 and 0, which
 * nobody reads, where k is n. */
brt_tensor *brt_op_price(brt_tape *tape, brt_tensor *scores, size_t k, double epsilon);

#endif
