/* brt train: a training run in a directory. */
#define _GNU_SOURCE
#include "commands.h"
#include "data_arguments.h"
#include "interrupt.h"
#include "model_arguments.h"
#include "output.h"
#include "profile.h"
#include "progress.h"
#include "saved_options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct train_arguments {
    cli_paths data, val;
    float val_fraction;
    const char *split, *format, *preset, *config, *init, *isa;
    bool json, quiet, profile;
    brt_run_options run;
} train_arguments;

#define RUN(field) offsetof(train_arguments, run.field)
#define TRAINER(field) offsetof(train_arguments, run.trainer.field)

static const cli_option options[] = {
    {"data", 0, CLI_PATHS, offsetof(train_arguments, data), "PATH",
     "files, directories or patterns to learn from; each file is a document"},
    {"out", 'o', CLI_TEXT, RUN(out), "DIR", "the run's directory"},
    {"resume", 0, CLI_FLAG, RUN(resume), NULL,
     "go on from the checkpoint in DIR, with the options it was made with where none are given; what names the data "
     "(--data, --val, --val-fraction, --split, --format) is given again"},
    {"val", 0, CLI_PATHS, offsetof(train_arguments, val), "PATH", "text to validate on"},
    {"val-fraction", 0, CLI_NUMBER, offsetof(train_arguments, val_fraction), "X",
     "without --val: hold out this part of the data's end"},
    {"split", 0, CLI_CHOICE, offsetof(train_arguments, split), "enwik8",
     "the data is enwik8: train on its first 90 MB, validate on the next 5 MB"},
    CLI_FORMAT(train_arguments),
    CLI_MODEL_SOURCES(train_arguments),
    {"init", 0, CLI_TEXT, offsetof(train_arguments, init), "MODEL",
     "start from the weights of a trained model (a run, or a directory with config.json and model.safetensors)"},
    {"steps", 0, CLI_COUNT, RUN(steps), "N", "updates of the weights; any number if --max-time alone is given"},
    {"max-time", 0, CLI_SECONDS, RUN(max_seconds), "TIME",
     "end after this time of training, all sessions together: 90, 90s, 15m or 2h"},
    {"batch", 0, CLI_SIZE, TRAINER(rows), "N", "rows trained together"},
    {"segment-blocks", 0, CLI_SIZE, TRAINER(segment_blocks), "N", "blocks of backpropagation through time"},
    {"recompute", 0, CLI_FLAG, TRAINER(recompute), NULL,
     "keep one block's activations and compute the others again: less memory, a third more time, the same numbers; "
     "a resumed run keeps to it"},
    {"dtype", 0, CLI_CHOICE, TRAINER(dtype), "f32|bf16",
     "of the operands of matrix products; bf16 is for processors with AVX512-BF16; weights and sums stay f32"},
    {"accumulation", 0, CLI_SIZE, RUN(accumulation), "N", "segments (of crops: windows) per update"},
    {"sampling", 0, CLI_CHOICE, RUN(sampling), "stream|crops",
     "rows read documents in order and carry memories and states on, or random windows"},
    {"crop-segments", 0, CLI_SIZE, RUN(crop_segments), "N", "length of a window in max-seq-len"},
    {"optimizer", 0, CLI_CHOICE, TRAINER(optimizer), "adamw|adam|adafactor", "how weights are updated"},
    {"summed-loss", 0, CLI_FLAG, TRAINER(summed_loss), NULL,
     "the gradient of the sum of the losses, as Hutchins et al. have it for Adafactor, not of their mean"},
    {"skip-last-target", 0, CLI_FLAG, TRAINER(skip_last_target), NULL,
     "no loss for the last token of each segment in training, as the code of Hutchins et al."},
    {"lr", 0, CLI_NUMBER, TRAINER(learning_rate), "X", "highest learning rate"},
    {"min-lr", 0, CLI_NUMBER, RUN(min_learning_rate), "X", "where cosine ends; a tenth of --lr unless given"},
    {"schedule", 0, CLI_CHOICE, RUN(schedule),
     "constant|cosine|rsqrt|rsqrt_decay_std|rsqrt_decay|cosine_decay|cosine_decay_spike|linear_decay",
     "of the learning rate after the warm-up; those with decay are of Hutchins et al., and --lr their factor"},
    {"warmup", 0, CLI_COUNT, RUN(warmup), "N", "steps of linear warm-up"},
    {"beta1", 0, CLI_NUMBER, TRAINER(beta1), "X", "of Adam; of Adafactor the momentum"},
    {"beta2", 0, CLI_NUMBER, TRAINER(beta2), "X", "of Adam"},
    {"epsilon", 0, CLI_NUMBER, TRAINER(epsilon), "X", "of Adam"},
    {"weight-decay", 0, CLI_NUMBER, TRAINER(weight_decay), "X", "of matrices"},
    {"clip", 0, CLI_NUMBER, TRAINER(clip), "X", "largest norm of the gradient; 0: any"},
    {"xl-memories-dropout", 0, CLI_NUMBER, TRAINER(xl_memories_dropout), "P",
     "probability that a row starts a segment without memories"},
    {"state-dropout", 0, CLI_NUMBER, TRAINER(state_dropout), "P",
     "probability that a row starts a segment from the initial state"},
    {"dropout", 0, CLI_NUMBER, TRAINER(dropout), "P",
     "probability that an activation is dropped; of the paper's arithmetic alone"},
    {"attention-dropout", 0, CLI_NUMBER, TRAINER(attention_dropout), "P",
     "probability that a weight of attention to the window is dropped; of the paper's arithmetic alone"},
    {"reconstruction-weight", 0, CLI_NUMBER, TRAINER(reconstruction_weight), "X",
     "of the loss that teaches compressed memories to keep what is asked for; none unless given"},
    {"val-every", 0, CLI_COUNT, RUN(val_every), "N", "validate every N steps, not only at the end"},
    {"val-tokens", 0, CLI_COUNT, RUN(val_tokens), "N", "tokens per validation; 0: all"},
    {"sample-every", 0, CLI_COUNT, RUN(sample_every), "N", "show a generated text every N steps"},
    {"sample-tokens", 0, CLI_SIZE, RUN(sample_tokens), "N", "length of that text"},
    {"save-every", 0, CLI_COUNT, RUN(save_every), "N",
     "write a checkpoint every N steps, and at the end; 500 unless given; 0: only at the end"},
    {"seed", 0, CLI_COUNT, RUN(seed), "N", "of weights, order of the data and dropouts"},
    {"memory-limit", 0, CLI_BYTES, TRAINER(memory_limit), "SIZE",
     "refuse to need more memory than this; what the system has left unless given"},
    CLI_THREADS(train_arguments, run.trainer.threads),
    CLI_ISA(train_arguments),
    {"profile", 0, CLI_FLAG, offsetof(train_arguments, profile), NULL,
     "at the end say where the time went, by operation"},
    {"quiet", 'q', CLI_FLAG, offsetof(train_arguments, quiet), NULL, "no progress"},
    CLI_JSON(train_arguments),
    CLI_END,
};

