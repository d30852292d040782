#define _GNU_SOURCE
#include "trace.h"

#include "output.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Bytes of an integer of the type; 0: it is none. */
static size_t width_of(const char *dtype)
{
    static const struct {
        const char *dtype;
        size_t width;
    } types[] = {{"BOOL", 1}, {"U8", 1}, {"I32", 4}, {"I64", 8}};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (strcmp(dtype, types[i].dtype) == 0)
            return types[i].width;
    return 0;
}

static int64_t integer_at(const brt_tensor_info *info, size_t index)
{
    size_t width = width_of(info->dtype);
    const unsigned char *from = (const unsigned char *)info->data + index * width;
    int64_t wide;
    int32_t narrow;
    switch (width) {
    case 8:
        memcpy(&wide, from, sizeof wide);
        return wide;
    case 4:
        memcpy(&narrow, from, sizeof narrow);
        return narrow;
    default:
        return *from;
    }
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
    if (width_of(info->dtype) < 4)
        return cli_fail(BRT_ERROR_DATA, "%s: %s is of type %s; tokens are I32 or I64", path, info->name, info->dtype);
    if (info->dims != 2 || info->count == 0)
        return cli_fail(BRT_ERROR_DATA, "%s: %s must have the shape [batch, time], neither of them 0", path,
                        info->name);
    if (calls->count > 0 && info->shape[0] != calls->rows)
        return cli_fail(BRT_ERROR_DATA, "%s: %s has %zu rows and the calls before it have %zu", path, info->name,
                        info->shape[0], calls->rows);
    return BRT_OK;
}

/* Of call number `index`, if the file has them. */
static brt_status read_starts(trace_calls *calls, size_t index, const brt_tensors *file, const char *path)
{
    char name[48];
    brt_tensor_info info;
    snprintf(name, sizeof name, "start_of_sequence.%zu", index);
    if (brt_tensors_find(file, name, &info) != BRT_OK)
        return BRT_OK;
    if (!width_of(info.dtype) || info.dims != 1 || info.count != calls->rows)
        return cli_fail(BRT_ERROR_DATA,
                        "%s: %s must have the shape [%zu], one for each row, and be BOOL, U8, I32 or I64",
                        path, name, calls->rows);
    bool *starts = calls->items[index].starts = calloc(calls->rows, sizeof *starts);
    if (!starts)
        return cli_out_of_memory("the calls");
    for (size_t row = 0; row < calls->rows; row++)
        starts[row] = integer_at(&info, row) != 0;
    calls->used++;
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
    calls->used++;
    CLI_TRY(read_starts(calls, calls->count, file, path));
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
    if (out->used < most)
        return cli_fail(BRT_ERROR_DATA,
                        "%s has %zu tensors; tokens.0 to tokens.%zu and start_of_sequence.K of these calls are %zu of "
                        "them",
                        path, most, out->count - 1, out->used);
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
    for (size_t i = 0; i < calls->count; i++) {
        free(calls->items[i].tokens);
        free(calls->items[i].starts);
    }
    free(calls->items);
    *calls = (trace_calls){0};
}
