#define _GNU_SOURCE
#include "trace.h"

#include "output.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int64_t integer_at(const brt_tensor_info *info, size_t index)
{
    int64_t wide;
    int32_t narrow;
    if (strcmp(info->dtype, "I64") == 0) {
        memcpy(&wide, (const char *)info->data + index * sizeof wide, sizeof wide);
        return wide;
    }
    memcpy(&narrow, (const char *)info->data + index * sizeof narrow, sizeof narrow);
    return narrow;
}

static brt_status convert(trace_call *call, const brt_tensor_info *info, const char *path)
{
    call->time = info->shape[1];
    call->tokens = calloc(info->count, sizeof *call->tokens);
    if (!call->tokens)
        return cli_out_of_memory("the tokens");
    for (size_t i = 0; i < info->count; i++) {
        int64_t token = integer_at(info, i);
        if (token < INT32_MIN || token > INT32_MAX)
            return cli_fail(BRT_ERROR_DATA, "%s: %s has the token %lld", path, info->name, (long long)token);
        call->tokens[i] = (int32_t)token;
    }
    return BRT_OK;
}

static brt_status check_shape(const trace_calls *calls, const brt_tensor_info *info, const char *path)
{
    if (strcmp(info->dtype, "I64") != 0 && strcmp(info->dtype, "I32") != 0)
        return cli_fail(BRT_ERROR_DATA, "%s: %s is of type %s; tokens are I32 or I64", path, info->name, info->dtype);
    if (info->dims != 2 || info->count == 0)
        return cli_fail(BRT_ERROR_DATA, "%s: %s must have the shape [batch, time], neither of them 0", path,
                        info->name);
    if (calls->count > 0 && info->shape[0] != calls->rows)
        return cli_fail(BRT_ERROR_DATA, "%s: %s has %zu rows and the calls before it have %zu", path, info->name,
                        info->shape[0], calls->rows);
    return BRT_OK;
}

/* Call number calls->count, if the file has it. */
static brt_status read_call(trace_calls *calls, const brt_tensors *file, const char *path, bool *found)
{
    char name[48];
    brt_tensor_info info;
    snprintf(name, sizeof name, "tokens.%zu", calls->count);
    *found = brt_tensors_find(file, name, &info) == BRT_OK;
    if (!*found)
        return BRT_OK;
    CLI_TRY(check_shape(calls, &info, path));
    calls->rows = info.shape[0];
    return convert(&calls->items[calls->count++], &info, path);
}

static brt_status read_calls(trace_calls *out, const brt_tensors *file, const char *path)
{
    bool found = true;
    size_t most = brt_tensors_count(file);
    out->items = calloc(most + 1, sizeof *out->items);
    if (!out->items)
        return cli_out_of_memory("the calls");
    while (found)
        CLI_TRY(read_call(out, file, path, &found));
    if (out->count == 0)
        return cli_fail(BRT_ERROR_DATA, "%s has no tensor tokens.0", path);
    if (out->count < most)
        return cli_fail(BRT_ERROR_DATA, "%s has %zu tensors, but tokens.%zu is missing", path, most, out->count);
    return BRT_OK;
}

brt_status trace_read_calls(trace_calls *out, const char *path)
{
    brt_tensors *file;
    *out = (trace_calls){0};
    CLI_TRY(brt_tensors_open(&file, path));
    brt_status status = read_calls(out, file, path);
    brt_tensors_close(file);
    if (status != BRT_OK)
        trace_close_calls(out);
    return status;
}

void trace_close_calls(trace_calls *calls)
{
    for (size_t i = 0; i < calls->count; i++)
        free(calls->items[i].tokens);
    free(calls->items);
    *calls = (trace_calls){0};
}