static void set_defaults(void *arguments)
{
    *(train_arguments *)arguments = (train_arguments){.run = brt_run_options_init()};
}

/* A run in the making. */
typedef struct session {
    const cli_parsed *parsed;
    train_arguments arguments;
    saved_options saved;
    brt_config *config;
    brt_model *model;
    brt_dataset *train, *val;
    progress progress;
    brt_run_progress last_step;
    brt_validation last_validation;
    bool has_validation;
} session;

/* ---- callbacks --------------------------------------------------------------------------------------------------- */

static void on_message(void *user, const char *text)
{
    session *s = user;
    progress_say(&s->progress, "%s", text);
}

static void on_step(void *user, const brt_run_progress *now)
{
    session *s = user;
    s->last_step = *now;
    progress_step(&s->progress, now);
}

static void on_validation(void *user, const brt_run_progress *now, const brt_validation *validation)
{
    session *s = user;
    s->last_validation = *validation;
    s->has_validation = true;
    if (!s->arguments.quiet)
        progress_say(&s->progress, "validation at step %llu: %s, without states %s, cleared every segment %s",
                     (unsigned long long)now->step, progress_loss(&s->progress, validation->loss),
                     progress_loss(&s->progress, validation->loss_no_states),
                     progress_loss(&s->progress, validation->loss_cleared));
}

