/* brt graft: recurrent layers and routed memories added to a trained model. */
#define _GNU_SOURCE
#include "commands.h"
#include "model_arguments.h"
#include "output.h"

#include <stdio.h>
#include <string.h>

typedef struct graft_arguments {
    uint64_t seed;
} graft_arguments;

static const cli_option options[] = {
    {"seed", 0, CLI_COUNT, offsetof(graft_arguments, seed), "N", "of the new weights"},
    CLI_END,
};

static void set_defaults(void *arguments)
{
    *(graft_arguments *)arguments = (graft_arguments){0};
}

/* The source's arguments with those that are given. States are read where they are written unless told otherwise; a
 * layer that did not normalise queries and keys must not begin to. */
static brt_status grafted_config(const cli_parsed *parsed, const brt_model *source, brt_config **out)
{
    bool first = brt_config_get(brt_model_config(source), "recurrent_layers") == 0;
    CLI_TRY(brt_config_create(out));
    CLI_TRY(brt_config_load(*out, parsed->positional[0]));
    if (first) {
        CLI_TRY(brt_config_set(*out, "read_recurrent_layers", "null"));
        CLI_TRY(brt_config_set(*out, "recurrent_qk_rmsnorm", "false"));
    }
    CLI_TRY(cli_set_model_arguments(parsed, *out));
    return brt_config_check(*out);
}

static brt_status graft(const cli_parsed *parsed, uint64_t seed)
{
    brt_model *source, *grafted = NULL;
    brt_config *config = NULL;
    CLI_TRY(brt_model_load(&source, parsed->positional[0]));
    brt_status status = grafted_config(parsed, source, &config);
    if (status == BRT_OK)
        status = brt_model_graft(&grafted, source, config, seed);
    if (status == BRT_OK)
        status = brt_model_save(grafted, parsed->positional[1]);
    brt_config_close(config);
    brt_model_close(grafted);
    brt_model_close(source);
    return status;
}

static int run(const cli_parsed *parsed)
{
    graft_arguments arguments;
    set_defaults(&arguments);
    if (!cli_store(parsed, &arguments))
        return CLI_USAGE;
    brt_status status = graft(parsed, arguments.seed);
    if (status == BRT_OK)
        cli_say("wrote %s; train it with 'brt train --init %s'", parsed->positional[1], parsed->positional[1]);
    return cli_exit_status(status);
}

const cli_command cli_graft = {
    .name = "graft",
    .positional = "MODEL OUT",
    .least = 2,
    .most = 2,
    .summary = "add recurrent layers and routed memories to a trained model",
    .description =
        "Writes the model with the recurrent layers that --recurrent-layers names, and the routed memories of "
        "--routed-layers, which it was trained without. At first it computes exactly what MODEL does: what is heard "
        "from the states has weights of 0, and what is looked up a gate of 0. "
        "Training goes on with 'brt train --init OUT', on documents that are longer than the window.",
    .options = options,
    .model_options = true,
    .arguments_size = sizeof(graft_arguments),
    .set_defaults = set_defaults,
    .run = run,
};
