#include "run_state.h"

#include "../base/file.h"
#include "checkpoint.h"

#include <stdlib.h>
#include <unistd.h>

static const char config_name[] = "config.json", weights_name[] = "model.safetensors",
                  checkpoint_name[] = "optimizer.safetensors", state_name[] = "trainer_state.json",
                  metrics_name[] = "metrics.jsonl";

/* "fixed": what a checkpoint can only be resumed with unchanged, because the order of the data, the carried rows or the
 * moments depend on it. "other" may be changed on the way. */
static json_t *options_to_json(const brt_run_options *o)
{
    const brt_trainer_options *t = &o->trainer;
    json_t *fixed = json_pack("{s:s, s:I, s:I, s:I, s:s, s:I, s:I}", "sampling", o->sampling, "crop_segments",
                              (json_int_t)o->crop_segments, "accumulation", (json_int_t)o->accumulation, "seed",
                              (json_int_t)o->seed, "optimizer", t->optimizer, "batch", (json_int_t)t->rows,
                              "segment_blocks", (json_int_t)t->segment_blocks);
    json_t *other = json_pack(
        "{s:s, s:b, s:b, s:b, s:s, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:I, s:I, s:f, s:I, "
        "s:I, s:I, s:I, s:I}",
        "dtype", t->dtype, "recompute", t->recompute, "summed_loss", t->summed_loss, "skip_last_target",
        t->skip_last_target, "schedule", o->schedule, "learning_rate", (double)t->learning_rate, "min_learning_rate",
        (double)o->min_learning_rate, "beta1", (double)t->beta1, "beta2", (double)t->beta2, "epsilon",
        (double)t->epsilon, "weight_decay", (double)t->weight_decay, "clip", (double)t->clip, "xl_memories_dropout",
        (double)t->xl_memories_dropout, "state_dropout", (double)t->state_dropout, "dropout", (double)t->dropout,
        "attention_dropout", (double)t->attention_dropout, "reconstruction_weight", (double)t->reconstruction_weight,
        "warmup", (json_int_t)o->warmup, "steps", (json_int_t)o->steps, "max_seconds", o->max_seconds, "save_every",
        (json_int_t)o->save_every, "val_every", (json_int_t)o->val_every, "val_tokens", (json_int_t)o->val_tokens,
        "sample_every", (json_int_t)o->sample_every, "sample_tokens", (json_int_t)o->sample_tokens);
    return json_pack("{s:o, s:o}", "fixed", fixed, "other", other);
}

static json_t *describe(const brt_run_state *run)
{
    return json_pack("{s:s, s:s, s:I, s:f, s:o, s:o}", "version", brt_version(), "isa", brt_isa(), "step",
                     (json_int_t)run->step, "seconds", brt_run_seconds(run), "options", options_to_json(run->options),
                     "data", brt_batcher_cursor(run->batcher));
}

brt_status brt_run_save(brt_run_state *run)
{
    json_t *state = describe(run);
    if (!state)
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for a checkpoint");
    brt_status status = brt_checkpoint_save(run->trainer, state, run->checkpoint_path);
    if (status == BRT_OK)
        status = brt_model_save(run->model, run->options->out);
    if (status == BRT_OK)
        status = brt_json_save(state, run->state_path);
    json_decref(state);
    return status;
}

/* The first fixed option whose value has changed. */
static brt_status compare_options(const brt_run_state *run, const json_t *saved)
{
    json_t *current = options_to_json(run->options);
    const char *name;
    json_t *value;
    brt_status status = BRT_OK;
    json_object_foreach(json_object_get(current, "fixed"), name, value)
    {
        const json_t *before = json_object_get(json_object_get(saved, "fixed"), name);
        if (before && json_equal(before, value))
            continue;
        char *text = before ? json_dumps(before, JSON_ENCODE_ANY) : NULL;
        status = BRT_FAIL(BRT_ERROR_MISMATCH, "the run in %s was made with %s = %s; resume it with the same value",
                          run->options->out, name, text ? text : "another value");
        brt_free(text);
        break;
    }
    json_decref(current);
    return status;
}

/* Whether the run's directory has a file of that name. */
static bool has_file(const brt_run_state *run, const char *name)
{
    char *path = brt_path_join(run->options->out, name);
    bool exists = path && brt_file_exists(path);
    brt_free(path);
    return exists;
}

static brt_status compare_values(const brt_run_state *run, const json_t *before, const json_t *now)
{
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)now, name, value)
    {
        const json_t *saved = json_object_get(before, name);
        if (saved && json_equal(saved, value))
            continue;
        char *text = json_dumps(saved, JSON_ENCODE_ANY | JSON_REAL_PRECISION(9));
        brt_status status =
            BRT_FAIL(BRT_ERROR_MISMATCH, "the model of the run in %s has %s = %.200s; resume it with the same model",
                     run->options->out, name, text ? text : "another value");
        brt_free(text);
        return status;
    }
    return BRT_OK;
}

