/* A model as a directory: config.json and model.safetensors, with the names and shapes of the reference's
 * state_dict(). */
#include "model.h"

#include "../base/file.h"
#include "../ckpt/safetensors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Saved from the reference's trainer wrapper, names begin with this. */
static const char wrapper_prefix[] = "transformer.";

static bool ends_with(const char *name, const char *end)
{
    size_t length = strlen(name), tail = strlen(end);
    return length >= tail && strcmp(name + length - tail, end) == 0;
}

static bool same_shape(const brt_tensor *tensor, const brt_tensor_info *info)
{
    if (tensor->dims != info->dims)
        return false;
    for (size_t i = 0; i < tensor->dims; i++)
        if (tensor->shape[i] != info->shape[i])
            return false;
    return true;
}

static void print_shape(char *text, size_t size, size_t dims, const size_t *shape)
{
    size_t used = (size_t)snprintf(text, size, "[");
    for (size_t i = 0; i < dims && used < size; i++)
        used += (size_t)snprintf(text + used, size - used, i ? ", %zu" : "%zu", shape[i]);
    if (used < size)
        snprintf(text + used, size - used, "]");
}

static brt_status wrong_shape(const brt_safetensors *file, const brt_parameter *parameter, const brt_tensor_info *info)
{
    char found[96], expected[96];
    print_shape(found, sizeof found, info->dims, info->shape);
    print_shape(expected, sizeof expected, parameter->tensor.dims, parameter->tensor.shape);
    return BRT_FAIL(BRT_ERROR_MISMATCH, "%s: \"%s\" has the shape %s; the configuration asks for %s",
                    brt_safetensors_path(file), parameter->name, found, expected);
}

static brt_status read_parameter(const brt_safetensors *file, const char *prefix, const brt_parameter *parameter)
{
    char name[sizeof parameter->name + sizeof wrapper_prefix];
    snprintf(name, sizeof name, "%s%s", prefix, parameter->name);
    brt_tensor_info info;
    if (!brt_safetensors_find(file, name, &info))
        return BRT_FAIL(BRT_ERROR_MISMATCH, "%s: there is no \"%s\", which the configuration asks for",
                        brt_safetensors_path(file), name);
    if (!same_shape(&parameter->tensor, &info))
        return wrong_shape(file, parameter, &info);
    if (info.dtype[0] != 'F' && info.dtype[0] != 'B')
        return BRT_FAIL(BRT_ERROR_MISMATCH, "%s: \"%s\" holds %s, not real numbers", brt_safetensors_path(file), name,
                        info.dtype);
    brt_safetensors_to_float(&info, parameter->tensor.data);
    return BRT_OK;
}

/* Every tensor must be a parameter, or a `beta` buffer, which the reference keeps beside each gain and which is 0. */
static brt_status check_names(const brt_safetensors *file, const char *prefix, const brt_parameters *parameters)
{
    for (size_t i = 0; i < brt_safetensors_count(file); i++) {
        brt_tensor_info info;
        brt_safetensors_at(file, i, &info);
        bool known = strncmp(info.name, prefix, strlen(prefix)) == 0 &&
                     brt_parameters_find(parameters, "%s", info.name + strlen(prefix));
        if (!known && !ends_with(info.name, ".beta"))
            return BRT_FAIL(BRT_ERROR_MISMATCH, "%s: \"%s\" is not a parameter of the configured model",
                            brt_safetensors_path(file), info.name);
    }
    return BRT_OK;
}

static const char *find_prefix(const brt_safetensors *file)
{
    brt_tensor_info info;
    return brt_safetensors_find(file, "transformer.token_emb.weight", &info) ? wrapper_prefix : "";
}

static brt_status read_parameters(brt_model *model, const char *path)
{
    brt_safetensors *file;
    BRT_TRY(brt_safetensors_open(&file, path));
    const char *prefix = find_prefix(file);
    brt_status status = check_names(file, prefix, &model->parameters);
    for (size_t i = 0; i < model->parameters.count && status == BRT_OK; i++)
        status = read_parameter(file, prefix, &model->parameters.items[i]);
    brt_safetensors_close(file);
    return status;
}

/* The weights file must be there, and as large as the configuration asks, before anything is allocated for it. */
static brt_status load(brt_model **out, const brt_config *config, const char *dir)
{
    char *path = brt_path_join(dir, "model.safetensors");
    if (!path)
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for the path of %s", dir);
    brt_model *model = NULL;
    brt_status status = brt_model_allocate(&model, config);
    if (status == BRT_OK)
        status = read_parameters(model, path);
    if (status == BRT_OK)
        status = brt_parameters_refresh(&model->parameters, 1);
    free(path);
    if (status != BRT_OK) {
        brt_model_close(model);
        return status;
    }
    *out = model;
    return BRT_OK;
}

brt_status brt_model_load(brt_model **out, const char *dir)
{
    brt_config *config;
    BRT_TRY(brt_config_create(&config));
    brt_status status = brt_config_load(config, dir);
    if (status == BRT_OK)
        status = load(out, config, dir);
    brt_config_close(config);
    return status;
}

static brt_status write_parameters(const brt_model *model, const char *path)
{
    const brt_parameters *parameters = &model->parameters;
    brt_tensor_source *sources = calloc(parameters->count, sizeof *sources);
    if (!sources)
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for saving %s", path);
    for (size_t i = 0; i < parameters->count; i++) {
        const brt_parameter *parameter = &parameters->items[i];
        sources[i] = (brt_tensor_source){.name = parameter->name,
                                         .dtype = "F32",
                                         .dims = parameter->tensor.dims,
                                         .data = parameter->tensor.data};
        memcpy(sources[i].shape, parameter->tensor.shape, parameter->tensor.dims * sizeof sources[i].shape[0]);
    }
    const char *const metadata[] = {"format", "pt", NULL};
    brt_status status = brt_safetensors_write(path, sources, parameters->count, metadata);
    free(sources);
    return status;
}

static brt_status write_config(const brt_config *config, const char *path)
{
    json_t *object = brt_config_to_json(config);
    if (!object)
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for saving %s", path);
    brt_status status = brt_json_save(object, path);
    json_decref(object);
    return status;
}

brt_status brt_model_save(const brt_model *model, const char *dir)
{
    BRT_TRY(brt_make_directory(dir));
    char *config = brt_path_join(dir, "config.json"), *weights = brt_path_join(dir, "model.safetensors");
    brt_status status = config && weights ? BRT_OK : BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for the path of %s", dir);
    if (status == BRT_OK)
        status = write_config(&model->config, config);
    if (status == BRT_OK)
        status = write_parameters(model, weights);
    free(config);
    free(weights);
    return status;
}
