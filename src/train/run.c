/* A training run: segments, updates, metrics, validation, samples, checkpoints. */
#include "run_state.h"

#include "../base/clock.h"
#include "../base/size.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

double brt_run_seconds(const brt_run_state *run)
{
    return run->seconds_before + brt_seconds() - run->started;
}

void brt_run_say(const brt_run_state *run, const char *format, ...)
{
    if (!run->callbacks->on_message)
        return;
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    run->callbacks->on_message(run->callbacks->user, text);
}

/* ---- one step ---------------------------------------------------------------------------------------------- */

/* How much of the run is done, by steps or by time, whichever is further. */
static double fraction_done(const brt_run_state *run)
{
    const brt_run_options *options = run->options;
    double by_steps = options->steps ? (double)run->step / (double)options->steps : 0;
    double by_time = options->max_seconds > 0 ? brt_run_seconds(run) / options->max_seconds : 0;
    return fmin(1, fmax(by_steps, by_time));
}

static size_t segment_time(const brt_run_state *run)
{
    return run->options->trainer.segment_blocks * (size_t)run->model->config.block_width;
}

/* The segments of one update; the losses are their means. */
static brt_status accumulate(brt_run_state *run, double *loss, double *reconstruction_loss)
{
    brt_segment segment = {.time = segment_time(run),
                           .tokens = run->tokens,
                           .targets = run->targets,
                           .reset = run->reset,
                           .weight = 1.0f / (float)run->segments_per_update};
    *loss = *reconstruction_loss = 0;
    for (size_t i = 0; i < run->segments_per_update; i++) {
        double part;
        BRT_TRY(brt_batcher_next(run->batcher, run->tokens, run->targets, run->reset));
        BRT_TRY(brt_trainer_segment(run->trainer, &segment, &part, NULL));
        *loss += part / (double)run->segments_per_update;
        *reconstruction_loss += brt_trainer_reconstruction_loss(run->trainer) / (double)run->segments_per_update;
    }
    return BRT_OK;
}

static brt_status not_finite(const brt_run_state *run, double loss)
{
    return BRT_FAIL(BRT_ERROR_NUMERIC,
                    "the loss at step %llu is not finite (%g); the last checkpoint in %s is as it was. A lower "
                    "learning rate or a longer warm-up may help",
                    (unsigned long long)run->step + 1, loss, run->options->out);
}

static brt_status train_step(brt_run_state *run)
{
    brt_run_progress *progress = &run->progress;
    double before = brt_seconds();
    progress->learning_rate = brt_schedule_rate(&run->schedule, run->step, fraction_done(run));
    BRT_TRY(accumulate(run, &progress->loss, &progress->reconstruction_loss));
    if (!isfinite(progress->loss))
        return not_finite(run, progress->loss);
    brt_status status = brt_trainer_update(run->trainer, progress->learning_rate, &progress->gradient_norm);
    if (status == BRT_ERROR_NUMERIC)
        return BRT_FAIL(status, "the gradient at step %llu is not finite; the last checkpoint in %s is as it was",
                        (unsigned long long)run->step + 1, run->options->out);
    BRT_TRY(status);
    progress->step = ++run->step;
    progress->seconds = brt_run_seconds(run);
    progress->tokens_per_s =
        (double)(run->segments_per_update * run->options->trainer.rows * segment_time(run)) / (brt_seconds() - before);
    return BRT_OK;
}

/* ---- validation and samples -------------------------------------------------------------------------------- */

static brt_status evaluate(const brt_run_state *run, bool no_states, size_t clear_every, brt_evaluation *out)
{
    brt_evaluate_options options = brt_evaluate_options_init();
    options.threads = run->options->trainer.threads;
    options.max_tokens = run->options->val_tokens;
    options.no_states = no_states;
    options.clear_every = clear_every;
    return brt_evaluate(run->model, run->val, &options, out);
}

static brt_status validate(brt_run_state *run, brt_validation *validation)
{
    brt_evaluation with, without, cleared;
    BRT_TRY(evaluate(run, false, 0, &with));
    BRT_TRY(evaluate(run, true, 0, &without));
    BRT_TRY(evaluate(run, false, segment_time(run), &cleared));
    *validation = (brt_validation){.tokens = with.tokens,
                                   .loss = with.loss,
                                   .loss_no_states = without.loss,
                                   .loss_cleared = cleared.loss,
                                   .seconds = with.seconds + without.seconds + cleared.seconds};
    if (run->callbacks->on_validation)
        run->callbacks->on_validation(run->callbacks->user, &run->progress, validation);
    return BRT_OK;
}

