/* A stream as a file: raw windows, states and positions, from which everything else is made again. It is a safetensors
 * file, so that other tools can read it. */
#define _GNU_SOURCE
#include "stream_state.h"

#include "../base/size.h"
#include "../ckpt/safetensors.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const char session_format[] = "brt-session-3";

/* One carried array: its place in the stream and in the file. */
typedef struct item {
    char name[48];
    const char *dtype;
    size_t dims, shape[BRT_MAX_DIMS];
    void *data;
    size_t bytes;
} item;

typedef struct listing {
    item *items;
    size_t count;
} listing;

static item make_item(const char *dtype, size_t item_bytes, void *data, size_t dims, const size_t *shape)
{
    item made = {.dtype = dtype, .dims = dims, .data = data, .bytes = item_bytes};
    for (size_t i = 0; i < dims; i++) {
        made.shape[i] = shape[i];
        made.bytes *= shape[i];
    }
    return made;
}

static void name_item(item *made, const char *kind, size_t index)
{
    snprintf(made->name, sizeof made->name, "%s.%zu", kind, index);
}

static item numbers_item(const char *name, uint64_t *data, size_t rows)
{
    item made = make_item("U64", sizeof *data, data, BRT_SHAPE(rows));
    snprintf(made.name, sizeof made.name, "%s", name);
    return made;
}

/* A routed memory, as far as it has been written. */
static item *list_ring(item *items, const char *kind, size_t index, const brt_ring *ring, uint64_t end)
{
    brt_ring_array arrays[BRT_RING_ARRAYS];
    size_t count = brt_ring_arrays(ring, end, arrays);
    for (size_t i = 0; i < count; i++, items++) {
        *items = (item){
            .dtype = arrays[i].dtype, .dims = arrays[i].dims, .data = arrays[i].data, .bytes = arrays[i].bytes};
        memcpy(items->shape, arrays[i].shape, arrays[i].dims * sizeof arrays[i].shape[0]);
        snprintf(items->name, sizeof items->name, "%s_%s.%zu", kind, arrays[i].name, index);
    }
    return items;
}

static item *list_routed(const brt_stream *stream, uint64_t end, item *items)
{
    const brt_config *config = &stream->model->config;
    for (size_t i = 0; i < stream->model->routed; i++) {
        const brt_routed_window *window = &stream->routed[i];
        *items = make_item("F32", sizeof(real), window->routes,
                           BRT_SHAPE(stream->rows, (size_t)config->routes, (size_t)config->dim_head));
        name_item(items++, "routes", i);
        *items = make_item("F32", sizeof(real), window->input, BRT_SHAPE(stream->rows, (size_t)config->dim));
        name_item(items++, "last_input", i);
    }
    for (size_t i = 0; i < stream->memories; i++) {
        items = list_ring(items, "routed", i, &stream->rings[i], end);
        if (stream->scans)
            items = list_ring(items, "scan", i, &stream->scans[i], end);
    }
    return items;
}

/* Returns the end of the list. */
static item *list_items(const brt_stream *stream, uint64_t end, item *items)
{
    const brt_config *config = &stream->model->config;
    size_t rows = stream->rows;
    *items++ = numbers_item("position", stream->position, rows);
    *items++ = numbers_item("past", stream->past, rows);
    for (size_t i = 0; i < stream->model->slots.count; i++, items++) {
        const brt_slot *slot = &stream->model->slots.items[i];
        *items = make_item("F32", sizeof(real), stream->carried[i], BRT_SHAPE(rows, slot->vectors, slot->width));
        snprintf(items->name, sizeof items->name, "%s", slot->name);
    }
    for (size_t i = 0; i < stream->model->depth; i++, items++) {
        *items = make_item("F32", sizeof(real), stream->window[i].block,
                           BRT_SHAPE(rows, (size_t)config->block_width, brt_carried_raw_width(config)));
        name_item(items, "block", i);
    }
    for (size_t i = 0; brt_model_wants_usage(stream->model) && i < stream->model->depth; i++, items++) {
        *items = make_item("F32", sizeof(real), stream->window[i].usage, BRT_SHAPE(rows, (size_t)config->block_width));
        name_item(items, "usage", i);
    }
    for (size_t i = 0; i < config->conditional_ff_layers.count; i++, items++) {
        *items = make_item("F32", sizeof(real), stream->scores[i], BRT_SHAPE(rows, (size_t)config->block_width));
        name_item(items, "scores", i);
    }
    return list_routed(stream, end, items);
}

