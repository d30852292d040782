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
    if (!brt_safetensors_has_shape(&info, parameter->tensor.dims, parameter->tensor.shape))
        return wrong_shape(file, parameter, &info);
    bool is_real = info.dtype[0] == 'F' || strcmp(info.dtype, "BF16") == 0;
    if (!is_real)
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

static brt_status read_parameters(brt_model *model, const brt_safetensors *file)
{
    const char *prefix = find_prefix(file);
    brt_status status = check_names(file, prefix, &model->parameters);
    for (size_t i = 0; i < model->parameters.count && status == BRT_OK; i++)
        status = read_parameter(file, prefix, &model->parameters.items[i]);
    return status;
}

/* The weights file is opened, and its header checked, before anything is allocated for it. */
static brt_status load(brt_model **out, const brt_config *config, const char *dir)
{
    char *path = brt_path_join(dir, "model.safetensors");
    if (!path)
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for the path of %s", dir);
    brt_model *model = NULL;
    brt_safetensors *file = NULL;
    brt_status status = brt_safetensors_open(&file, path);
    if (status == BRT_OK)
        status = brt_model_allocate(&model, config);
    if (status == BRT_OK)
        status = read_parameters(model, file);
    if (status == BRT_OK)
        status = brt_parameters_refresh(&model->parameters, 1);
    brt_safetensors_close(file);
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
    if (status == BRT_OK && (status = brt_config_check(config)) != BRT_OK)
        status = BRT_FAIL(status, "the configuration in %s: %s", dir, brt_last_error());
    if (status == BRT_OK)
        status = load(out, config, dir);
    brt_config_close(config);
    return status;
}

static brt_tensor_source source_of(const brt_parameter *parameter)
{
    brt_tensor_source source = {
        .name = parameter->name, .dtype = "F32", .dims = parameter->tensor.dims, .data = parameter->tensor.data};
    memcpy(source.shape, parameter->tensor.shape, parameter->tensor.dims * sizeof source.shape[0]);
    return source;
}

/* The tensors of a file. Beside each gain, "gamma", there is the buffer "beta", all 0: without it the reference's
 * load_state_dict() refuses the file. */
typedef struct outgoing {
    brt_tensor_source *sources; /* up to two for each parameter */
    size_t count;
    char (*beta_names)[sizeof((brt_parameter *)0)->name]; /* [parameters] */
    float *zeros;                                         /* [dim] */
} outgoing;

static brt_status open_outgoing(outgoing *o, const brt_model *model)
{
    size_t parameters = model->parameters.count;
    o->sources = calloc(2 * parameters, sizeof *o->sources);
    o->beta_names = calloc(parameters, sizeof *o->beta_names);
    o->zeros = calloc((size_t)model->config.dim, sizeof *o->zeros);
    return o->sources && o->beta_names && o->zeros ? BRT_OK
                                                   : BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for saving the model");
}

static void close_outgoing(outgoing *o)
{
    free(o->sources);
    free(o->beta_names);
    free(o->zeros);
}

static void add_outgoing(outgoing *o, const brt_parameters *parameters, size_t index)
{
    const brt_parameter *parameter = &parameters->items[index];
    brt_tensor_source source = source_of(parameter);
    o->sources[o->count++] = source;
    if (!ends_with(parameter->name, ".gamma"))
        return;
    char *name = o->beta_names[index];
    int stem = (int)(strlen(parameter->name) - strlen("gamma"));
    snprintf(name, sizeof o->beta_names[index], "%.*sbeta", stem, parameter->name);
    source.name = name;
    source.data = o->zeros;
    o->sources[o->count++] = source;
}

static brt_status write_parameters(const brt_model *model, const char *path)
{
    outgoing o = {0};
    brt_status status = open_outgoing(&o, model);
    for (size_t i = 0; status == BRT_OK && i < model->parameters.count; i++)
        add_outgoing(&o, &model->parameters, i);
    const char *const metadata[] = {"format", "pt", NULL};
    if (status == BRT_OK)
        status = brt_safetensors_write(path, o.sources, o.count, metadata);
    close_outgoing(&o);
    return status;
}

brt_status brt_model_save(const brt_model *model, const char *dir)
{
    BRT_TRY(brt_make_directory(dir));
    BRT_TRY(brt_config_save(&model->config, dir));
    char *weights = brt_path_join(dir, "model.safetensors");
    if (!weights)
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for the path of %s", dir);
    brt_status status = write_parameters(model, weights);
    free(weights);
    return status;
}
