/* brt plot: the loss curves of runs as a picture. */
#define _GNU_SOURCE
#include "commands.h"
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

/* Values that grow one by one. */
typedef struct points {
    double *x, *y;
    size_t count, room;
} points;

/* Training and validation of one run. */
typedef struct history {
    points train, validation, without_states;
    bool bytes; /* losses are shown as bits per byte */
    char titles[3][128];
} history;

static brt_status append(points *p, double x, double y)
{
    if (p->count == p->room) {
        size_t room = p->room ? 2 * p->room : 256;
        double *grown_x = realloc(p->x, room * sizeof *p->x);
        p->x = grown_x ? grown_x : p->x;
        double *grown_y = realloc(p->y, room * sizeof *p->y);
        p->y = grown_y ? grown_y : p->y;
        if (!grown_x || !grown_y)
            return cli_out_of_memory("a curve");
        p->room = room;
    }
    p->x[p->count] = x;
    p->y[p->count++] = y;
    return BRT_OK;
}

static void free_history(history *h)
{
    points *all[] = {&h->train, &h->validation, &h->without_states};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        free(all[i]->x);
        free(all[i]->y);
    }
}

/* ---- reading ---------------------------------------------------------------------------------------------------- */

static double scale(const history *h, const json_t *loss)
{
    return h->bytes ? cli_bits(json_number_value(loss)) : json_number_value(loss);
}

static brt_status read_line(history *h, const json_t *line, const char *path, size_t number)
{
    const json_t *step = json_object_get(line, "step"), *loss = json_object_get(line, "loss");
    const json_t *validation = json_object_get(line, "validation");
    if (!json_is_integer(step) || !json_is_number(loss))
        return cli_fail(BRT_ERROR_FORMAT, "%s:%zu: not a line of metrics with \"step\" and \"loss\"", path, number);
    double x = (double)json_integer_value(step);
    CLI_TRY(append(&h->train, x, scale(h, loss)));
    if (!validation)
        return BRT_OK;
    const json_t *with = json_object_get(validation, "loss"), *without = json_object_get(validation, "loss_no_states");
    if (!json_is_number(with) || !json_is_number(without))
        return cli_fail(BRT_ERROR_FORMAT, "%s:%zu: \"validation\" lacks \"loss\" or \"loss_no_states\"", path, number);
    CLI_TRY(append(&h->validation, x, scale(h, with)));
    return append(&h->without_states, x, scale(h, without));
}

static brt_status read_lines(history *h, FILE *file, const char *path)
{
    char *line = NULL;
    size_t size = 0, number = 0;
    brt_status status = BRT_OK;
    while (status == BRT_OK && getline(&line, &size, file) > 0) {
        json_t *object = json_loads(line, JSON_REJECT_DUPLICATES, NULL);
        status = read_line(h, object, path, ++number);
        json_decref(object);
    }
    free(line);
    return status;
}

static brt_status read_vocabulary(history *h, const char *run)
{
    brt_config *config;
    CLI_TRY(brt_config_create(&config));
    brt_status status = brt_config_load(config, run);
    if (status == BRT_OK)
        status = brt_config_check(config);
    h->bytes = status == BRT_OK && brt_config_get(config, "num_tokens") == 256;
    brt_config_close(config);
    return status;
}

/* Steps averaged so that at most this many points are drawn. */
static void thin(points *p, size_t most)
{
    size_t width = (p->count + most - 1) / most;
    size_t kept = 0;
    for (size_t first = 0; first < p->count; first += width) {
        size_t end = first + width < p->count ? first + width : p->count;
        double x = 0, y = 0;
        for (size_t i = first; i < end; i++) {
            x += p->x[i] / (double)(end - first);
            y += p->y[i] / (double)(end - first);
        }
        p->x[kept] = x;
        p->y[kept++] = y;
    }
    p->count = kept;
}

static brt_status read_history(history *h, const char *run)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/metrics.jsonl", run);
    CLI_TRY(read_vocabulary(h, run));
    FILE *file;
    CLI_TRY(cli_open_file(path, &file));
    brt_status status = read_lines(h, file, path);
    fclose(file);
    if (status == BRT_OK && h->train.count == 0)
        return cli_fail(BRT_ERROR_DATA, "%s has no steps yet", path);
    thin(&h->train, 400);
    return status;
}

/* ---- drawing ---------------------------------------------------------------------------------------------------- */

static size_t add_curve(plot_curve *curve, char *title, const char *run, const char *what, const points *p, bool dots)
{
    snprintf(title, 128, "%.80s: %s", run, what);
    *curve = (plot_curve){title, p->x, p->y, p->count, dots};
    return p->count > 0;
}

static brt_status draw(history *histories, const cli_parsed *parsed, const char *out)
{
    size_t count = 0;
    plot_curve *curves = calloc(3 * parsed->positional_count, sizeof *curves);
    if (!curves)
        return cli_out_of_memory("the curves");
    for (size_t i = 0; i < parsed->positional_count; i++) {
        history *h = &histories[i];
        const char *run = parsed->positional[i];
        count += add_curve(&curves[count], h->titles[0], run, "training", &h->train, false);
        count += add_curve(&curves[count], h->titles[1], run, "validation", &h->validation, true);
        count += add_curve(&curves[count], h->titles[2], run, "without states", &h->without_states, true);
    }
    const char *unit = histories[0].bytes ? "bits per byte" : "loss (nats per token)";
    plot picture = {"Block-Recurrent Transformer", "step", unit, curves, count};
    brt_status status = plot_draw(&picture, out);
    free(curves);
    return status;
}

static brt_status plot_runs(const cli_parsed *parsed, const char *out)
{
    history *histories = calloc(parsed->positional_count, sizeof *histories);
    if (!histories)
        return cli_out_of_memory("the curves");
    brt_status status = BRT_OK;
    for (size_t i = 0; i < parsed->positional_count && status == BRT_OK; i++)
        status = read_history(&histories[i], parsed->positional[i]);
    for (size_t i = 1; i < parsed->positional_count && status == BRT_OK; i++)
        if (histories[i].bytes != histories[0].bytes)
            status = cli_fail(BRT_ERROR_MISMATCH, "%s and %s have other vocabularies: their losses do not compare",
                              parsed->positional[0], parsed->positional[i]);
    if (status == BRT_OK)
        status = draw(histories, parsed, out);
    for (size_t i = 0; i < parsed->positional_count; i++)
        free_history(&histories[i]);
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
    .most = 16,
    .summary = "draw the loss curves of runs",
    .description = "Draws training and validation loss of one or more runs as a picture, with gnuplot.",
    .options = options,
    .arguments_size = sizeof(plot_arguments),
    .set_defaults = set_defaults,
    .run = run,
};
