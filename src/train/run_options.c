/* Options of a training run: defaults, presets, rules. */
#include "run_state.h"

#include <string.h>

brt_run_options brt_run_options_init(void)
{
    return (brt_run_options){
        .size = sizeof(brt_run_options),
        .sampling = "stream",
        .crop_segments = 2,
        .steps = 1000,
        .save_every = 500,
        .sample_tokens = 200,
        .accumulation = 1,
        .schedule = "cosine",
        .min_learning_rate = -1,
        .trainer = brt_trainer_options_init(),
    };
}

/* Small models learn faster with a higher rate and a short warm-up. */
static void small_preset(brt_run_options *options)
{
    options->trainer.learning_rate = 2e-3f;
    options->trainer.beta2 = 0.99f;
    options->warmup = 50;
}

/* The reference's train.py: Adam at a constant 1e-4, windows of 2 * max_seq_len drawn at random, gradients of 4
 * batches, 2 blocks of backpropagation. */
static void reference_preset(brt_run_options *options)
{
    brt_trainer_options *trainer = &options->trainer;
    options->sampling = "crops";
    options->crop_segments = 2;
    options->accumulation = 4;
    options->save_every = 20; /* a step takes seconds */
    options->schedule = "constant";
    trainer->rows = 4;
    trainer->segment_blocks = 2;
    trainer->optimizer = "adam";
    trainer->weight_decay = 0;
    trainer->learning_rate = 1e-4f;
    trainer->clip = 0.5f;
    trainer->xl_memories_dropout = trainer->state_dropout = 0.1f;
}

/* Training as Hutchins et al. 2022 do it: Adafactor with a relative rate of 1 / sqrt(step), gradients of sums of
 * losses, no clipping, dropout. The small model warms up faster. */
static void paper_preset(brt_run_options *options, uint64_t warmup)
{
    brt_trainer_options *trainer = &options->trainer;
    options->schedule = "rsqrt_decay_std";
    options->warmup = warmup;
    trainer->segment_blocks = 8;
    trainer->optimizer = "adafactor";
    trainer->summed_loss = trainer->skip_last_target = true;
    trainer->weight_decay = 0;
    trainer->learning_rate = 1;
    trainer->clip = 0;
    trainer->dropout = trainer->attention_dropout = 0.05f;
    trainer->xl_memories_dropout = trainer->state_dropout = 0;
}

brt_status brt_run_options_preset(brt_run_options *options, const char *name)
{
    if (strcmp(name, "tiny") == 0 || strcmp(name, "small") == 0)
        small_preset(options);
    else if (strcmp(name, "reference") == 0)
        reference_preset(options);
    else if (strcmp(name, "paper-tiny") == 0)
        paper_preset(options, 200);
    else if (strcmp(name, "paper-150m") == 0)
        paper_preset(options, 1000);
    else
        return BRT_FAIL(BRT_ERROR_ARGUMENT, "there is no preset \"%s\"; the presets are tiny, small, reference, "
                        "paper-tiny and paper-150m", name);
    return BRT_OK;
}

brt_status brt_run_options_check(const brt_run_options *options, const brt_model *model)
{
    if (options->size != sizeof *options)
        return BRT_FAIL(BRT_ERROR_ARGUMENT, "run options must be made with brt_run_options_init");
    if (!options->out || !options->out[0])
        return BRT_FAIL(BRT_ERROR_ARGUMENT, "a training run needs a directory (out)");
    if (options->steps == 0 && !(options->max_seconds > 0))
        return BRT_FAIL(BRT_ERROR_ARGUMENT, "a training run needs a number of steps or a time limit (max_seconds)");
    if (options->accumulation < 1 || options->accumulation > 1 << 20)
        return BRT_FAIL(BRT_ERROR_ARGUMENT, "accumulation is %zu; it must lie between 1 and %d", options->accumulation,
                        1 << 20);
    if (options->crop_segments > 1 << 20)
        return BRT_FAIL(BRT_ERROR_ARGUMENT, "crop_segments is %zu; it must be at most %d", options->crop_segments,
                        1 << 20);
    if (options->sample_tokens > 1 << 20)
        return BRT_FAIL(BRT_ERROR_ARGUMENT, "sample_tokens is %zu; it must be at most %d", options->sample_tokens,
                        1 << 20);
    if (!(options->trainer.learning_rate > 0))
        return BRT_FAIL(BRT_ERROR_ARGUMENT, "the learning rate is %g; it must be positive",
                        (double)options->trainer.learning_rate);
    bool crops = strcmp(options->sampling, "crops") == 0;
    if (!crops && strcmp(options->sampling, "stream") != 0)
        return BRT_FAIL(BRT_ERROR_ARGUMENT, "there is no sampling \"%s\"; there are stream and crops",
                        options->sampling);
    size_t segment = options->trainer.segment_blocks * (size_t)model->config.block_width;
    size_t window = options->crop_segments * (size_t)model->config.max_seq_len;
    if (crops && (!window || !segment || window % segment))
        return BRT_FAIL(BRT_ERROR_ARGUMENT,
                        "crops of %zu tokens (crop_segments * max_seq_len) are not a multiple of a segment's %zu "
                        "(segment_blocks * block_width)",
                        window, segment);
    brt_schedule_kind kind;
    return brt_schedule_parse(options->schedule, &kind);
}
