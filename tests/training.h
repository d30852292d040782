/* Trainers and their gradients, for the tests of training. */
#ifndef BRT_TESTS_TRAINING_H
#define BRT_TESTS_TRAINING_H

#include "models.h"

/* Large enough that products are cut into tiles and attention into tasks, for several threads. */
static const char medium_model[] =
    "{\"num_tokens\": 70, \"dim\": 64, \"depth\": 3, \"heads\": 2, \"dim_head\": 32, \"block_width\": 40,"
    " \"max_seq_len\": 80, \"recurrent_layers\": [3, 1], \"ff_mult\": 3}";

/* Without dropouts, decay and clipping. */
static inline brt_trainer_options plain_options(size_t rows)
{
    brt_trainer_options options = brt_trainer_options_init();
    options.rows = rows;
    options.segment_blocks = 4;
    options.threads = 2;
    options.xl_memories_dropout = options.state_dropout = 0;
    options.weight_decay = 0;
    options.clip = 0;
    return options;
}

static inline brt_trainer *open_trainer(brt_model *model, const brt_trainer_options *options)
{
    brt_trainer *trainer;
    assert_ok(brt_trainer_open(&trainer, model, options));
    return trainer;
}

/* Tokens and targets [rows, time]. */
typedef struct batch {
    size_t rows, time;
    int32_t *tokens, *targets;
} batch;

static inline batch make_batch(const brt_model *model, size_t rows, size_t time, uint64_t seed)
{
    return (batch){rows, time, draw_tokens(model, rows * time, seed), draw_tokens(model, rows * time, seed + 1000)};
}

static inline void close_batch(batch *b)
{
    free(b->tokens);
    free(b->targets);
}

static inline brt_segment segment_of(const batch *b)
{
    return (brt_segment){.time = b->time, .tokens = b->tokens, .targets = b->targets, .weight = 1};
}

static inline double run_segment(brt_trainer *trainer, const batch *b)
{
    brt_segment segment = segment_of(b);
    double loss;
    assert_ok(brt_trainer_segment(trainer, &segment, &loss, NULL));
    return loss;
}

static inline size_t parameter_total(const brt_model *model)
{
    size_t total = 0;
    for (size_t i = 0; i < brt_model_parameter_count(model); i++) {
        brt_parameter_info info;
        assert_ok(brt_model_parameter(model, i, &info));
        total += info.count;
    }
    return total;
}

/* All gradients, or with a NULL trainer all weights, one after the other. */
static inline float *read_all(const brt_model *model, const brt_trainer *trainer)
{
    float *all = malloc(parameter_total(model) * sizeof *all), *at = all;
    for (size_t i = 0; i < brt_model_parameter_count(model); i++) {
        brt_parameter_info info;
        assert_ok(brt_model_parameter(model, i, &info));
        if (trainer)
            assert_ok(brt_trainer_gradient(trainer, i, at));
        else
            memcpy(at, info.data, info.count * sizeof *at);
        at += info.count;
    }
    return all;
}

static inline bool same_all(const brt_model *model, const float *a, const float *b)
{
    return memcmp(a, b, parameter_total(model) * sizeof *a) == 0;
}

#endif
