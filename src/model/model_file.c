/* A model as a directory: config.json and model.safetensors, with the names and shapes of the reference's state_dict(),
 * or, in the paper's arithmetic, of Flax, whose kernels are [in, out]. */
#include "model.h"

#include "../base/file.h"
#include "../base/size.h"
#include "../ckpt/safetensors.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What names may begin with: saved from the reference's trainer wrapper, or as Flax's collection of parameters. */
static const char *const prefixes[] = {"", "transformer.", "params/", "param/"};
enum { prefix_size = 16 };

/* Beside NAME in I8 stands NAME_scale. */
static const char scale_suffix[] = "_scale";

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

/* The shape that a parameter has in files. */
static void file_shape(const brt_parameter *parameter, size_t shape[BRT_MAX_DIMS])
{
    memcpy(shape, parameter->tensor.shape, BRT_MAX_DIMS * sizeof *shape);
    if (parameter->transposed) {
        shape[0] = parameter->tensor.shape[1];
        shape[1] = parameter->tensor.shape[0];
    }
}

static brt_status wrong_shape(const brt_safetensors *file, const brt_parameter *parameter, const size_t *shape,
                              const brt_tensor_info *info)
{
    char found[96], expected[96];
    print_shape(found, sizeof found, info->dims, info->shape);
    print_shape(expected, sizeof expected, parameter->tensor.dims, shape);
    return BRT_FAIL(BRT_ERROR_MISMATCH, "%s: \"%s\" has the shape %s; the configuration asks for %s",
                    brt_safetensors_path(file), parameter->name, found, expected);
}

static bool find_parameter(const brt_safetensors *file, const char *prefix, const brt_parameter *parameter,
                           brt_tensor_info *info)
{
    char name[sizeof parameter->name + prefix_size];
    snprintf(name, sizeof name, "%s%s", prefix, parameter->name);
    return brt_safetensors_find(file, name, info);
}

/* The scales of a tensor in I8, one for each output. */
static brt_status read_scales(const brt_safetensors *file, const char *name, brt_quantized *q)
{
    char scale_name[sizeof((brt_parameter *)0)->name + prefix_size + sizeof scale_suffix];
    brt_tensor_info info;
    snprintf(scale_name, sizeof scale_name, "%s%s", name, scale_suffix);
    if (!brt_safetensors_find(file, scale_name, &info))
        return BRT_FAIL(BRT_ERROR_MISMATCH, "%s: \"%s\" holds I8, and there is no \"%s\" with the scale of each output",
                        brt_safetensors_path(file), name, scale_name);
    if (strcmp(info.dtype, "F32") != 0 || !brt_safetensors_has_shape(&info, 1, &q->out))
        return BRT_FAIL(BRT_ERROR_MISMATCH,
                        "%s: \"%s\" must be F32 and have the shape [%zu], one scale for each output",
                        brt_safetensors_path(file), scale_name, q->out);
    brt_safetensors_to_float(&info, q->scale);
    for (size_t i = 0; i < q->out; i++)
        if (!(isfinite(q->scale[i]) && q->scale[i] >= 0))
            return BRT_FAIL(BRT_ERROR_FORMAT,
                            "%s: \"%s\" has the scale %g for output %zu; it must be finite, and not negative",
                            brt_safetensors_path(file), scale_name, (double)q->scale[i], i);
    return BRT_OK;
}

/* An output is a row of the tensor, or, transposed, a column. */
static brt_status read_quantized(const brt_safetensors *file, const brt_tensor_info *info, bool transposed,
                                 brt_quantized *q)
{
    size_t item = brt_quantized_item(q), step = transposed ? q->out : 1, next = transposed ? 1 : q->in;
    const unsigned char *data = info->data;
    unsigned char *row = malloc(q->in * item);
    if (!row)
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for reading \"%s\"", info->name);
    for (size_t output = 0; output < q->out; output++) {
        for (size_t i = 0; i < q->in; i++)
            memcpy(row + i * item, data + (output * next + i * step) * item, item);
        brt_quantized_set_row(q, output, row);
    }
    free(row);
    return q->precision == BRT_INT8 ? read_scales(file, info->name, q) : BRT_OK;
}

static brt_status read_transposed(const brt_tensor_info *info, const brt_kernels *kernels, brt_parameter *parameter)
{
    size_t rows = info->shape[0], columns = info->shape[1];
    float *values = malloc(info->count * sizeof *values);
    if (!values)
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for reading \"%s\"", info->name);
    brt_safetensors_to_float(info, values);
    kernels->transpose(rows, columns, values, columns, parameter->tensor.data, rows);
    free(values);
    return BRT_OK;
}

