/* brt eval: how well a model predicts text. */
#define _GNU_SOURCE
#include "commands.h"
#include "data_arguments.h"
#include "output.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct eval_arguments {
    cli_paths data;
    const char *split, *format, *isa;
    bool no_states, no_memories, clear_every_segment, by_position, json;
    uint64_t max_tokens;
    size_t buckets, bucket_width, recall, recall_layer;
    int threads;
} eval_arguments;

#define FIELD(field) offsetof(eval_arguments, field)

static const cli_option options[] = {
    {"data", 0, CLI_PATHS, FIELD(data), "PATH", "files, directories or patterns to score; each file is a document"},
    {"split", 0, CLI_CHOICE, FIELD(split), "enwik8:train|enwik8:val|enwik8:test", "this part of enwik8"},
    CLI_FORMAT(eval_arguments),
    {"no-states", 0, CLI_FLAG, FIELD(no_states), NULL, "every block reads the initial state"},
    {"no-memories", 0, CLI_FLAG, FIELD(no_memories), NULL, "every block attends only to itself"},
    {"recall", 0, CLI_SIZE, FIELD(recall), "N",
     "each head of each token attends to N keys of its own choice among all that a long memory holds; 0: to what "
     "routes choose, if there are any"},
    {"recall-layer", 0, CLI_SIZE, FIELD(recall_layer), "N",
     "the layer that recalls in a model without routed layers; 0: depth / 2 + 1"},
    {"clear-every-segment", 0, CLI_FLAG, FIELD(clear_every_segment), NULL,
     "clear memories and states after every max-seq-len tokens"},
    {"by-position", 0, CLI_FLAG, FIELD(by_position), NULL, "also the loss by position in the document"},
    {"buckets", 0, CLI_SIZE, FIELD(buckets), "N", "how many parts of the document --by-position tells apart"},
    {"bucket-width", 0, CLI_SIZE, FIELD(bucket_width), "N",
     "tokens of each part but the last, which has the rest; max-seq-len unless given"},
    {"max-tokens", 0, CLI_COUNT, FIELD(max_tokens), "N", "score at most so many; 0: all"},
    CLI_THREADS(eval_arguments, threads),
    CLI_ISA(eval_arguments),
    CLI_JSON(eval_arguments),
    CLI_END,
};

static void set_defaults(void *arguments)
{
    *(eval_arguments *)arguments = (eval_arguments){.buckets = 16};
}

typedef struct scoring {
    const eval_arguments *arguments;
    const char *run;
    brt_model *model;
    brt_dataset *data;
    bool bytes;
    size_t buckets, bucket_width;
    double *bucket_loss;
    uint64_t *bucket_tokens;
    brt_evaluation result;
} scoring;

/* ---- scoring ----------------------------------------------------------------------------------------------------- */

static brt_status open_buckets(scoring *s, const brt_config *config)
{
    const eval_arguments *a = s->arguments;
    if (!a->by_position)
        return BRT_OK;
    s->buckets = a->buckets;
    s->bucket_width = a->bucket_width ? a->bucket_width : (size_t)brt_config_get(config, "max_seq_len");
    s->bucket_loss = calloc(s->buckets, sizeof *s->bucket_loss);
    s->bucket_tokens = calloc(s->buckets, sizeof *s->bucket_tokens);
    return s->bucket_loss && s->bucket_tokens ? BRT_OK : cli_out_of_memory("the losses by position");
}

static brt_status open_scoring(scoring *s)
{
    const eval_arguments *a = s->arguments;
    CLI_TRY(cli_choose_isa(a->isa));
    CLI_TRY(brt_model_load(&s->model, s->run));
    const brt_config *config = brt_model_config(s->model);
    s->bytes = brt_config_get(config, "num_tokens") == 256;
    CLI_TRY(open_buckets(s, config));
    return cli_open_data(&a->data, a->format, a->split, config, &s->data);
}

static brt_status score(scoring *s)
{
    const eval_arguments *a = s->arguments;
    brt_evaluate_options options_of_run = brt_evaluate_options_init();
    options_of_run.threads = a->threads;
    options_of_run.no_states = a->no_states;
    options_of_run.no_memories = a->no_memories;
    options_of_run.recall_tokens = a->recall;
    options_of_run.recall_layer = a->recall_layer;
    options_of_run.max_tokens = a->max_tokens;
    options_of_run.buckets = s->buckets;
    options_of_run.bucket_width = s->bucket_width;
    options_of_run.bucket_loss = s->bucket_loss;
    options_of_run.bucket_tokens = s->bucket_tokens;
    if (a->clear_every_segment)
        options_of_run.clear_every = (size_t)brt_config_get(brt_model_config(s->model), "max_seq_len");
    return brt_evaluate(s->model, s->data, &options_of_run, &s->result);
}

