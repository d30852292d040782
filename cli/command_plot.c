/* brt plot: the loss curves of runs as a picture. */
#define _GNU_SOURCE
#include "commands.h"
#include "history.h"
#include "output.h"
#include "plot.h"

#include <stdio.h>
#include <stdlib.h>

typedef struct plot_arguments {
    const char *out;
} plot_arguments;

static const cli_option options[] = {
    {"out", 'o', CLI_TEXT, offsetof(plot_arguments, out), "FILE", "the picture, .svg or .png"},
    CLI_END,
};

static void set_defaults(void *arguments)
{
    *(plot_arguments *)arguments = (plot_arguments){.out = "loss.svg"};
}

/* ---- drawing ---------------------------------------------------------------------------------------------------- */

enum { most_runs = 16, title_size = 128 };

static size_t add_curve(plot_curve *curve, char *title, const char *run, const char *what, const history_points *p,
                        bool dots)
{
    snprintf(title, title_size, "%.80s: %s", run, what);
    *curve = (plot_curve){title, p->x, p->y, p->count, dots};
    return p->count > 0;
}

static brt_status draw(history *histories, const cli_parsed *parsed, const char *out)
{
    size_t count = 0;
    plot_curve curves[3 * most_runs];
    char titles[3 * most_runs][title_size];
    for (size_t i = 0; i < parsed->positional_count; i++) {
        history *h = &histories[i];
        const char *run = parsed->positional[i];
        count += add_curve(&curves[count], titles[3 * i], run, "training", &h->train, false);
        count += add_curve(&curves[count], titles[3 * i + 1], run, "validation", &h->validation, true);
        count += add_curve(&curves[count], titles[3 * i + 2], run, "without states", &h->without_states, true);
    }
    const char *unit = histories[0].bytes ? "bits per byte" : "loss (nats per token)";
    plot picture = {"Block-Recurrent Transformer", "step", unit, curves, count};
    return plot_draw(&picture, out);
}

static brt_status plot_runs(const cli_parsed *parsed, const char *out)
{
    history *histories = calloc(parsed->positional_count, sizeof *histories);
    if (!histories)
        return cli_out_of_memory("the curves");
    brt_status status = BRT_OK;
    for (size_t i = 0; i < parsed->positional_count && status == BRT_OK; i++)
        status = history_read(&histories[i], parsed->positional[i]);
    for (size_t i = 1; i < parsed->positional_count && status == BRT_OK; i++)
        if (histories[i].bytes != histories[0].bytes)
            status = cli_fail(BRT_ERROR_MISMATCH, "%s and %s have other vocabularies: their losses do not compare",
                              parsed->positional[0], parsed->positional[i]);
    if (status == BRT_OK)
        status = draw(histories, parsed, out);
    for (size_t i = 0; i < parsed->positional_count; i++)
        history_close(&histories[i]);
    free(histories);
    return status;
}

static int run(const cli_parsed *parsed)
{
    plot_arguments arguments;
    set_defaults(&arguments);
    if (!cli_store(parsed, &arguments))
        return CLI_USAGE;
    brt_status status = plot_runs(parsed, arguments.out);
    if (status == BRT_OK)
        cli_say("drew %s", arguments.out);
    return cli_exit_status(status);
}

const cli_command cli_plot = {
    .name = "plot",
    .positional = "RUN...",
    .least = 1,
    .most = most_runs,
    .summary = "draw the loss curves of runs",
    .description = "Draws training and validation loss of one or more runs as a picture, with gnuplot.",
    .options = options,
    .arguments_size = sizeof(plot_arguments),
    .set_defaults = set_defaults,
    .run = run,
};