/* FNV-1a by words. */
static uint64_t add_to_hash(uint64_t hash, const void *data, size_t bytes)
{
    for (size_t done = 0; done < bytes; done += sizeof(uint32_t)) {
        uint32_t word = 0;
        memcpy(&word, (const unsigned char *)data + done, brt_min_size(sizeof word, bytes - done));
        hash = (hash ^ word) * UINT64_C(0x100000001b3);
    }
    return hash;
}

/* Of all weights: a session continues the model that made it and no other. It takes about as long as decoding a token,
 * which reads the weights, too. */
static uint64_t fingerprint(const brt_model *model)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < model->parameters.count; i++) {
        const brt_parameter *parameter = &model->parameters.items[i];
        const brt_quantized *q = &parameter->quantized;
        if (parameter->precision == BRT_F32) {
            hash = add_to_hash(hash, parameter->tensor.data, parameter->tensor.count * sizeof(real));
        } else {
            hash = add_to_hash(hash, q->numbers, q->out * q->in * brt_quantized_item(q));
            hash = add_to_hash(hash, q->scale, q->out * sizeof *q->scale);
        }
    }
    return hash;
}

/* Where the routed memories end; 0 without. */
static uint64_t ring_end(const brt_stream *stream)
{
    return stream->memories ? stream->rings[0].end : 0;
}

/* end: of the routed memories as they are in the file. */
static brt_status make_listing(listing *list, const brt_stream *stream, uint64_t end)
{
    const brt_model *model = stream->model;
    list->items = calloc(2 + model->slots.count + 2 * model->depth + 2 * model->routed +
                             model->config.conditional_ff_layers.count + 2 * BRT_RING_ARRAYS * stream->memories,
                         sizeof *list->items);
    if (!list->items)
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for a session");
    list->count = (size_t)(list_items(stream, end, list->items) - list->items);
    return BRT_OK;
}

static brt_status write_items(const brt_stream *stream, const listing *list, const char *path, const char *note)
{
    brt_tensor_source *sources = calloc(list->count, sizeof *sources);
    if (!sources)
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for saving the session %s", path);
    for (size_t i = 0; i < list->count; i++) {
        const item *from = &list->items[i];
        sources[i] =
            (brt_tensor_source){.name = from->name, .dtype = from->dtype, .dims = from->dims, .data = from->data};
        memcpy(sources[i].shape, from->shape, from->dims * sizeof from->shape[0]);
    }
    char filled[32], model[20], routed[32];
    const char *recall = stream->recalls ? "1" : "0";
    snprintf(filled, sizeof filled, "%zu", stream->filled);
    snprintf(model, sizeof model, "%016" PRIx64, fingerprint(stream->model));
    snprintf(routed, sizeof routed, "%" PRIu64, ring_end(stream));
    const char *const metadata[] = {"format", session_format, "model",  model,  "filled", filled,
                                    "routed", routed,         "recall", recall, "note",   note ? note : "", NULL};
    brt_status status = brt_safetensors_write(path, sources, list->count, metadata);
    free(sources);
    return status;
}

brt_status brt_stream_save(const brt_stream *stream, const char *path, const char *note)
{
    listing list;
    brt_stream_finish_states(stream);
    BRT_TRY(make_listing(&list, stream, ring_end(stream)));
    brt_status status = write_items(stream, &list, path, note);
    free(list.items);
    return status;
}

/* ---- loading ------------------------------------------------------------------------------------------------ */

static brt_status check_item(const brt_safetensors *file, const item *wanted, brt_tensor_info *found)
{
    if (!brt_safetensors_find(file, wanted->name, found) || strcmp(found->dtype, wanted->dtype) != 0)
        return BRT_FAIL(BRT_ERROR_MISMATCH, "the session %s has no \"%s\" of type %s", brt_safetensors_path(file),
                        wanted->name, wanted->dtype);
    if (!brt_safetensors_has_shape(found, wanted->dims, wanted->shape))
        return BRT_FAIL(BRT_ERROR_MISMATCH, "the session %s is of another model or number of rows: \"%s\" has another "
                        "shape than this stream's",
                        brt_safetensors_path(file), wanted->name);
    return BRT_OK;
}