static void close_scoring(scoring *s)
{
    brt_dataset_close(s->data);
    brt_model_close(s->model);
    free(s->bucket_loss);
    free(s->bucket_tokens);
}

/* ---- results ----------------------------------------------------------------------------------------------------- */

static json_t *buckets_json(const scoring *s)
{
    json_t *list = json_array();
    for (size_t i = 0; i < s->buckets; i++) {
        if (s->bucket_tokens[i] == 0)
            continue;
        json_t *bucket = json_pack("{s:I, s:I, s:f}", "from", (json_int_t)(i * s->bucket_width), "tokens",
                                   (json_int_t)s->bucket_tokens[i], "loss", s->bucket_loss[i]);
        if (bucket && s->bytes)
            json_object_set_new(bucket, "bits_per_byte", json_real(cli_bits(s->bucket_loss[i])));
        json_array_append_new(list, bucket);
    }
    return list;
}

static double tokens_per_second(const brt_evaluation *result)
{
    return result->seconds > 0 ? (double)result->tokens / result->seconds : 0;
}

static brt_status print_json(const scoring *s)
{
    const brt_evaluation *r = &s->result;
    json_t *perplexity = isfinite(exp(r->loss)) ? json_real(exp(r->loss)) : json_null();
    json_t *object = json_pack("{s:o, s:I, s:I, s:f, s:o, s:f, s:f}", "run", cli_text_json(s->run), "documents",
                               (json_int_t)r->documents, "tokens", (json_int_t)r->tokens, "loss", r->loss, "perplexity",
                               perplexity, "seconds", r->seconds, "tokens_per_s", tokens_per_second(r));
    if (object && s->bytes)
        json_object_set_new(object, "bits_per_byte", json_real(cli_bits(r->loss)));
    if (object && s->buckets)
        json_object_set_new(object, "by_position", buckets_json(s));
    return cli_print_json(object);
}

static void print_buckets(const scoring *s)
{
    printf("\n%12s %12s %10s%s\n", "position", "tokens", "loss", s->bytes ? "  bits/byte" : "");
    for (size_t i = 0; i < s->buckets; i++) {
        if (s->bucket_tokens[i] == 0)
            continue;
        printf("%12zu %12llu %10.4f", i * s->bucket_width, (unsigned long long)s->bucket_tokens[i], s->bucket_loss[i]);
        if (s->bytes)
            printf(" %10.4f", cli_bits(s->bucket_loss[i]));
        printf("\n");
    }
}

static brt_status print_result(const scoring *s)
{
    const brt_evaluation *r = &s->result;
    if (s->arguments->json)
        return print_json(s);
    printf("documents      %llu\n", (unsigned long long)r->documents);
    printf("tokens         %llu\n", (unsigned long long)r->tokens);
    printf("loss           %.4f nats per token\n", r->loss);
    if (s->bytes)
        printf("bits per byte  %.4f\n", cli_bits(r->loss));
    printf("perplexity     %.4g\n", exp(r->loss));
    printf("speed          %s tokens/s\n", cli_count(tokens_per_second(r)));
    if (s->buckets)
        print_buckets(s);
    return cli_flush();
}

enum { most_buckets = 1000000 };

static int run(const cli_parsed *parsed)
{
    eval_arguments arguments;
    set_defaults(&arguments);
    if (!cli_store(parsed, &arguments))
        return CLI_USAGE;
    if (arguments.data.count == 0)
        return cli_usage_error(parsed->command, "--data is missing: it names what to score");
    if (arguments.by_position && (arguments.buckets < 1 || arguments.buckets > most_buckets))
        return cli_usage_error(parsed->command, "--buckets must lie between 1 and %d", most_buckets);
    scoring s = {.arguments = &arguments, .run = parsed->positional[0]};
    brt_status status = open_scoring(&s);
    if (status == BRT_OK)
        status = score(&s);
    if (status == BRT_OK)
        status = print_result(&s);
    close_scoring(&s);
    return cli_exit_status(status);
}

const cli_command cli_eval = {
    .name = "eval",
    .positional = "RUN",
    .least = 1,
    .most = 1,
    .summary = "score text with a model",
    .description = "Predicts every token of every document, memories and states carried from its start to its end.",
    .options = options,
    .arguments_size = sizeof(eval_arguments),
    .set_defaults = set_defaults,
    .run = run,
};
