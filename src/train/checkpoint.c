#include "checkpoint.h"

#include "../ckpt/safetensors.h"

#include <stdlib.h>
#include <string.h>

static const char checkpoint_format[] = "brt-checkpoint-3";

enum { name_size = 128 };

/* The tensors of a checkpoint, in the order of the file. */
typedef struct listing {
    brt_tensor_source *sources;
    char (*names)[name_size];
    size_t count;
} listing;

/* Under the name KIND.NAME */
static void add(listing *list, const char *name, const brt_moment *tensor)
{
    brt_tensor_source *source = &list->sources[list->count];
    snprintf(list->names[list->count], name_size, "%s%s%s", tensor->kind, name[0] ? "." : "", name);
    *source = (brt_tensor_source){
        .name = list->names[list->count], .dtype = "F32", .dims = tensor->dims, .data = tensor->data};
    memcpy(source->shape, tensor->shape, tensor->dims * sizeof tensor->shape[0]);
    list->count++;
}

/* The routed memory of a layer, under ring.INDEX.NAME. */
static void add_ring(listing *list, size_t index, const brt_ring *ring, uint64_t end)
{
    brt_ring_array arrays[BRT_RING_ARRAYS];
    size_t count = brt_ring_arrays(ring, end, arrays);
    for (size_t i = 0; i < count; i++, list->count++) {
        brt_tensor_source *source = &list->sources[list->count];
        snprintf(list->names[list->count], name_size, "ring.%zu.%s", index, arrays[i].name);
        *source = (brt_tensor_source){.name = list->names[list->count],
                                      .dtype = arrays[i].dtype,
                                      .dims = arrays[i].dims,
                                      .data = arrays[i].data};
        memcpy(source->shape, arrays[i].shape, arrays[i].dims * sizeof arrays[i].shape[0]);
    }
}

static void add_moments(listing *list, const brt_optimizer *optimizer, const brt_parameter *parameter)
{
    brt_moment moments[BRT_MOST_MOMENTS];
    size_t count = optimizer->method->moments(optimizer, parameter, moments);
    for (size_t i = 0; i < count; i++)
        add(list, parameter->name, &moments[i]);
}

/* ring_end: of the routed memories as they are in the file. */
static brt_status make_listing(listing *list, const brt_trainer *trainer, uint64_t ring_end)
{
    const brt_parameters *parameters = &trainer->model->parameters;
    size_t most = (1 + BRT_MOST_MOMENTS) * parameters->count + 1 + BRT_RING_ARRAYS * trainer->model->routed;
    list->count = 0;
    list->sources = calloc(most, sizeof *list->sources);
    list->names = calloc(most, sizeof *list->names);
    if (!list->sources || !list->names) {
        free(list->sources);
        free(list->names);
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for a checkpoint");
    }
    for (size_t i = 0; i < parameters->count; i++) {
        const brt_parameter *parameter = &parameters->items[i];
        brt_moment weight = brt_moment_like("weight", parameter, parameter->tensor.data);
        add(list, parameter->name, &weight);
        add_moments(list, &trainer->optimizer, parameter);
    }
    add(list, "", &(brt_moment){"carry", 1, {trainer->carry.count}, trainer->carry.storage});
    for (size_t i = 0; i < trainer->model->routed; i++)
        add_ring(list, i, &trainer->carry.rings[i], ring_end);
    return BRT_OK;
}

static void free_listing(listing *list)
{
    free(list->sources);
    free(list->names);
}

/* ---- the part in JSON ------------------------------------------------------------------------------------------ */

static uint64_t ring_end(const brt_trainer *trainer)
{
    return trainer->model->routed ? trainer->carry.rings[0].end : 0;
}

static json_t *numbers_to_json(const uint64_t *numbers, size_t count)
{
    json_t *array = json_array();
    for (size_t i = 0; array && i < count; i++)
        json_array_append_new(array, json_integer((json_int_t)numbers[i]));
    return array;
}

static char *describe(const brt_trainer *trainer, const json_t *state)
{
    const brt_carry *carry = &trainer->carry;
    json_t *all = json_pack("{s:I, s:I, s:o, s:o, s:I, s:O}", "updates", (json_int_t)trainer->optimizer.step,
                            "segments", (json_int_t)trainer->segments, "past",
                            numbers_to_json(carry->past, carry->rows), "born",
                            numbers_to_json(carry->born, carry->rows), "ring_end", (json_int_t)ring_end(trainer), "run",
                            (json_t *)state);
    char *text = all ? json_dumps(all, JSON_COMPACT | JSON_REAL_PRECISION(17)) : NULL;
    json_decref(all);
    return text;
}

brt_status brt_checkpoint_save(const brt_trainer *trainer, const json_t *state, const char *path)
{
    listing list;
    BRT_TRY(make_listing(&list, trainer, ring_end(trainer)));
    char *text = describe(trainer, state);
    brt_status status = text ? BRT_OK : BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for a checkpoint");
    if (status == BRT_OK) {
        const char *const metadata[] = {"format", checkpoint_format, "state", text, NULL};
        status = brt_safetensors_write(path, list.sources, list.count, metadata);
    }
    free(text);
    free_listing(&list);
    return status;
}

/* ---- loading ---------------------------------------------------------------------------------------------------- */