static brt_status read_number(const brt_safetensors *file, const char *key, size_t most, size_t *out)
{
    const char *text = brt_safetensors_metadata(file, key);
    char *end;
    unsigned long long number = text ? strtoull(text, &end, 10) : 0;
    if (!text || end == text || *end || number > most)
        return BRT_FAIL(BRT_ERROR_FORMAT, "the session %s has no valid \"%s\": a number up to %zu was expected",
                        brt_safetensors_path(file), key, most);
    *out = (size_t)number;
    return BRT_OK;
}

static brt_status check_model(const brt_safetensors *file, const brt_model *model)
{
    char expected[20];
    const char *found = brt_safetensors_metadata(file, "model");
    snprintf(expected, sizeof expected, "%016" PRIx64, fingerprint(model));
    if (!found || strcmp(found, expected) != 0)
        return BRT_FAIL(BRT_ERROR_MISMATCH, "the session %s is of another model: one with other weights",
                        brt_safetensors_path(file));
    return BRT_OK;
}

/* No row may remember more than there is. */
static brt_status check_past(const brt_safetensors *file, const brt_stream *stream, const void *data, size_t end)
{
    for (size_t row = 0; row < stream->rows; row++) {
        uint64_t past;
        memcpy(&past, (const char *)data + row * sizeof past, sizeof past);
        size_t remembered = brt_routed_remembered(stream->capacity, brt_stream_width(stream), past);
        if (stream->memories && remembered > end)
            return BRT_FAIL(BRT_ERROR_FORMAT, "the session %s has a row with %zu routed tokens, of %zu",
                            brt_safetensors_path(file), remembered, end);
    }
    return BRT_OK;
}

/* Everything is checked before the stream is touched: a bad file leaves it as it was. */
static brt_status read_items(brt_stream *stream, const brt_safetensors *file, const listing *list, size_t end)
{
    size_t filled;
    BRT_TRY(read_number(file, "filled", (size_t)stream->model->config.block_width - 1, &filled));
    brt_tensor_info info;
    for (size_t i = 0; i < list->count; i++) {
        BRT_TRY(check_item(file, &list->items[i], &info));
        if (list->items[i].data == stream->past)
            BRT_TRY(check_past(file, stream, info.data, end));
    }
    BRT_TRY(check_model(file, stream->model));
    brt_stream_finish_states(stream); /* not later, over those of the file */
    for (size_t i = 0; i < list->count; i++) {
        brt_safetensors_find(file, list->items[i].name, &info);
        memcpy(list->items[i].data, info.data, list->items[i].bytes);
    }
    for (size_t i = 0; i < stream->memories; i++) {
        stream->rings[i].end = end;
        if (stream->scans)
            stream->scans[i].end = end;
    }
    stream->filled = filled;
    stream->stale = stream->replaced = true;
    return BRT_OK;
}

static brt_status read_session(brt_stream *stream, const brt_safetensors *file)
{
    size_t end = 0, recall = 0, width = (size_t)stream->model->config.block_width;
    const char *format = brt_safetensors_metadata(file, "format");
    if (!format || strcmp(format, session_format) != 0)
        return BRT_FAIL(BRT_ERROR_FORMAT, "%s is not a session file", brt_safetensors_path(file));
    if (stream->memories) {
        BRT_TRY(read_number(file, "routed", SIZE_MAX / 2, &end));
        BRT_TRY(read_number(file, "recall", 1, &recall));
        if (recall != (stream->recalls > 0))
            return BRT_FAIL(BRT_ERROR_MISMATCH, "the session %s was made %s exact recall; this stream is the other way",
                            brt_safetensors_path(file), recall ? "with" : "without");
    }
    if (end % width)
        return BRT_FAIL(BRT_ERROR_FORMAT, "the session %s has routed memories of %zu tokens; blocks have %zu",
                        brt_safetensors_path(file), end, width);
    listing list;
    BRT_TRY(make_listing(&list, stream, end));
    brt_status status = read_items(stream, file, &list, end);
    free(list.items);
    return status;
}

static brt_status copy_note(const brt_safetensors *file, char **note)
{
    const char *text = brt_safetensors_metadata(file, "note");
    if (!note)
        return BRT_OK;
    *note = strdup(text ? text : "");
    return *note ? BRT_OK : BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for the session's note");
}

brt_status brt_stream_load(brt_stream *stream, const char *path, char **note)
{
    brt_safetensors *file;
    BRT_TRY(brt_safetensors_open(&file, path));
    brt_status status = read_session(stream, file);
    if (status == BRT_OK)
        status = copy_note(file, note);
    brt_safetensors_close(file);
    return status;
}