static void on_sample(void *user, const brt_run_progress *now, const int32_t *tokens, size_t count)
{
    session *s = user;
    progress_say(&s->progress, "---- sample at step %llu", (unsigned long long)now->step);
    for (size_t i = 0; i < count; i++) {
        if (s->progress.bytes)
            fputc(tokens[i], stderr);
        else
            fprintf(stderr, "%s%d", i ? " " : "", (int)tokens[i]);
    }
    fputc('\n', stderr);
    progress_say(&s->progress, "----");
}

static void on_profile(void *user, const brt_trainer *trainer)
{
    const session *s = user;
    profile_print(trainer, s->last_step.seconds);
}

static bool should_stop(void *user)
{
    (void)user;
    return cli_interrupted();
}

/* ---- arguments --------------------------------------------------------------------------------------------------- */

static bool gives_model_arguments(const cli_parsed *parsed)
{
    for (size_t i = 0; i < parsed->given_count; i++)
        if (parsed->given[i].option->kind == CLI_MODEL)
            return true;
    return cli_is_given(parsed, "config");
}

static int check_arguments(const cli_parsed *parsed, const train_arguments *a)
{
    const cli_command *command = parsed->command;
    if (a->data.count == 0)
        return cli_usage_error(command, "--data is missing: it names what to learn from");
    if (!a->run.out)
        return cli_usage_error(command, "--out is missing: it names the run's directory");
    if (a->val.count > 0 && (a->val_fraction > 0 || a->split))
        return cli_usage_error(command, "--val cannot be combined with --val-fraction or --split");
    if (a->init && gives_model_arguments(parsed))
        return cli_usage_error(command, "--init has a model of its own: arguments of the model cannot be given");
    if (a->val_fraction < 0 || a->val_fraction >= 1)
        return cli_usage_error(command, "--val-fraction must lie between 0 and 1");
    return CLI_OK;
}

/* Steps or a time given alone end the run: not the default of the other, and not what a resumed run had of it. */
static void settle_length(session *s)
{
    bool steps = cli_is_given(s->parsed, "steps"), time = cli_is_given(s->parsed, "max-time");
    if (time && !steps)
        s->arguments.run.steps = 0;
    if (steps && !time)
        s->arguments.run.max_seconds = 0;
}

/* The preset's, and then (to resume) the checkpoint's. */
static brt_status set_chosen_defaults(session *s, const char *preset, const char *out, bool resume)
{
    train_arguments *a = &s->arguments;
    set_defaults(a);
    if (preset)
        CLI_TRY(brt_run_options_preset(&a->run, preset));
    if (resume && out)
        CLI_TRY(saved_options_load(&s->saved, out, s->parsed->command, a));
    return BRT_OK;
}

/* What is given is stored twice: at first to check it and to know which defaults it replaces. */
static int read_arguments(session *s)
{
    train_arguments *a = &s->arguments;
    set_defaults(a);
    if (!cli_store(s->parsed, a))
        return CLI_USAGE;
    int wrong = check_arguments(s->parsed, a);
    if (wrong != CLI_OK)
        return wrong;
    const char *preset = a->preset || cli_describes_model(s->parsed) ? a->preset : "small";
    brt_status status = set_chosen_defaults(s, preset, a->run.out, a->run.resume);
    if (status != BRT_OK)
        return cli_exit_status(status);
    cli_store(s->parsed, a);
    a->preset = preset;
    settle_length(s);
    return CLI_OK;
}

/* ---- opening ----------------------------------------------------------------------------------------------------- */