static brt_status check_tensor(const brt_safetensors *file, const brt_tensor_source *wanted, brt_tensor_info *found)
{
    bool there = brt_safetensors_find(file, wanted->name, found);
    bool same = there && strcmp(found->dtype, wanted->dtype) == 0 &&
                brt_safetensors_has_shape(found, wanted->dims, wanted->shape);
    if (!same)
        return BRT_FAIL(BRT_ERROR_MISMATCH,
                        "the checkpoint %s is of another model, batch or configuration: \"%s\" is %s",
                        brt_safetensors_path(file), wanted->name, there ? "of another shape" : "missing");
    return BRT_OK;
}

static brt_status numbers_from_json(const json_t *array, uint64_t *numbers, size_t count, const char *path)
{
    if (json_array_size(array) != count)
        return BRT_FAIL(BRT_ERROR_MISMATCH, "the checkpoint %s has %zu rows, not %zu", path, json_array_size(array),
                        count);
    for (size_t i = 0; i < count; i++) {
        json_int_t number = json_integer_value(json_array_get(array, i));
        if (number < 0)
            return BRT_FAIL(BRT_ERROR_FORMAT, "the checkpoint %s has a row with %lld blocks behind it", path,
                            (long long)number);
        numbers[i] = (uint64_t)number;
    }
    return BRT_OK;
}

/* Where the routed memories of the file end: between blocks, and no row was born later. */
static brt_status ring_end_from_json(const brt_trainer *trainer, const json_t *all, const char *path, uint64_t *out)
{
    int64_t end, width = trainer->model->config.block_width;
    BRT_TRY(brt_json_get_integer(all, "ring_end", path, &end));
    const json_t *born = json_object_get(all, "born");
    bool valid = end >= 0 && end % width == 0;
    for (size_t i = 0; i < json_array_size(born); i++)
        valid = valid && json_integer_value(json_array_get(born, i)) <= end;
    if (!valid)
        return BRT_FAIL(BRT_ERROR_FORMAT, "the checkpoint %s has no valid end of its routed memories", path);
    *out = (uint64_t)end;
    return BRT_OK;
}

static brt_status restore_description(brt_trainer *trainer, const json_t *all, const char *path)
{
    int64_t updates, segments;
    brt_carry *carry = &trainer->carry;
    BRT_TRY(brt_json_get_integer(all, "updates", path, &updates));
    BRT_TRY(brt_json_get_integer(all, "segments", path, &segments));
    BRT_TRY(numbers_from_json(json_object_get(all, "past"), carry->past, carry->rows, path));
    BRT_TRY(numbers_from_json(json_object_get(all, "born"), carry->born, carry->rows, path));
    if (updates < 0 || segments < 0)
        return BRT_FAIL(BRT_ERROR_FORMAT, "the checkpoint %s has no valid state of the trainer", path);
    trainer->optimizer.step = (uint64_t)updates;
    trainer->segments = (uint64_t)segments;
    return BRT_OK;
}

/* The part in JSON. */
static brt_status read_description(const brt_safetensors *file, json_t **all)
{
    const char *path = brt_safetensors_path(file), *text = brt_safetensors_metadata(file, "state");
    const char *format = brt_safetensors_metadata(file, "format");
    if (!format || strcmp(format, checkpoint_format) != 0 || !text)
        return BRT_FAIL(BRT_ERROR_FORMAT, "%s is not a checkpoint of a training run", path);
    return brt_json_parse(all, text, strlen(text), path);
}

static brt_status restore_tensors(brt_trainer *trainer, const brt_safetensors *file, const json_t *all,
                                  const listing *list)
{
    brt_tensor_info info;
    for (size_t i = 0; i < list->count; i++)
        BRT_TRY(check_tensor(file, &list->sources[i], &info));
    BRT_TRY(restore_description(trainer, all, brt_safetensors_path(file)));
    for (size_t i = 0; i < list->count; i++) {
        brt_safetensors_find(file, list->sources[i].name, &info);
        memcpy((void *)list->sources[i].data, info.data, brt_safetensors_bytes(&info));
    }
    brt_parameters_refresh(&trainer->model->parameters, 1);
    return BRT_OK;
}

static brt_status restore(brt_trainer *trainer, const brt_safetensors *file, const json_t *all)
{
    listing list;
    uint64_t end;
    BRT_TRY(ring_end_from_json(trainer, all, brt_safetensors_path(file), &end));
    BRT_TRY(make_listing(&list, trainer, end));
    brt_status status = restore_tensors(trainer, file, all, &list);
    free_listing(&list);
    for (size_t i = 0; status == BRT_OK && i < trainer->model->routed; i++)
        trainer->carry.rings[i].end = end;
    return status;
}

brt_status brt_checkpoint_state(const char *path, json_t **state)
{
    brt_safetensors *file;
    json_t *all = NULL;
    BRT_TRY(brt_safetensors_open(&file, path));
    brt_status status = read_description(file, &all);
    json_t *run = json_object_get(all, "run");
    if (status == BRT_OK && !json_is_object(run))
        status = BRT_FAIL(BRT_ERROR_FORMAT, "the checkpoint %s has no valid state of the run", path);
    if (status == BRT_OK)
        *state = json_incref(run);
    json_decref(all);
    brt_safetensors_close(file);
    return status;
}

brt_status brt_checkpoint_load(brt_trainer *trainer, const char *path)
{
    brt_safetensors *file;
    json_t *all = NULL;
    BRT_TRY(brt_safetensors_open(&file, path));
    brt_status status = read_description(file, &all);
    if (status == BRT_OK)
        status = restore(trainer, file, all);
    json_decref(all);
    brt_safetensors_close(file);
    return status;
}
