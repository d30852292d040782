#define _GNU_SOURCE
#include "history.h"

#include "output.h"

#include <stdio.h>
#include <stdlib.h>

static brt_status append(history_points *p, double x, double y)
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

void history_close(history *h)
{
    history_points *all[] = {&h->train, &h->validation, &h->without_states, &h->speed};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        free(all[i]->x);
        free(all[i]->y);
    }
}

static double scale(const history *h, const json_t *loss)
{
    return h->bytes ? cli_bits(json_number_value(loss)) : json_number_value(loss);
}

static brt_status read_line(history *h, const json_t *line, const char *path, size_t number)
{
    double speed = json_number_value(json_object_get(line, "tokens_per_s"));
    const json_t *step = json_object_get(line, "step"), *loss = json_object_get(line, "loss");
    const json_t *validation = json_object_get(line, "validation");
    if (!json_is_integer(step) || !json_is_number(loss))
        return cli_fail(BRT_ERROR_FORMAT, "%s:%zu: not a line of metrics with \"step\" and \"loss\"", path, number);
    double x = (double)json_integer_value(step);
    CLI_TRY(append(&h->train, x, scale(h, loss)));
    CLI_TRY(append(&h->speed, x, speed));
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
static void thin(history_points *p, size_t most)
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

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

brt_status history_read(history *h, const char *run)
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
    if (status != BRT_OK)
        return status;
    qsort(h->speed.y, h->speed.count, sizeof *h->speed.y, by_size);
    h->tokens_per_s = h->speed.y[h->speed.count / 2];
    thin(&h->train, 400);
    return BRT_OK;
}