/* Arguments of the model that leave the shapes of the weights as they are would go unnoticed otherwise. */
static brt_status compare_configs(const brt_run_state *run)
{
    if (!has_file(run, config_name))
        return BRT_OK;
    brt_config *saved;
    BRT_TRY(brt_config_create(&saved));
    brt_status status = brt_config_load(saved, run->options->out);
    if (status == BRT_OK)
        status = brt_config_check(saved);
    json_t *before = status == BRT_OK ? brt_config_to_json(saved) : NULL;
    json_t *now = brt_config_to_json(&run->model->config);
    if (status == BRT_OK)
        status = before && now ? compare_values(run, before, now)
                               : BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for comparing configurations");
    json_decref(before);
    json_decref(now);
    brt_config_close(saved);
    return status;
}

/* The options first: a sentence that names one says more than a tensor of another shape. */
static brt_status restore(brt_run_state *run, const json_t *state)
{
    int64_t step;
    BRT_TRY(compare_options(run, json_object_get(state, "options")));
    BRT_TRY(brt_checkpoint_load(run->trainer, run->checkpoint_path));
    BRT_TRY(brt_json_get_integer(state, "step", run->checkpoint_path, &step));
    BRT_TRY(brt_json_get_number(state, "seconds", run->checkpoint_path, &run->seconds_before));
    if (step < 0)
        return BRT_FAIL(BRT_ERROR_FORMAT, "%s: \"step\" is negative", run->checkpoint_path);
    run->step = (uint64_t)step;
    return brt_batcher_restore(run->batcher, json_object_get(state, "data"), run->checkpoint_path);
}

/* A kill between two files of a checkpoint leaves the later ones as they were at the one before. */
static brt_status complete_checkpoint(const brt_run_state *run, const json_t *state)
{
    BRT_TRY(brt_model_save(run->model, run->options->out));
    return brt_json_save(state, run->state_path);
}

static brt_status resume(brt_run_state *run)
{
    json_t *state;
    BRT_TRY(compare_configs(run));
    BRT_TRY(brt_checkpoint_state(run->checkpoint_path, &state));
    brt_status status = restore(run, state);
    if (status == BRT_OK)
        status = complete_checkpoint(run, state);
    json_decref(state);
    if (status == BRT_OK)
        brt_run_say(run, "resuming at step %llu", (unsigned long long)run->step);
    return status;
}

/* A model without a checkpoint was made elsewhere, or its checkpoint was deleted: it is not to be lost. */
static brt_status refuse_to_overwrite(const brt_run_state *run)
{
    const char *out = run->options->out;
    if (has_file(run, checkpoint_name))
        return BRT_FAIL(BRT_ERROR_ARGUMENT, "%s already holds a run; resume it or name another directory", out);
    if (has_file(run, weights_name))
        return BRT_FAIL(BRT_ERROR_ARGUMENT, "%s holds a model, %s, but no %s to resume from; name another directory",
                        out, weights_name, checkpoint_name);
    return BRT_OK;
}

/* The options are written before the first step: without them a run that is killed before its first checkpoint could
 * only be resumed by naming them all again. */
static brt_status begin(const brt_run_state *run)
{
    BRT_TRY(refuse_to_overwrite(run));
    if (run->options->resume)
        brt_run_say(run, "no checkpoint in %s yet: starting at step 0", run->options->out);
    json_t *state = describe(run);
    if (!state)
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for the state of the run");
    brt_status status = brt_config_save(&run->model->config, run->options->out);
    if (status == BRT_OK)
        status = brt_json_save(state, run->state_path);
    json_decref(state);
    return status;
}

static void remove_leftovers(const brt_run_state *run)
{
    static const char *const names[] = {config_name, weights_name, checkpoint_name, state_name, metrics_name};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        brt_remove_leftovers(run->options->out, names[i]);
}

brt_status brt_run_open_files(brt_run_state *run)
{
    const char *out = run->options->out;
    BRT_TRY(brt_make_directory(out));
    BRT_TRY(brt_directory_lock(&run->lock, out));
    run->checkpoint_path = brt_path_join(out, checkpoint_name);
    run->state_path = brt_path_join(out, state_name);
    run->metrics_path = brt_path_join(out, metrics_name);
    if (!run->checkpoint_path || !run->state_path || !run->metrics_path)
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for the paths of %s", out);
    bool resumes = run->options->resume && has_file(run, checkpoint_name);
    BRT_TRY(resumes ? resume(run) : begin(run));
    remove_leftovers(run);
    return brt_metrics_open(&run->metrics, run->metrics_path, run->step);
}

void brt_run_close_files(brt_run_state *run)
{
    brt_metrics_close(&run->metrics);
    free(run->checkpoint_path);
    free(run->state_path);
    free(run->metrics_path);
    if (run->lock >= 0)
        close(run->lock);
}
