/* brt bench: what the machine can do, and what brt makes of it. */
#include "bench_sections.h"
#include "commands.h"
#include "model_arguments.h"

#include <string.h>

/* In the order they run. */
static const bench_section *const sections[] = {&bench_machine, &bench_training, &bench_attention, &bench_kernels,
                                                &bench_shapes,  &bench_scaling,  &bench_decode,    &bench_streams,
                                                &bench_prefill, &bench_context,  &bench_routed};

enum { section_count = sizeof sections / sizeof sections[0] };

#define FIELD(field) offsetof(bench_arguments, field)

static const cli_option options[] = {
    {"all", 0, CLI_FLAG, FIELD(all), NULL, "every section"},
    CLI_MODEL_SOURCES(bench_arguments),
    {"batch", 0, CLI_SIZE, FIELD(batch), "N", "rows of a training step; the preset's unless given"},
    {"dtype", 0, CLI_CHOICE, FIELD(dtype), "f32|bf16",
     "of the products of training; all that the kernels have unless given"},
    {"repeats", 0, CLI_SIZE, FIELD(repeats), "N", "rounds to take the median of"},
    {"context", 0, CLI_COUNT, FIELD(context), "N", "tokens that the section context reads"},
    CLI_THREADS(bench_arguments, threads),
    CLI_ISA(bench_arguments),
    CLI_JSON(bench_arguments),
    CLI_END,
};

static void set_defaults(void *arguments)
{
    *(bench_arguments *)arguments = (bench_arguments){.repeats = 3, .context = 100000};
}

/* ---- which sections ---------------------------------------------------------------------------------------------- */

static const char *section_name_at(const void *context, size_t index)
{
    (void)context;
    return index < section_count ? sections[index]->name : NULL;
}

static bool is_named(const cli_parsed *parsed, const char *name)
{
    for (size_t i = 0; i < parsed->positional_count; i++)
        if (strcmp(parsed->positional[i], name) == 0)
            return true;
    return false;
}

static bool is_wanted(const cli_parsed *parsed, const bench_arguments *a, const bench_section *section)
{
    if (a->all || parsed->positional_count > 0)
        return a->all || is_named(parsed, section->name);
    return section->usual;
}

/* The first name that no section has, or NULL. */
static const char *unknown_name(const cli_parsed *parsed)
{
    for (size_t i = 0; i < parsed->positional_count; i++) {
        size_t s = 0;
        while (s < section_count && strcmp(sections[s]->name, parsed->positional[i]) != 0)
            s++;
        if (s == section_count)
            return parsed->positional[i];
    }
    return NULL;
}

static int unknown_section(const cli_parsed *parsed, const char *name)
{
    const char *nearest = cli_nearest(name, section_name_at, NULL);
    if (nearest)
        return cli_usage_error(parsed->command, "there is no section '%s'; did you mean '%s'?", name, nearest);
    return cli_usage_error(parsed->command, "there is no section '%s'", name);
}

/* ---- running ----------------------------------------------------------------------------------------------------- */

static brt_status run_sections(bench *b, const cli_parsed *parsed)
{
    CLI_TRY(cli_choose_isa(b->arguments->isa));
    CLI_TRY(bench_choose(b, parsed));
    for (size_t i = 0; i < section_count; i++) {
        if (!is_wanted(parsed, b->arguments, sections[i]))
            continue;
        brt_status status = sections[i]->run(b);
        CLI_TRY(bench_print(b, sections[i])); /* what there is of a failed one, too */
        CLI_TRY(status);
    }
    return b->arguments->json ? cli_print_json(json_incref(b->tables)) : BRT_OK;
}

static int run(const cli_parsed *parsed)
{
    bench_arguments arguments;
    set_defaults(&arguments);
    if (!cli_store(parsed, &arguments))
        return CLI_USAGE;
    if (arguments.repeats == 0)
        return cli_usage_error(parsed->command, "--repeats must be at least 1");
    const char *unknown = unknown_name(parsed);
    if (unknown)
        return unknown_section(parsed, unknown);
    bench b = {.arguments = &arguments, .tables = json_object()};
    brt_status status = b.tables ? run_sections(&b, parsed) : cli_out_of_memory("the result");
    brt_model_close(b.model);
    json_decref(b.tables);
    return cli_exit_status(status);
}

const cli_command cli_bench = {
    .name = "bench",
    .positional = "[SECTION...]",
    .most = SIZE_MAX,
    .summary = "measure training and decoding against the machine",
    .description = "Measures by sections: machine (its peaks), training (a step: forward, backward, clip, update), "
                   "attention (alone), kernels (each in every instruction set), shapes (training steps of many "
                   "models over their rooflines), scaling (one thread against all), decode (token by token), streams "
                   "(several, a token each), prefill (reading a prompt, against training), context (a token far into a "
                   "text), routed (with full routed memories and without). Without a name: machine, training and "
                   "decode. "
                   "The model is that of the preset reference unless another is described. What the machine can do at "
                   "that moment is measured before each thing timed, and fractions are of that; figures are medians.",
    .options = options,
    .model_options = true,
    .arguments_size = sizeof(bench_arguments),
    .set_defaults = set_defaults,
    .run = run,
};
