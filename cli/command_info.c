/* brt info: what a model is and what it costs. */
#define _GNU_SOURCE
#include "commands.h"
#include "model_arguments.h"
#include "output.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

typedef struct info_arguments {
    const char *preset, *config, *dtype;
    size_t batch, segment_blocks;
    bool json;
} info_arguments;

#define FIELD(field) offsetof(info_arguments, field)

static const cli_option options[] = {
    CLI_MODEL_SOURCES(info_arguments),
    {"batch", 0, CLI_SIZE, FIELD(batch), "N", "rows trained together, for the memory of training"},
    {"segment-blocks", 0, CLI_SIZE, FIELD(segment_blocks), "N", "blocks of backpropagation, likewise"},
    {"dtype", 0, CLI_CHOICE, FIELD(dtype), "f32|bf16", "the products of training, likewise"},
    CLI_JSON(info_arguments),
    CLI_END,
};

static void set_defaults(void *arguments)
{
    brt_trainer_options trainer = brt_trainer_options_init();
    *(info_arguments *)arguments = (info_arguments){
        .dtype = trainer.dtype, .batch = trainer.rows, .segment_blocks = trainer.segment_blocks};
}

typedef enum part {
    part_embedding,
    part_attention,
    part_recurrence,
    part_routing,
    part_compression,
    part_feed_forward,
    part_output,
    part_count
} part;

static const char *const part_names[part_count] = {"embedding",   "attention",    "recurrence", "routing",
                                                   "compression", "feed-forward", "output"};

typedef struct description {
    brt_model *model;
    brt_model_costs costs;
    uint64_t training_bytes; /* 0: a quantized model cannot be trained */
    uint64_t parameters[part_count];
} description;

/* ---- measuring --------------------------------------------------------------------------------------------------- */

static bool has_weights(const char *run)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/model.safetensors", run);
    return access(path, F_OK) == 0;
}

/* A run that has not reached its first checkpoint has a configuration and no weights; that is enough. */
static brt_status open_model(const cli_parsed *parsed, const info_arguments *a, brt_model **out)
{
    const char *run = parsed->positional_count ? parsed->positional[0] : NULL;
    if (run && has_weights(run))
        return brt_model_load(out, run);
    brt_config *config;
    CLI_TRY(cli_model_config(parsed, a->preset, run ? run : a->config, &config));
    brt_status status = brt_model_create(out, config, 0);
    brt_config_close(config);
    return status;
}

/* By the names of the PyTorch reference: layers.N.0 is a layer's attention, layers.N.1 its feed-forward. */
static part part_of(const char *name)
{
    unsigned place;
    if (strstr(name, "state_container.") || strstr(name, "recurrent_"))
        return part_recurrence;
    if (strstr(name, ".routed."))
        return part_routing;
    if (strstr(name, "ffn"))
        return part_feed_forward;
    if (sscanf(name, "transformer%u/", &place) == 1)
        return part_attention;
    if (strncmp(name, "mem_manager.", 12) == 0)
        return part_compression;
    if (sscanf(name, "layers.%*u.%u.", &place) == 1)
        return place == 0 ? part_attention : part_feed_forward;
    bool embeds = strncmp(name, "token_emb.", 10) == 0 || strncmp(name, "embed/", 6) == 0;
    return embeds ? part_embedding : part_output;
}

static brt_status count_parameters(description *d)
{
    for (size_t i = 0; i < brt_model_parameter_count(d->model); i++) {
        brt_parameter_info info;
        CLI_TRY(brt_model_parameter(d->model, i, &info));
        d->parameters[part_of(info.name)] += info.count;
    }
    return BRT_OK;
}

static brt_status measure(description *d, const info_arguments *a)
{
    brt_trainer_options trainer = brt_trainer_options_init();
    size_t segment = (size_t)brt_config_get(brt_model_config(d->model), "max_seq_len");
    trainer.rows = a->batch;
    trainer.segment_blocks = a->segment_blocks;
    trainer.dtype = a->dtype;
    CLI_TRY(count_parameters(d));
    CLI_TRY(brt_model_measure(d->model, 2 * segment, segment, &d->costs));
    brt_status status = brt_trainer_measure(d->model, &trainer, &d->training_bytes);
    return status == BRT_ERROR_UNSUPPORTED ? BRT_OK : status;
}

