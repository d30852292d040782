/* Drawing a token: temperature, the filters, and the Gumbel-max trick: argmax(logit / temperature + gumbel) is a draw
 * from the softmax (Gumbel 1954; the reference samples so). */
#include "../base/rng.h"
#include "../base/size.h"
#include "../base/status.h"

#include <math.h>
#include <stdlib.h>

enum { sampling_stream = 3 }; /* random numbers of the sampling seed: position * 2^32 + token */

brt_sampling brt_sampling_init(void)
{
    return (brt_sampling){.size = sizeof(brt_sampling), .temperature = 1, .top_p = 1};
}

typedef struct candidate {
    float logit;
    int32_t token;
} candidate;

/* Most likely first; equal logits by token, so that the order is one. */
static int by_logit(const void *a, const void *b)
{
    const candidate *left = a, *right = b;
    if (left->logit != right->logit)
        return left->logit < right->logit ? 1 : -1;
    return left->token < right->token ? -1 : left->token > right->token;
}

static brt_status check(const float *logits, size_t num_tokens, const brt_sampling *sampling)
{
    if (sampling->size != sizeof *sampling)
        return BRT_FAIL(BRT_ERROR_ARGUMENT, "sampling options must be made with brt_sampling_init");
    if (num_tokens < 1 || num_tokens > INT32_MAX)
        return BRT_FAIL(BRT_ERROR_ARGUMENT,
                        "num_tokens is %zu; a token is drawn from at least one logit and at most %d", num_tokens,
                        INT32_MAX);
    if (!(sampling->temperature >= 0 && sampling->temperature <= 1e6f))
        return BRT_FAIL(BRT_ERROR_ARGUMENT, "temperature is %g; it must lie between 0 and 1e6",
                        (double)sampling->temperature);
    if (!(sampling->top_p > 0 && sampling->top_p <= 1))
        return BRT_FAIL(BRT_ERROR_ARGUMENT, "top_p is %g; it must lie in (0, 1]", (double)sampling->top_p);
    if (!(sampling->filter_thres >= 0 && sampling->filter_thres < 1))
        return BRT_FAIL(BRT_ERROR_ARGUMENT, "filter_thres is %g; it must lie in [0, 1)",
                        (double)sampling->filter_thres);
    for (size_t i = 0; i < num_tokens; i++)
        if (!isfinite(logits[i]))
            return BRT_FAIL(BRT_ERROR_NUMERIC,
                            "the logit of token %zu is not finite: the model's weights are damaged or diverged", i);
    return BRT_OK;
}

/* The reference's ceil((1 - thres) * num_tokens). It is computed in double there, and 1 - 0.9f is more than 1 - 0.9:
 * the 7 decimals that a float below 1 tells apart are taken as they were written. */
static size_t filtered(size_t num_tokens, float filter_thres)
{
    double thres = round((double)filter_thres * 1e7) / 1e7;
    return (size_t)ceil((1 - thres) * (double)num_tokens);
}

/* How many of the sorted candidates hold top_p of the probability. */
static size_t nucleus(const candidate *candidates, size_t count, const brt_sampling *sampling)
{
    double total = 0, sum = 0;
    for (size_t i = 0; i < count; i++)
        total += exp((double)(candidates[i].logit - candidates[0].logit) / (double)sampling->temperature);
    for (size_t i = 0; i < count; i++) {
        sum += exp((double)(candidates[i].logit - candidates[0].logit) / (double)sampling->temperature);
        if (sum >= (double)sampling->top_p * total)
            return i + 1;
    }
    return count;
}

static size_t kept(const candidate *candidates, size_t num_tokens, const brt_sampling *sampling)
{
    size_t count = num_tokens;
    if (sampling->filter_thres > 0)
        count = filtered(num_tokens, sampling->filter_thres);
    if (sampling->top_k > 0)
        count = brt_min_size(count, sampling->top_k);
    count = brt_max_size(count, 1);
    return sampling->top_p < 1 ? nucleus(candidates, count, sampling) : count;
}

static double gumbel(const brt_sampling *sampling, uint64_t position, int32_t token)
{
    double uniform = brt_rng_uniform(sampling->seed, sampling_stream, position << 32 | (uint32_t)token);
    return -log(-log(fmax(uniform, 1e-300)) + 1e-300);
}

static int32_t draw(const candidate *candidates, size_t count, const brt_sampling *sampling, uint64_t position)
{
    int32_t best = candidates[0].token;
    double highest = -HUGE_VAL;
    for (size_t i = 0; i < count; i++) {
        double score = (double)candidates[i].logit / (double)sampling->temperature +
                       gumbel(sampling, position, candidates[i].token);
        if (score > highest) {
            highest = score;
            best = candidates[i].token;
        }
    }
    return best;
}

brt_status brt_sample(const float *logits, size_t num_tokens, const brt_sampling *sampling, uint64_t position,
                      int32_t *token)
{
    BRT_TRY(check(logits, num_tokens, sampling));
    candidate *candidates = malloc(num_tokens * sizeof *candidates);
    if (!candidates)
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for sampling from %zu tokens", num_tokens);
    for (size_t i = 0; i < num_tokens; i++)
        candidates[i] = (candidate){logits[i], (int32_t)i};
    qsort(candidates, num_tokens, sizeof *candidates, by_logit);
    *token = sampling->temperature > 0 ? draw(candidates, kept(candidates, num_tokens, sampling), sampling, position)
                                       : candidates[0].token;
    free(candidates);
    return BRT_OK;
}
