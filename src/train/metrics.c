#define _GNU_SOURCE
#include "metrics.h"

#include "../base/file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* The step of a line, or UINT64_MAX if it is not a whole metrics line. */
static uint64_t step_of(const char *line, size_t length)
{
    json_t *object = json_loadb(line, length, 0, NULL);
    const json_t *step = json_object_get(object, "step");
    uint64_t number = json_is_integer(step) ? (uint64_t)json_integer_value(step) : UINT64_MAX;
    json_decref(object);
    return number;
}

/* Length of the leading lines that belong to steps up to last_step. */
static size_t kept_length(const brt_mapping *text, uint64_t last_step)
{
    size_t kept = 0;
    while (kept < text->size) {
        const char *line = (const char *)text->data + kept;
        const char *end = memchr(line, '\n', text->size - kept);
        if (!end || step_of(line, (size_t)(end - line)) > last_step)
            break;
        kept += (size_t)(end - line) + 1;
    }
    return kept;
}

/* Cuts the file to the lines that stay. */
static brt_status trim(const char *path, uint64_t last_step)
{
    if (!brt_file_exists(path))
        return BRT_OK;
    brt_mapping text;
    BRT_TRY(brt_file_map(&text, path));
    brt_status status = brt_file_replace(path, text.data, last_step ? kept_length(&text, last_step) : 0);
    brt_file_unmap(&text);
    return status;
}

brt_status brt_metrics_open(brt_metrics *metrics, const char *path, uint64_t last_step)
{
    *metrics = (brt_metrics){0};
    BRT_TRY(trim(path, last_step));
    metrics->path = strdup(path);
    metrics->file = fopen(path, "ae");
    if (!metrics->path || !metrics->file) {
        brt_status status = BRT_FAIL(BRT_ERROR_IO, "cannot open %s for writing: %s", path, strerror(errno));
        brt_metrics_close(metrics);
        return status;
    }
    return BRT_OK;
}

brt_status brt_metrics_write(brt_metrics *metrics, json_t *object)
{
    char *line = object ? json_dumps(object, JSON_COMPACT | JSON_REAL_PRECISION(17)) : NULL;
    json_decref(object);
    if (!line)
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for a line of %s", metrics->path);
    bool written = fprintf(metrics->file, "%s\n", line) > 0 && fflush(metrics->file) == 0;
    free(line);
    return written ? BRT_OK : BRT_FAIL(BRT_ERROR_IO, "cannot write to %s: %s", metrics->path, strerror(errno));
}

void brt_metrics_close(brt_metrics *metrics)
{
    if (metrics->file)
        fclose(metrics->file);
    free(metrics->path);
    *metrics = (brt_metrics){0};
}