/* Writes `count` tokens that follow a line's end (bytes), or token 0. */
static brt_status generate(const brt_run_state *run, brt_stream *stream, float *logits, int32_t *tokens, size_t count)
{
    size_t classes = (size_t)run->model->config.num_tokens;
    brt_sampling sampling = brt_sampling_init();
    sampling.temperature = 0.8f;
    sampling.top_p = 0.95f;
    sampling.seed = run->options->seed + run->step;
    int32_t token = classes > '\n' ? '\n' : 0;
    for (size_t i = 0; i < count; i++) {
        BRT_TRY(brt_stream_feed_last(stream, &token, 1, logits));
        BRT_TRY(brt_sample(logits, classes, &sampling, brt_stream_position(stream, 0), &token));
        tokens[i] = token;
    }
    return BRT_OK;
}

static brt_status show_sample(const brt_run_state *run)
{
    size_t count = run->options->sample_tokens;
    float *logits = malloc((size_t)run->model->config.num_tokens * sizeof *logits);
    int32_t *tokens = malloc(brt_max_size(count, 1) * sizeof *tokens);
    brt_stream *stream = NULL;
    brt_stream_options options = brt_stream_options_init();
    options.threads = run->options->trainer.threads;
    brt_status status = logits && tokens ? brt_stream_open(&stream, run->model, &options)
                                         : BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for a sample");
    if (status == BRT_OK)
        status = generate(run, stream, logits, tokens, count);
    if (status == BRT_OK)
        run->callbacks->on_sample(run->callbacks->user, &run->progress, tokens, count);
    brt_stream_close(stream);
    free(logits);
    free(tokens);
    return status;
}

/* ---- the loop --------------------------------------------------------------------------------------------------- */

static bool is_due(uint64_t step, uint64_t every)
{
    return every && step % every == 0;
}

static bool is_done(const brt_run_state *run)
{
    const brt_run_options *options = run->options;
    return (options->steps && run->step >= options->steps) ||
           (options->max_seconds > 0 && brt_run_seconds(run) >= options->max_seconds);
}

static json_t *metrics_line(const brt_run_state *run, const brt_validation *validation)
{
    const brt_run_progress *p = &run->progress;
    json_t *line = json_pack("{s:I, s:f, s:f, s:f, s:f, s:f}", "step", (json_int_t)p->step, "loss", p->loss,
                             "gradient_norm", p->gradient_norm, "learning_rate", (double)p->learning_rate, "seconds",
                             p->seconds, "tokens_per_s", p->tokens_per_s);
    if (line && run->options->trainer.reconstruction_weight > 0)
        json_object_set_new(line, "reconstruction_loss", json_real(p->reconstruction_loss));
    if (line && validation)
        json_object_set_new(line, "validation",
                            json_pack("{s:I, s:f, s:f, s:f}", "tokens", (json_int_t)validation->tokens, "loss",
                                      validation->loss, "loss_no_states", validation->loss_no_states, "loss_cleared",
                                      validation->loss_cleared));
    return line;
}

/* What follows a step: validation, metrics, a sample, a checkpoint. */
static brt_status finish_step(brt_run_state *run, bool last)
{
    const brt_run_options *options = run->options;
    const brt_run_callbacks *callbacks = run->callbacks;
    brt_validation validation;
    if (callbacks->on_step)
        callbacks->on_step(callbacks->user, &run->progress);
    bool validates = run->val && (last || is_due(run->step, options->val_every));
    if (validates)
        BRT_TRY(validate(run, &validation));
    BRT_TRY(brt_metrics_write(&run->metrics, metrics_line(run, validates ? &validation : NULL)));
    if (callbacks->on_sample && is_due(run->step, options->sample_every))
        BRT_TRY(show_sample(run));
    return last || is_due(run->step, options->save_every) ? brt_run_save(run) : BRT_OK;
}