static brt_status read_parameter(const brt_safetensors *file, const char *prefix, const brt_kernels *kernels,
                                 brt_parameter *parameter)
{
    brt_tensor_info info;
    size_t shape[BRT_MAX_DIMS];
    file_shape(parameter, shape);
    if (!find_parameter(file, prefix, parameter, &info))
        return BRT_FAIL(BRT_ERROR_MISMATCH, "%s: there is no \"%s%s\", which the configuration asks for",
                        brt_safetensors_path(file), prefix, parameter->name);
    if (!brt_safetensors_has_shape(&info, parameter->tensor.dims, shape))
        return wrong_shape(file, parameter, shape, &info);
    if (parameter->precision != BRT_F32)
        return read_quantized(file, &info, parameter->transposed, &parameter->quantized);
    bool is_real = info.dtype[0] == 'F' || strcmp(info.dtype, "BF16") == 0;
    if (!is_real)
        return BRT_FAIL(BRT_ERROR_MISMATCH, "%s: \"%s\" holds %s, not real numbers", brt_safetensors_path(file),
                        info.name, info.dtype);
    if (parameter->transposed)
        return read_transposed(&info, kernels, parameter);
    brt_safetensors_to_float(&info, parameter->tensor.data);
    return BRT_OK;
}

/* A matrix is held as the file has it. */
typedef struct choice {
    const brt_safetensors *file;
    const char *prefix;
} choice;

static brt_precision choose_as_in_file(const void *context, const brt_parameter *parameter)
{
    const choice *c = context;
    brt_tensor_info info;
    if (!find_parameter(c->file, c->prefix, parameter, &info))
        return BRT_F32;
    if (strcmp(info.dtype, brt_precision_dtype(BRT_INT8)) == 0)
        return BRT_INT8;
    return strcmp(info.dtype, brt_precision_dtype(BRT_BF16)) == 0 ? BRT_BF16 : BRT_F32;
}

/* The scales of a parameter that is in I8. */
static bool names_scales(const char *name, const brt_parameters *parameters)
{
    size_t stem = strlen(name) - strlen(scale_suffix);
    const brt_parameter *parameter =
        ends_with(name, scale_suffix) ? brt_parameters_find(parameters, "%.*s", (int)stem, name) : NULL;
    return parameter && parameter->precision == BRT_INT8;
}

/* Every tensor must be a parameter or its scales, or a `beta` buffer, which the reference keeps beside each gain and
 * which is 0. */
static brt_status check_names(const brt_safetensors *file, const char *prefix, const brt_parameters *parameters)
{
    for (size_t i = 0; i < brt_safetensors_count(file); i++) {
        brt_tensor_info info;
        brt_safetensors_at(file, i, &info);
        const char *name = info.name + strlen(prefix);
        bool known = strncmp(info.name, prefix, strlen(prefix)) == 0 &&
                     (brt_parameters_find(parameters, "%s", name) || names_scales(name, parameters));
        if (!known && !ends_with(info.name, ".beta"))
            return BRT_FAIL(BRT_ERROR_MISMATCH, "%s: \"%s\" is not a parameter of the configured model",
                            brt_safetensors_path(file), info.name);
    }
    return BRT_OK;
}

/* The one with which the file has the embedding. */
static const char *find_prefix(const brt_safetensors *file, const brt_config *config)
{
    char name[64];
    brt_tensor_info info;
    for (size_t i = 0; i < sizeof prefixes / sizeof prefixes[0]; i++) {
        snprintf(name, sizeof name, "%s%s", prefixes[i], brt_arithmetic_of(config)->embedding);
        if (brt_safetensors_find(file, name, &info))
            return prefixes[i];
    }
    return "";
}

static brt_status read_parameters(brt_model *model, const brt_safetensors *file, const char *prefix)
{
    brt_status status = check_names(file, prefix, &model->parameters);
    for (size_t i = 0; i < model->parameters.count && status == BRT_OK; i++)
        status = read_parameter(file, prefix, model->kernels, &model->parameters.items[i]);
    return status;
}

