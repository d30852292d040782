/* The public view of a tensor file: one being read, or a set of tensors being collected for one. */
#define _GNU_SOURCE
#include "../base/size.h"
#include "safetensors.h"

#include <stdlib.h>
#include <string.h>

struct brt_tensors {
    brt_safetensors *file;      /* of a set that was opened, else NULL */
    brt_tensor_source *sources; /* of a set that was created: names and data are its own */
    size_t count, capacity;
};

enum { most_dims = sizeof(((brt_tensor_info *)NULL)->shape) / sizeof(size_t) };

static brt_status create(brt_tensors **out)
{
    *out = calloc(1, sizeof **out);
    return *out ? BRT_OK : BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for a set of tensors");
}

brt_status brt_tensors_open(brt_tensors **out, const char *path)
{
    BRT_TRY(create(out));
    brt_status status = brt_safetensors_open(&(*out)->file, path);
    if (status != BRT_OK) {
        brt_tensors_close(*out);
        *out = NULL;
    }
    return status;
}

brt_status brt_tensors_create(brt_tensors **out)
{
    return create(out);
}

void brt_tensors_close(brt_tensors *tensors)
{
    if (!tensors)
        return;
    brt_safetensors_close(tensors->file);
    for (size_t i = 0; i < tensors->count; i++) {
        free((char *)tensors->sources[i].name);
        free((void *)tensors->sources[i].data);
    }
    free(tensors->sources);
    free(tensors);
}

/* ---- looking ------------------------------------------------------------------------------------------------ */

size_t brt_tensors_count(const brt_tensors *tensors)
{
    return tensors->file ? brt_safetensors_count(tensors->file) : tensors->count;
}

static brt_tensor_info info_of(const brt_tensor_source *source)
{
    brt_tensor_info info = {
        .name = source->name, .dtype = source->dtype, .dims = source->dims, .count = 1, .data = source->data};
    for (size_t i = 0; i < source->dims; i++) {
        info.shape[i] = source->shape[i];
        info.count *= source->shape[i];
    }
    return info;
}

brt_status brt_tensors_at(const brt_tensors *tensors, size_t index, brt_tensor_info *out)
{
    size_t count = brt_tensors_count(tensors);
    if (index >= count)
        return BRT_FAIL(BRT_ERROR_ARGUMENT, "there is no tensor %zu; the set has %zu", index, count);
    if (tensors->file)
        brt_safetensors_at(tensors->file, index, out);
    else
        *out = info_of(&tensors->sources[index]);
    return BRT_OK;
}

static const brt_tensor_source *find_source(const brt_tensors *tensors, const char *name)
{
    for (size_t i = 0; i < tensors->count; i++)
        if (strcmp(tensors->sources[i].name, name) == 0)
            return &tensors->sources[i];
    return NULL;
}

static brt_status fail_to_find(const brt_tensors *tensors, const char *name)
{
    return BRT_FAIL(BRT_ERROR_MISMATCH, "%s has no tensor \"%.200s\"",
                    tensors->file ? brt_safetensors_path(tensors->file) : "the set", name);
}

brt_status brt_tensors_find(const brt_tensors *tensors, const char *name, brt_tensor_info *out)
{
    if (tensors->file)
        return brt_safetensors_find(tensors->file, name, out) ? BRT_OK : fail_to_find(tensors, name);
    const brt_tensor_source *source = find_source(tensors, name);
    if (!source)
        return fail_to_find(tensors, name);
    *out = info_of(source);
    return BRT_OK;
}

/* ---- collecting --------------------------------------------------------------------------------------------- */

static brt_status check_created(const brt_tensors *tensors)
{
    if (!tensors->file)
        return BRT_OK;
    return BRT_FAIL(BRT_ERROR_ARGUMENT,
                    "%s was opened for reading; only a set made with brt_tensors_create can be added to and saved",
                    brt_safetensors_path(tensors->file));
}

static brt_status make_room(brt_tensors *tensors)
{
    if (tensors->count < tensors->capacity)
        return BRT_OK;
    size_t capacity = brt_max_size(16, 2 * tensors->capacity);
    brt_tensor_source *sources = realloc(tensors->sources, capacity * sizeof *sources);
    if (!sources)
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for %zu tensors", capacity);
    tensors->sources = sources;
    tensors->capacity = capacity;
    return BRT_OK;
}

static brt_status measure(const char *name, size_t dims, const size_t *shape, size_t *bytes)
{
    *bytes = sizeof(float);
    if (dims > most_dims)
        return BRT_FAIL(BRT_ERROR_ARGUMENT, "the tensor \"%s\" has %zu dimensions; at most %d are possible", name, dims,
                        most_dims);
    for (size_t i = 0; i < dims; i++)
        if (!brt_mul_ok(*bytes, shape[i], bytes))
            return BRT_FAIL(BRT_ERROR_ARGUMENT, "the size of the tensor \"%s\" overflows", name);
    return BRT_OK;
}

brt_status brt_tensors_add(brt_tensors *tensors, const char *name, size_t dims, const size_t *shape, const float *data)
{
    size_t bytes;
    BRT_TRY(check_created(tensors));
    if (find_source(tensors, name))
        return BRT_FAIL(BRT_ERROR_ARGUMENT, "the set already has a tensor \"%s\"", name);
    BRT_TRY(measure(name, dims, shape, &bytes));
    BRT_TRY(make_room(tensors));
    brt_tensor_source source = {.name = strdup(name), .dtype = "F32", .dims = dims};
    void *copy = malloc(brt_max_size(bytes, 1));
    if (!source.name || !copy) {
        free((char *)source.name);
        free(copy);
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for the tensor \"%s\" (%zu bytes)", name, bytes);
    }
    if (dims > 0)
        memcpy(source.shape, shape, dims * sizeof *shape);
    if (bytes > 0)
        memcpy(copy, data, bytes);
    source.data = copy;
    tensors->sources[tensors->count++] = source;
    return BRT_OK;
}

brt_status brt_tensors_save(const brt_tensors *tensors, const char *path)
{
    static const char *const metadata[] = {"format", "pt", NULL};
    BRT_TRY(check_created(tensors));
    return brt_safetensors_write(path, tensors->sources, tensors->count, metadata);
}
