/* brt generate: text from a model, one token's work per token. */
#define _GNU_SOURCE
#include "commands.h"
#include "interrupt.h"
#include "output.h"
#include "prompt.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct generate_arguments {
    const char *prompt, *prompt_file, *session, *isa;
    uint64_t count;
    float temperature, top_p, filter_thres;
    size_t top_k;
    uint64_t seed;
    bool no_states, no_memories, json, quiet;
    size_t recall, recall_layer;
    int threads;
} generate_arguments;

#define FIELD(field) offsetof(generate_arguments, field)

static const cli_option options[] = {
    {"prompt", 'p', CLI_TEXT, FIELD(prompt), "TEXT", "what to continue"},
    {"prompt-file", 0, CLI_TEXT, FIELD(prompt_file), "FILE", "a file to continue, of any length; -: standard input"},
    {"tokens", 'n', CLI_COUNT, FIELD(count), "N", "how many tokens to generate"},
    {"temperature", 't', CLI_NUMBER, FIELD(temperature), "X", "0: always the most likely token"},
    {"top-k", 0, CLI_SIZE, FIELD(top_k), "K", "draw from the K most likely tokens; 0: from all"},
    {"top-p", 0, CLI_NUMBER, FIELD(top_p), "P", "draw from the most likely tokens that have this probability together"},
    {"filter-thres", 0, CLI_NUMBER, FIELD(filter_thres), "X",
     "the PyTorch reference's filter: draw from the best 1 - X of the vocabulary; 0: from all"},
    {"seed", 0, CLI_COUNT, FIELD(seed), "N", "of the draws"},
    {"session", 0, CLI_TEXT, FIELD(session), "FILE",
     "go on where FILE left off, if there is one, and save the new end there"},
    {"no-states", 0, CLI_FLAG, FIELD(no_states), NULL, "every block reads the initial state"},
    {"no-memories", 0, CLI_FLAG, FIELD(no_memories), NULL, "every block attends only to itself"},
    {"recall", 0, CLI_SIZE, FIELD(recall), "N",
     "each head of each token attends to N keys of its own choice among all that a long memory holds; 0: to what "
     "routes choose, if there are any"},
    {"recall-layer", 0, CLI_SIZE, FIELD(recall_layer), "N",
     "the layer that recalls in a model without routed layers; 0: depth / 2 + 1"},
    CLI_THREADS(generate_arguments, threads),
    CLI_ISA(generate_arguments),
    {"quiet", 'q', CLI_FLAG, FIELD(quiet), NULL, "say nothing about the speed"},
    CLI_JSON(generate_arguments),
    CLI_END,
};

static void set_defaults(void *arguments)
{
    brt_sampling sampling = brt_sampling_init();
    *(generate_arguments *)arguments =
        (generate_arguments){.count = 500, .temperature = sampling.temperature, .top_p = sampling.top_p};
}

/* The last token of the timeline is always pending: known, and not yet fed, because feeding it is what gives the logits
 * of the next. A saved session holds it as its note. */
typedef struct generation {
    const generate_arguments *arguments;
    brt_model *model;
    brt_stream *stream;
    brt_sampling sampling;
    prompt prompt;
    size_t num_tokens;
    float *logits;
    int32_t pending;
    bool has_pending;
    json_t *tokens; /* with --json */
    uint64_t generated;
    double prompt_seconds, seconds;
} generation;

/* ---- opening ----------------------------------------------------------------------------------------------------- */

static brt_status read_note(generation *g, const char *note)
{
    char *end;
    long value = note ? strtol(note, &end, 10) : -1;
    if (value < 0 || (uint64_t)value >= g->num_tokens || end == note || *end)
        return cli_fail(BRT_ERROR_FORMAT, "%s does not name the last token of a session of this model",
                        g->arguments->session);
    g->pending = (int32_t)value;
    g->has_pending = true;
    return BRT_OK;
}

/* Found out before anything is generated: it is saved at the end. */
static brt_status check_place(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *directory = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
    if (!directory)
        return cli_out_of_memory("the session's name");
    int reason = access(directory, W_OK) == 0 ? 0 : errno;
    free(directory);
    return reason ? cli_fail(BRT_ERROR_IO, "cannot write the session %s: %s", path, strerror(reason)) : BRT_OK;
}

static brt_status load_session(generation *g)
{
    const char *path = g->arguments->session;
    char *note = NULL;
    if (!path)
        return BRT_OK;
    CLI_TRY(check_place(path));
    if (access(path, F_OK) != 0)
        return BRT_OK;
    CLI_TRY(brt_stream_load(g->stream, path, &note));
    brt_status status = read_note(g, note);
    brt_free(note);
    return status;
}

static brt_status save_session(const generation *g)
{
    char note[16];
    if (!g->arguments->session)
        return BRT_OK;
    snprintf(note, sizeof note, "%d", (int)g->pending);
    return brt_stream_save(g->stream, g->arguments->session, note);
}

static brt_status open_generation(generation *g, const char *run)
{
    const generate_arguments *a = g->arguments;
    brt_stream_options stream = brt_stream_options_init();
    CLI_TRY(cli_choose_isa(a->isa));
    CLI_TRY(brt_model_load(&g->model, run));
    g->num_tokens = (size_t)brt_config_get(brt_model_config(g->model), "num_tokens");
    CLI_TRY(prompt_read(&g->prompt, a->prompt, a->prompt_file, (int64_t)g->num_tokens));
    stream.threads = a->threads;
    stream.no_states = a->no_states;
    stream.no_memories = a->no_memories;
    stream.recall_tokens = a->recall;
    stream.recall_layer = a->recall_layer;
    CLI_TRY(brt_stream_open(&g->stream, g->model, &stream));
    g->logits = malloc(g->num_tokens * sizeof *g->logits);
    g->tokens = a->json ? json_array() : NULL;
    if (!g->logits || (a->json && !g->tokens))
        return cli_out_of_memory("the generated tokens");
    g->sampling = brt_sampling_init();
    g->sampling.temperature = a->temperature;
    g->sampling.top_k = a->top_k;
    g->sampling.top_p = a->top_p;
    g->sampling.filter_thres = a->filter_thres;
    g->sampling.seed = a->seed;
    return load_session(g);
}