static brt_status read_model(brt_model **out, const brt_config *config, const brt_safetensors *file)
{
    choice as_in_file = {file, find_prefix(file, config)};
    BRT_TRY(brt_model_allocate(out, config, choose_as_in_file, &as_in_file));
    return read_parameters(*out, file, as_in_file.prefix);
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
        status = read_model(&model, config, file);
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
    brt_tensor_source source = {.name = parameter->name,
                                .dtype = brt_precision_dtype(parameter->precision),
                                .dims = parameter->tensor.dims,
                                .data = parameter->tensor.data,
                                .transposed = parameter->transposed};
    file_shape(parameter, source.shape);
    return source;
}

/* A tensor that is in a file beside a parameter: of a gain, "gamma", the buffer "beta", all 0, without which the
 * reference's load_state_dict() refuses the file; of one in I8 its scales. */
typedef char beside_name[sizeof((brt_parameter *)0)->name + sizeof scale_suffix];

/* The tensors of a file. */
typedef struct outgoing {
    brt_tensor_source *sources; /* up to two for each parameter */
    size_t count;
    beside_name *beside;        /* [parameters] */
    float *zeros;               /* as many as the largest gain has numbers */
    void **rows;                /* [parameters], of those that are quantized: a row for each output */
    size_t parameters;
} outgoing;

static size_t largest_gain(const brt_parameters *parameters)
{
    size_t most = 1;
    for (size_t i = 0; i < parameters->count; i++)
        if (ends_with(parameters->items[i].name, ".gamma"))
            most = brt_max_size(most, parameters->items[i].tensor.count);
    return most;
}

static brt_status open_outgoing(outgoing *o, const brt_model *model)
{
    o->parameters = model->parameters.count;
    o->sources = calloc(2 * o->parameters, sizeof *o->sources);
    o->beside = calloc(o->parameters, sizeof *o->beside);
    o->zeros = calloc(largest_gain(&model->parameters), sizeof *o->zeros);
    o->rows = calloc(o->parameters, sizeof *o->rows);
    return o->sources && o->beside && o->zeros && o->rows
               ? BRT_OK
               : BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for saving the model");
}

static void close_outgoing(outgoing *o)
{
    for (size_t i = 0; o->rows && i < o->parameters; i++)
        free(o->rows[i]);
    free(o->rows);
    free(o->sources);
    free(o->beside);
    free(o->zeros);
}

static void add_beta(outgoing *o, brt_tensor_source gain, size_t index)
{
    int stem = (int)(strlen(gain.name) - strlen("gamma"));
    snprintf(o->beside[index], sizeof *o->beside, "%.*sbeta", stem, gain.name);
    gain.name = o->beside[index];
    gain.data = o->zeros;
    o->sources[o->count++] = gain;
}

static void add_scales(outgoing *o, const brt_parameter *parameter, size_t index)
{
    snprintf(o->beside[index], sizeof *o->beside, "%s%s", parameter->name, scale_suffix);
    o->sources[o->count++] = (brt_tensor_source){.name = o->beside[index],
                                                 .dtype = "F32",
                                                 .dims = 1,
                                                 .shape = {parameter->quantized.out},
                                                 .data = parameter->quantized.scale};
}

/* Numbers in rows, one for each output. */
static void *make_rows(const brt_quantized *q)
{
    size_t row_bytes = q->in * brt_quantized_item(q);
    unsigned char *rows = malloc(q->out * row_bytes);
    for (size_t row = 0; rows && row < q->out; row++)
        brt_quantized_get_row(q, row, rows + row * row_bytes);
    return rows;
}

static brt_status add_outgoing(outgoing *o, const brt_parameter *parameter, size_t index)
{
    brt_tensor_source source = source_of(parameter);
    if (parameter->precision != BRT_F32) {
        source.data = o->rows[index] = make_rows(&parameter->quantized);
        if (!source.data)
            return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for saving \"%s\"", parameter->name);
    }
    o->sources[o->count++] = source;
    if (ends_with(parameter->name, ".gamma"))
        add_beta(o, source, index);
    if (parameter->precision == BRT_INT8)
        add_scales(o, parameter, index);
    return BRT_OK;
}

static brt_status write_parameters(const brt_model *model, const char *path)
{
    outgoing o = {0};
    brt_status status = open_outgoing(&o, model);
    for (size_t i = 0; status == BRT_OK && i < model->parameters.count; i++)
        status = add_outgoing(&o, &model->parameters.items[i], i);
    bool flax = model->config.arithmetic == BRT_ARITHMETIC_PAPER;
    const char *const metadata[] = {"format", flax ? "flax" : "pt", NULL};
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