/* ---- results ----------------------------------------------------------------------------------------------------- */

static brt_status config_json(const description *d, json_t **out)
{
    char *text;
    CLI_TRY(brt_config_json(brt_model_config(d->model), &text));
    *out = json_loads(text, 0, NULL);
    brt_free(text);
    return *out ? BRT_OK : cli_out_of_memory("the configuration");
}

static json_t *parts_json(const description *d)
{
    json_t *object = json_object();
    for (size_t i = 0; i < part_count; i++)
        json_object_set_new(object, part_names[i], json_integer((json_int_t)d->parameters[i]));
    return object;
}

static brt_status print_json(const description *d)
{
    const brt_model_costs *c = &d->costs;
    json_t *config;
    CLI_TRY(config_json(d, &config));
    return cli_print_json(json_pack(
        "{s:o, s:I, s:o, s:I, s:I, s:I, s:I, s:I, s:o}", "config", config, "parameters", (json_int_t)c->parameters,
        "parameters_by_part", parts_json(d), "parameter_bytes", (json_int_t)c->parameter_bytes, "flops_per_token",
        (json_int_t)c->flops_per_token, "decode_bytes_per_token", (json_int_t)c->decode_bytes_per_token, "stream_bytes",
        (json_int_t)c->stream_bytes, "routed_bytes", (json_int_t)c->routed_bytes, "training_bytes",
        d->training_bytes ? json_integer((json_int_t)d->training_bytes) : json_null()));
}

static brt_status print_config(const description *d)
{
    json_t *config;
    const char *key;
    json_t *value;
    CLI_TRY(config_json(d, &config));
    json_object_foreach(config, key, value)
    {
        char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(9));
        printf("  %-24s %s\n", key, text ? text : "?");
        brt_free(text);
    }
    json_decref(config);
    return BRT_OK;
}

static brt_status print_text(const description *d, const info_arguments *a)
{
    const brt_model_costs *c = &d->costs;
    printf("model\n");
    CLI_TRY(print_config(d));
    printf("\nparameters                 %llu\n", (unsigned long long)c->parameters);
    for (size_t i = 0; i < part_count; i++)
        printf("  %-24s %llu\n", part_names[i], (unsigned long long)d->parameters[i]);
    printf("\nforward FLOPs per token    %s\n", cli_count((double)c->flops_per_token));
    printf("memory of the weights      %s\n", cli_bytes(c->parameter_bytes));
    printf("memory of a stream         %s beside the weights\n", cli_bytes(c->stream_bytes));
    if (c->routed_bytes)
        printf("  of routed memories       %s when they are full\n", cli_bytes(c->routed_bytes));
    if (d->training_bytes)
        printf("memory of training         %s beside the weights, with %zu rows of %zu blocks in %s\n",
               cli_bytes(d->training_bytes), a->batch, a->segment_blocks, a->dtype);
    else
        printf("memory of training         a quantized model cannot be trained\n");
    printf("weights read per token     %s when generating\n", cli_bytes(c->decode_bytes_per_token));
    return cli_flush();
}

static int run(const cli_parsed *parsed)
{
    info_arguments arguments;
    set_defaults(&arguments);
    if (!cli_store(parsed, &arguments))
        return CLI_USAGE;
    if ((parsed->positional_count == 0) != cli_describes_model(parsed))
        return cli_usage_error(parsed->command, "either a run's directory or the arguments of a model are needed");
    description d = {0};
    brt_status status = open_model(parsed, &arguments, &d.model);
    if (status == BRT_OK)
        status = measure(&d, &arguments);
    if (status == BRT_OK)
        status = arguments.json ? print_json(&d) : print_text(&d, &arguments);
    brt_model_close(d.model);
    return cli_exit_status(status);
}

const cli_command cli_info = {
    .name = "info",
    .positional = "[RUN]",
    .most = 1,
    .summary = "show a model's arguments, parameters and costs",
    .description = "Shows the arguments of the model in a directory (or of one described by options), its parameters "
                   "by part, the floating-point operations per token, and the memory that a stream and training need.",
    .options = options,
    .model_options = true,
    .arguments_size = sizeof(info_arguments),
    .set_defaults = set_defaults,
    .run = run,
};