static void close_generation(generation *g)
{
    brt_stream_close(g->stream);
    brt_model_close(g->model);
    prompt_close(&g->prompt);
    free(g->logits);
    json_decref(g->tokens);
}

/* ---- generating -------------------------------------------------------------------------------------------------- */

/* Feeds everything but the last token. In parts, so that a long prompt can be interrupted. */
static brt_status feed_prompt(generation *g)
{
    enum { part = 4096 };
    const prompt *p = &g->prompt;
    if (p->count > 0 && g->has_pending)
        CLI_TRY(brt_stream_feed(g->stream, &g->pending, 1, NULL));
    for (size_t first = 0; first + 1 < p->count; first += part) {
        size_t left = p->count - 1 - first;
        if (cli_interrupted())
            return cli_fail(BRT_INTERRUPTED, "interrupted while reading the prompt");
        CLI_TRY(brt_stream_feed(g->stream, p->tokens + first, left < part ? left : part, NULL));
    }
    if (p->count > 0)
        g->pending = p->tokens[p->count - 1];
    else if (!g->has_pending)
        g->pending = g->num_tokens > '\n' ? '\n' : 0; /* a text begins after a line's end */
    g->has_pending = true;
    return BRT_OK;
}

static brt_status show_token(generation *g)
{
    if (g->tokens) {
        bool added = json_array_append_new(g->tokens, json_integer(g->pending)) == 0;
        return added ? BRT_OK : cli_out_of_memory("the generated tokens");
    }
    if (g->num_tokens == 256)
        putchar(g->pending);
    else
        printf("%d ", (int)g->pending);
    return cli_flush();
}

static brt_status generate(generation *g)
{
    double start = cli_seconds_now();
    CLI_TRY(feed_prompt(g));
    g->prompt_seconds = cli_seconds_now() - start;
    for (; g->generated < g->arguments->count && !cli_interrupted(); g->generated++) {
        CLI_TRY(brt_stream_feed_last(g->stream, &g->pending, 1, g->logits));
        uint64_t position = brt_stream_position(g->stream, 0);
        CLI_TRY(brt_sample(g->logits, g->num_tokens, &g->sampling, position, &g->pending));
        CLI_TRY(show_token(g));
    }
    g->seconds = cli_seconds_now() - start - g->prompt_seconds;
    return BRT_OK;
}

/* ---- results ----------------------------------------------------------------------------------------------------- */

static double milliseconds_per_token(const generation *g)
{
    return g->generated ? 1e3 * g->seconds / (double)g->generated : 0;
}

static brt_status print_result(generation *g)
{
    const generate_arguments *a = g->arguments;
    if (a->json) {
        json_t *tokens = g->tokens;
        g->tokens = NULL;
        return cli_print_json(json_pack("{s:I, s:I, s:f, s:f, s:f, s:o}", "prompt_tokens", (json_int_t)g->prompt.count,
                                        "position", (json_int_t)brt_stream_position(g->stream, 0) + 1, "prompt_seconds",
                                        g->prompt_seconds, "seconds", g->seconds, "ms_per_token",
                                        milliseconds_per_token(g), "tokens", tokens));
    }
    if (isatty(STDOUT_FILENO))
        putchar('\n');
    if (!a->quiet)
        cli_say("read %zu tokens in %.2f s, wrote %llu in %.2f s (%.2f ms per token)", g->prompt.count,
                g->prompt_seconds, (unsigned long long)g->generated, g->seconds, milliseconds_per_token(g));
    return cli_flush();
}

static brt_status generate_and_save(generation *g, const char *run)
{
    CLI_TRY(open_generation(g, run));
    cli_catch_interrupts();
    CLI_TRY(generate(g));
    CLI_TRY(save_session(g));
    CLI_TRY(print_result(g));
    if (g->generated < g->arguments->count)
        return cli_fail(BRT_INTERRUPTED, "interrupted after %llu tokens", (unsigned long long)g->generated);
    return BRT_OK;
}

static int run(const cli_parsed *parsed)
{
    generate_arguments arguments;
    set_defaults(&arguments);
    if (!cli_store(parsed, &arguments))
        return CLI_USAGE;
    if (arguments.prompt && arguments.prompt_file)
        return cli_usage_error(parsed->command, "--prompt and --prompt-file exclude each other");
    if (arguments.session && !arguments.session[0])
        return cli_usage_error(parsed->command, "--session is ''; it must name a file");
    generation g = {.arguments = &arguments};
    brt_status status = generate_and_save(&g, parsed->positional[0]);
    close_generation(&g);
    return cli_exit_status(status);
}

const cli_command cli_generate = {
    .name = "generate",
    .positional = "RUN",
    .least = 1,
    .most = 1,
    .summary = "continue a text",
    .description =
        "Continues a text, printing as it goes. Each token takes the same time, however long the text is. A model of "
        "256 tokens reads and writes bytes; for any other, prompt and output are the numbers of tokens.",
    .options = options,
    .arguments_size = sizeof(generate_arguments),
    .set_defaults = set_defaults,
    .run = run,
};