static brt_status loop(brt_run_state *run)
{
    const brt_run_callbacks *callbacks = run->callbacks;
    if (is_done(run))
        brt_run_say(run, "nothing is left to do: the run is at step %llu, and its steps or its time are used up",
                    (unsigned long long)run->step);
    while (!is_done(run)) {
        BRT_TRY(train_step(run));
        BRT_TRY(finish_step(run, is_done(run)));
        if (callbacks->should_stop && callbacks->should_stop(callbacks->user) && !is_done(run)) {
            BRT_TRY(brt_run_save(run));
            return BRT_FAIL(BRT_INTERRUPTED, "interrupted after step %llu; a checkpoint is in %s",
                            (unsigned long long)run->step, run->options->out);
        }
    }
    return BRT_OK;
}

/* ---- making and ending ------------------------------------------------------------------------------------------ */

static brt_status open_batcher(brt_run_state *run, const brt_dataset *train)
{
    const brt_run_options *options = run->options;
    brt_batcher_options batcher = {.sampling = options->sampling,
                                   .rows = options->trainer.rows,
                                   .time = segment_time(run),
                                   .crop_tokens = options->crop_segments * (size_t)run->model->config.max_seq_len,
                                   .ignore_index = (int32_t)run->model->config.ignore_index,
                                   .seed = options->seed};
    bool crops = strcmp(options->sampling, "crops") == 0;
    run->segments_per_update = options->accumulation * (crops ? batcher.crop_tokens / batcher.time : 1);
    size_t tokens = batcher.rows * batcher.time;
    run->tokens = calloc(tokens, sizeof *run->tokens);
    run->targets = calloc(tokens, sizeof *run->targets);
    run->reset = calloc(batcher.rows, sizeof *run->reset);
    if (!run->tokens || !run->targets || !run->reset)
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for a batch of %zu tokens", tokens);
    return brt_batcher_open(&run->batcher, train, &batcher);
}

static brt_status open_schedule(brt_run_state *run)
{
    const brt_run_options *options = run->options;
    float peak = options->trainer.learning_rate;
    run->schedule = (brt_schedule){
        .peak = peak,
        .floor = options->min_learning_rate < 0 ? 0.1f * peak : options->min_learning_rate,
        .warmup = options->warmup,
        .steps = options->steps,
    };
    return brt_schedule_parse(options->schedule, &run->schedule.kind);
}

/* Found out here, and not by the first validation, which may be hours away. */
static brt_status check_validation(const brt_dataset *val)
{
    if (!val)
        return BRT_OK;
    for (size_t i = 0; i < brt_dataset_documents(val); i++)
        if (brt_dataset_document_tokens(val, i) >= 2)
            return BRT_OK;
    return BRT_FAIL(BRT_ERROR_DATA, "there is nothing to validate on: no document has two tokens or more");
}

static brt_status open_run(brt_run_state *run, const brt_dataset *train)
{
    BRT_TRY(brt_run_options_check(run->options, run->model));
    BRT_TRY(check_validation(run->val));
    BRT_TRY(open_schedule(run));
    brt_trainer_options trainer = run->options->trainer;
    trainer.seed = run->options->seed;
    trainer.profile |= run->callbacks->on_profile != NULL;
    BRT_TRY(brt_trainer_open(&run->trainer, run->model, &trainer));
    BRT_TRY(open_batcher(run, train));
    if (run->options->trainer.segment_blocks == 1 && run->model->containers)
        brt_run_say(run, "warning: with one block per segment the recurrence will not learn: no gradient reaches what "
                         "writes the state; use segment_blocks of 2 or more");
    return brt_run_open_files(run);
}

static void close_run(brt_run_state *run)
{
    brt_run_close_files(run);
    brt_batcher_close(run->batcher);
    brt_trainer_close(run->trainer);
    free(run->tokens);
    free(run->targets);
    free(run->reset);
}

brt_status brt_run(brt_model *model, const brt_dataset *train, const brt_dataset *val, const brt_run_options *options,
                   const brt_run_callbacks *callbacks)
{
    static const brt_run_callbacks none;
    brt_run_state run = {.model = model,
                         .val = val,
                         .options = options,
                         .callbacks = callbacks ? callbacks : &none,
                         .lock = -1,
                         .started = brt_seconds(),
                         .progress = {.steps = options->steps, .max_seconds = options->max_seconds}};
    brt_status status = open_run(&run, train);
    run.started = brt_seconds();
    if (status == BRT_OK)
        status = loop(&run);
    if (run.trainer && run.callbacks->on_profile)
        run.callbacks->on_profile(run.callbacks->user, run.trainer);
    close_run(&run);
    return status;
}