/* A resumed run has its model's arguments in its directory; if others are given, the run refuses them. */
static brt_status open_model(session *s)
{
    const train_arguments *a = &s->arguments;
    const char *preset = a->preset, *file = a->config;
    if (a->init) {
        CLI_TRY(brt_model_load(&s->model, a->init));
        CLI_TRY(cli_model_config(s->parsed, NULL, a->init, &s->config));
        s->progress.bytes = brt_config_get(s->config, "num_tokens") == 256;
        return BRT_OK;
    }
    if (s->saved.has_model && !cli_is_given(s->parsed, "preset") && !cli_is_given(s->parsed, "config")) {
        preset = NULL;
        file = a->run.out;
    }
    CLI_TRY(cli_model_config(s->parsed, preset, file, &s->config));
    s->progress.bytes = brt_config_get(s->config, "num_tokens") == 256;
    return brt_model_create(&s->model, s->config, a->run.seed);
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* A document in both, or NULL. */
static const char *find_common(const brt_dataset *train, const brt_dataset *val)
{
    size_t count = brt_dataset_documents(train);
    const char *found = NULL, **names = calloc(count, sizeof *names);
    if (!names)
        return NULL;
    for (size_t i = 0; i < count; i++)
        names[i] = brt_dataset_document_name(train, i);
    qsort(names, count, sizeof *names, by_text);
    for (size_t i = 0; i < brt_dataset_documents(val) && !found; i++) {
        const char *name = brt_dataset_document_name(val, i);
        found = bsearch(&name, names, count, sizeof *names, by_text) ? name : NULL;
    }
    free(names);
    return found;
}

static brt_status open_validation(session *s)
{
    const train_arguments *a = &s->arguments;
    CLI_TRY(cli_open_data(&a->val, a->format, NULL, s->config, &s->val));
    const char *common = find_common(s->train, s->val);
    if (common)
        progress_say(&s->progress, "warning: %s is trained on and validated on: its loss will not tell of unseen text",
                     common);
    return BRT_OK;
}

static brt_status open_data(session *s)
{
    const train_arguments *a = &s->arguments;
    if (a->split) {
        CLI_TRY(cli_open_data(&a->data, a->format, "enwik8:train", s->config, &s->train));
        return cli_open_data(&a->data, a->format, "enwik8:val", s->config, &s->val);
    }
    CLI_TRY(cli_open_data(&a->data, a->format, NULL, s->config, &s->train));
    if (a->val.count > 0)
        return open_validation(s);
    if (a->val_fraction > 0)
        return brt_dataset_split_tail(s->train, (double)a->val_fraction, &s->val);
    return BRT_OK;
}

static void say_data(session *s, const char *what, const brt_dataset *data)
{
    if (data)
        progress_say(&s->progress, "%s: %zu document%s, %s tokens", what, brt_dataset_documents(data),
                     brt_dataset_documents(data) == 1 ? "" : "s", cli_count((double)brt_dataset_tokens(data)));
}

/* What the run is and needs, before it starts. */
static brt_status describe(session *s)
{
    const train_arguments *a = &s->arguments;
    size_t sample = (size_t)brt_config_get(s->config, "block_width");
    uint64_t bytes;
    brt_model_costs costs;
    CLI_TRY(brt_model_measure(s->model, sample, sample, &costs));
    CLI_TRY(brt_trainer_measure(s->model, &a->run.trainer, &bytes));
    if (a->quiet)
        return BRT_OK;
    say_data(s, "training data", s->train);
    say_data(s, "validation data", s->val);
    progress_say(&s->progress, "model: %s parameters; memory: %s of weights and %s for training; kernels: %s",
                 cli_count((double)costs.parameters), cli_bytes(costs.parameter_bytes), cli_bytes(bytes), brt_isa());
    return BRT_OK;
}

static brt_status train(session *s)
{
    const brt_run_callbacks callbacks = {.user = s,
                                         .on_message = on_message,
                                         .on_step = on_step,
                                         .on_validation = on_validation,
                                         .on_sample = on_sample,
                                         .on_profile = s->arguments.profile ? on_profile : NULL,
                                         .should_stop = should_stop};
    progress_start(&s->progress, false, s->arguments.quiet);
    CLI_TRY(cli_choose_isa(s->arguments.isa));
    CLI_TRY(open_model(s));
    CLI_TRY(open_data(s));
    CLI_TRY(describe(s));
    cli_catch_interrupts();
    brt_status status = brt_run(s->model, s->train, s->val, &s->arguments.run, &callbacks);
    progress_end(&s->progress);
    if (status == BRT_OK && s->last_step.step == 0) /* nothing was left to do */
        saved_options_progress(s->arguments.run.out, &s->last_step.step, &s->last_step.seconds);
    return status;
}

/* ---- result ------------------------------------------------------------------------------------------------------ */

static json_t *loss_json(const session *s, double loss)
{
    return s->progress.bytes ? json_pack("{s:f, s:f}", "loss", loss, "bits_per_byte", cli_bits(loss))
                             : json_pack("{s:f}", "loss", loss);
}

static json_t *result_json(const session *s)
{
    const brt_validation *v = &s->last_validation;
    json_t *result = json_pack("{s:o, s:I, s:f, s:o*}", "run", cli_text_json(s->arguments.run.out), "steps",
                               (json_int_t)s->last_step.step, "seconds", s->last_step.seconds, "train",
                               s->progress.has_first ? loss_json(s, s->last_step.loss) : NULL);
    if (result && s->has_validation)
        json_object_set_new(result, "validation",
                            json_pack("{s:I, s:o, s:o, s:o}", "tokens", (json_int_t)v->tokens, "with_states",
                                      loss_json(s, v->loss), "without_states", loss_json(s, v->loss_no_states),
                                      "cleared_every_segment", loss_json(s, v->loss_cleared)));
    return result;
}

static brt_status print_result(const session *s)
{
    const brt_validation *v = &s->last_validation;
    if (s->arguments.json)
        return cli_print_json(result_json(s));
    printf("%s: %llu steps, %s of training\n", s->arguments.run.out, (unsigned long long)s->last_step.step,
           cli_duration(s->last_step.seconds));
    if (s->has_validation)
        printf("validation: %s; without states %s; cleared every segment %s\n", progress_loss(&s->progress, v->loss),
               progress_loss(&s->progress, v->loss_no_states), progress_loss(&s->progress, v->loss_cleared));
    return cli_flush();
}

static int run(const cli_parsed *parsed)
{
    session s = {.parsed = parsed};
    int wrong = read_arguments(&s);
    brt_status status = BRT_OK;
    if (wrong == CLI_OK)
        status = train(&s);
    if (wrong == CLI_OK && status == BRT_OK)
        status = print_result(&s);
    brt_dataset_close(s.val);
    brt_dataset_close(s.train);
    brt_model_close(s.model);
    brt_config_close(s.config);
    saved_options_close(&s.saved);
    return wrong != CLI_OK ? wrong : cli_exit_status(status);
}

const cli_command cli_train = {
    .name = "train",
    .positional = "",
    .summary = "train a model on text",
    .description =
        "Trains a model on files and keeps everything in a directory: config.json, model.safetensors, "
        "optimizer.safetensors, trainer_state.json and metrics.jsonl. Without --preset, --config or an argument of the "
        "model it is the preset small. Presets replace some defaults: tiny and small have --lr 0.002 --beta2 0.99 "
        "--warmup 50; reference has --optimizer adam --lr 0.0001 --weight-decay 0 --schedule constant --sampling crops "
        "--accumulation 4 --segment-blocks 2; paper-tiny and paper-150m have --optimizer adafactor --summed-loss "
        "--skip-last-target --lr 1 --schedule rsqrt_decay_std --clip 0 --weight-decay 0 --dropout 0.05 "
        "--attention-dropout 0.05 --xl-memories-dropout 0 --state-dropout 0 and --warmup 200 or 1000. SIGINT and "
        "SIGTERM write a checkpoint and end with status 130; a run that is resumed, even after a kill, has the losses "
        "of an uninterrupted one.",
    .options = options,
    .model_options = true,
    .arguments_size = sizeof(train_arguments),
    .set_defaults = set_defaults,
    .run = run,
};
