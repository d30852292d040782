#define _GNU_SOURCE
#include "safetensors.h"

#include "../base/file.h"
#include "../base/json.h"
#include "../base/size.h"

#include <stdlib.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the format is little-endian and its data is read in place");

enum {
    most_dims = sizeof(((brt_tensor_info *)NULL)->shape) / sizeof(size_t),
    length_bytes = 8,
    data_alignment = 64,
    most_header_bytes = 100 * 1000 * 1000, /* the format's own limit */
};

static const char metadata_key[] = "__metadata__";

/* ---- element types ------------------------------------------------------------------------------------------ */

/* The data of a file need not be aligned: elements are loaded with memcpy. */
#define CONVERTER(name, type, expression)                                                              \
    static void name(const unsigned char *data, size_t count, float *out)                              \
    {                                                                                                  \
        for (size_t i = 0; i < count; i++) {                                                           \
            type value;                                                                                \
            memcpy(&value, data + i * sizeof value, sizeof value);                                     \
            out[i] = expression;                                                                       \
        }                                                                                              \
    }

static float float_of_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* A small float of IEEE layout, its exponent's bias half of its range. Without infinities (E4M3) only a pattern of
 * all ones is no number. */
static float widen(uint32_t bits, int exponent_bits, int fraction_bits, bool has_infinities)
{
    uint32_t exponent_mask = (1u << exponent_bits) - 1, fraction_mask = (1u << fraction_bits) - 1;
    uint32_t exponent = bits >> fraction_bits & exponent_mask, fraction = bits & fraction_mask;
    uint32_t sign = bits >> (exponent_bits + fraction_bits) << 31, bias = exponent_mask >> 1;
    uint32_t wide_fraction = fraction << (23 - fraction_bits);
    if (exponent == exponent_mask && (has_infinities || fraction == fraction_mask))
        return float_of_bits(sign | 0x7F800000u | wide_fraction);
    if (exponent > 0)
        return float_of_bits(sign | (exponent + 127 - bias) << 23 | wide_fraction);
    float unit = float_of_bits((128 - bias - (uint32_t)fraction_bits) << 23);
    return (sign ? -unit : unit) * (float)fraction;
}

CONVERTER(from_bool, uint8_t, value != 0)
CONVERTER(from_u8, uint8_t, value)
CONVERTER(from_i8, int8_t, value)
CONVERTER(from_u16, uint16_t, value)
CONVERTER(from_i16, int16_t, value)
CONVERTER(from_u32, uint32_t, (float)value)
CONVERTER(from_i32, int32_t, (float)value)
CONVERTER(from_u64, uint64_t, (float)value)
CONVERTER(from_i64, int64_t, (float)value)
CONVERTER(from_e5m2, uint8_t, widen(value, 5, 2, true))
CONVERTER(from_e4m3, uint8_t, widen(value, 4, 3, false))
CONVERTER(from_f16, uint16_t, widen(value, 5, 10, true))
CONVERTER(from_bf16, uint16_t, float_of_bits((uint32_t)value << 16))
CONVERTER(from_f32, float, value)
CONVERTER(from_f64, double, (float)value)

typedef struct element_type {
    const char *name;
    size_t bytes;
    void (*to_float)(const unsigned char *data, size_t count, float *out);
} element_type;

static const element_type element_types[] = {
    {"F32", 4, from_f32},   {"F64", 8, from_f64}, {"F16", 2, from_f16},       {"BF16", 2, from_bf16},
    {"I64", 8, from_i64},   {"I32", 4, from_i32}, {"I16", 2, from_i16},       {"I8", 1, from_i8},
    {"U64", 8, from_u64},   {"U32", 4, from_u32}, {"U16", 2, from_u16},       {"U8", 1, from_u8},
    {"BOOL", 1, from_bool}, {"F8_E5M2", 1, from_e5m2}, {"F8_E4M3", 1, from_e4m3},
};

static const element_type *find_element_type(const char *name)
{
    for (size_t i = 0; i < sizeof element_types / sizeof element_types[0]; i++)
        if (strcmp(element_types[i].name, name) == 0)
            return &element_types[i];
    return NULL;
}

size_t brt_safetensors_bytes(const brt_tensor_info *tensor)
{
    return tensor->count * find_element_type(tensor->dtype)->bytes;
}

void brt_safetensors_to_float(const brt_tensor_info *tensor, float *out)
{
    find_element_type(tensor->dtype)->to_float(tensor->data, tensor->count, out);
}

/* *count = product of the shape, *bytes = count * element; false when one overflows. */
static bool measure(size_t dims, const size_t *shape, size_t element, size_t *count, size_t *bytes)
{
    *count = 1;
    *bytes = 0;
    for (size_t i = 0; i < dims; i++)
        if (!brt_mul_ok(*count, shape[i], count))
            return false;
    return brt_mul_ok(*count, element, bytes);
}

/* ---- reading ------------------------------------------------------------------------------------------------ */

typedef struct entry {
    brt_tensor_info info;
    size_t begin, end; /* within the data */
} entry;

struct brt_safetensors {
    brt_mapping mapping; /* empty where the caller owns the buffer */
    char *path;
    json_t *header; /* owns the tensors' names */
    const unsigned char *data;
    size_t data_size;
    entry *entries; /* in the order of the data */
    const entry **by_name;
    size_t count;
};

/* A name from outside may be of any length; the sentence must still say what is wrong. */
#define TENSOR "%s: the tensor \"%.100s\" "

static brt_status find_header(brt_safetensors *file, const unsigned char *bytes, size_t size, size_t *header_size)
{
    uint64_t length;
    if (size < length_bytes)
        return BRT_FAIL(BRT_ERROR_FORMAT, "%s has %zu bytes; a safetensors file begins with 8 bytes of header length",
                        file->path, size);
    memcpy(&length, bytes, sizeof length);
    if (length > most_header_bytes)
        return BRT_FAIL(BRT_ERROR_FORMAT,
                        "%s is no safetensors file: its header would have %llu bytes; at most %d are allowed",
                        file->path, (unsigned long long)length, most_header_bytes);
    if (length > size - length_bytes)
        return BRT_FAIL(BRT_ERROR_FORMAT, "%s is cut short: its header has %llu bytes, of which %zu are there",
                        file->path, (unsigned long long)length, size - length_bytes);
    if (length == 0 || bytes[length_bytes] != '{')
        return BRT_FAIL(BRT_ERROR_FORMAT, "%s is no safetensors file: its header does not begin with \"{\"",
                        file->path);
    *header_size = (size_t)length;
    file->data = bytes + length_bytes + length;
    file->data_size = size - length_bytes - (size_t)length;
    return BRT_OK;
}

static brt_status check_metadata(const brt_safetensors *file)
{
    json_t *metadata = json_object_get(file->header, metadata_key), *value;
    const char *key;
    if (metadata && !json_is_object(metadata))
        return BRT_FAIL(BRT_ERROR_FORMAT, "%s: \"%s\" is not an object", file->path, metadata_key);
    json_object_foreach(metadata, key, value)
        if (!json_is_string(value))
            return BRT_FAIL(BRT_ERROR_FORMAT, "%s: \"%.100s\" in \"%s\" is not a string", file->path, key,
                            metadata_key);
    return BRT_OK;
}

/* A size or offset: an integer that is not negative. */
static bool read_size(const json_t *value, size_t *out)
{
    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return false;
    *out = (size_t)json_integer_value(value);
    return (json_int_t)*out == json_integer_value(value);
}

static brt_status read_shape(const brt_safetensors *file, const json_t *shape, brt_tensor_info *info)
{
    if (!json_is_array(shape))
        return BRT_FAIL(BRT_ERROR_FORMAT, TENSOR "has no list \"shape\"", file->path, info->name);
    info->dims = json_array_size(shape);
    if (info->dims > most_dims)
        return BRT_FAIL(BRT_ERROR_UNSUPPORTED, TENSOR "has %zu dimensions; at most %d are supported", file->path,
                        info->name, info->dims, most_dims);
    for (size_t i = 0; i < info->dims; i++)
        if (!read_size(json_array_get(shape, i), &info->shape[i]))
            return BRT_FAIL(BRT_ERROR_FORMAT, TENSOR "has a \"shape\" whose entry %zu is no size", file->path,
                            info->name, i);
    return BRT_OK;
}

static brt_status read_offsets(const brt_safetensors *file, const json_t *offsets, entry *e)
{
    if (json_array_size(offsets) != 2 || !read_size(json_array_get(offsets, 0), &e->begin) ||
        !read_size(json_array_get(offsets, 1), &e->end))
        return BRT_FAIL(BRT_ERROR_FORMAT, TENSOR "has no \"data_offsets\" of two sizes", file->path, e->info.name);
    if (e->begin > e->end || e->end > file->data_size)
        return BRT_FAIL(BRT_ERROR_FORMAT, TENSOR "has data_offsets [%zu, %zu], outside the %zu bytes of data",
                        file->path, e->info.name, e->begin, e->end, file->data_size);
    e->info.data = file->data + e->begin;
    return BRT_OK;
}

static brt_status read_entry(const brt_safetensors *file, const char *name, const json_t *object, entry *e)
{
    const char *type_name = json_string_value(json_object_get(object, "dtype"));
    e->info.name = name;
    if (!type_name)
        return BRT_FAIL(BRT_ERROR_FORMAT, TENSOR "has no \"dtype\"", file->path, name);
    const element_type *type = find_element_type(type_name);
    if (!type)
        return BRT_FAIL(BRT_ERROR_UNSUPPORTED, TENSOR "has the unknown dtype \"%.40s\"", file->path, name, type_name);
    e->info.dtype = type->name;
    BRT_TRY(read_shape(file, json_object_get(object, "shape"), &e->info));
    BRT_TRY(read_offsets(file, json_object_get(object, "data_offsets"), e));
    size_t bytes;
    if (!measure(e->info.dims, e->info.shape, type->bytes, &e->info.count, &bytes))
        return BRT_FAIL(BRT_ERROR_FORMAT, TENSOR "has a \"shape\" whose size overflows", file->path, name);
    if (bytes != e->end - e->begin)
        return BRT_FAIL(BRT_ERROR_FORMAT, TENSOR "takes %zu bytes by shape and dtype, but %zu by its data_offsets",
                        file->path, name, bytes, e->end - e->begin);
    return BRT_OK;
}

static int by_offset(const void *a, const void *b)
{
    const entry *left = a, *right = b;
    if (left->begin != right->begin)
        return left->begin < right->begin ? -1 : 1;
    return left->end < right->end ? -1 : left->end > right->end;
}

static brt_status check_cover(const brt_safetensors *file)
{
    size_t end = 0;
    for (size_t i = 0; i < file->count; i++) {
        const entry *e = &file->entries[i];
        if (e->begin != end)
            return BRT_FAIL(BRT_ERROR_FORMAT,
                            TENSOR "begins at byte %zu of the data; %zu was expected: no gap, no overlap", file->path,
                            e->info.name, e->begin, end);
        end = e->end;
    }
    if (end != file->data_size)
        return BRT_FAIL(BRT_ERROR_FORMAT, "%s has %zu bytes of data, of which its tensors cover %zu", file->path,
                        file->data_size, end);
    return BRT_OK;
}

static int by_name(const void *a, const void *b)
{
    const entry *const *left = a, *const *right = b;
    return strcmp((*left)->info.name, (*right)->info.name);
}

static brt_status read_entries(brt_safetensors *file)
{
    size_t size = json_object_size(file->header);
    file->entries = calloc(size + 1, sizeof *file->entries);
    file->by_name = calloc(size + 1, sizeof *file->by_name);
    if (!file->entries || !file->by_name)
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for the %zu tensors of %s", size, file->path);
    const char *name;
    json_t *value;
    json_object_foreach(file->header, name, value)
    {
        if (strcmp(name, metadata_key) != 0)
            BRT_TRY(read_entry(file, name, value, &file->entries[file->count++]));
    }
    qsort(file->entries, file->count, sizeof *file->entries, by_offset);
    BRT_TRY(check_cover(file));
    for (size_t i = 0; i < file->count; i++)
        file->by_name[i] = &file->entries[i];
    qsort(file->by_name, file->count, sizeof *file->by_name, by_name);
    return BRT_OK;
}

static brt_status read_file(brt_safetensors *file, const unsigned char *bytes, size_t size)
{
    size_t header_size = 0;
    if (!file->path)
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for reading tensors");
    BRT_TRY(find_header(file, bytes, size, &header_size));
    brt_status status = brt_json_parse(&file->header, (const char *)bytes + length_bytes, header_size, file->path);
    if (status != BRT_OK)
        return BRT_FAIL(status, "in the header of %s", brt_last_error());
    BRT_TRY(check_metadata(file));
    return read_entries(file);
}

brt_status brt_safetensors_parse(brt_safetensors **out, const void *data, size_t size, const char *what)
{
    *out = NULL;
    brt_safetensors *file = calloc(1, sizeof *file);
    if (!file)
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for reading %s", what);
    file->path = strdup(what);
    brt_status status = read_file(file, data, size);
    if (status == BRT_OK)
        *out = file;
    else
        brt_safetensors_close(file);
    return status;
}

brt_status brt_safetensors_open(brt_safetensors **out, const char *path)
{
    *out = NULL;
    brt_mapping mapping;
    BRT_TRY(brt_file_map(&mapping, path));
    brt_status status = brt_safetensors_parse(out, mapping.data, mapping.size, path);
    if (status == BRT_OK)
        (*out)->mapping = mapping;
    else
        brt_file_unmap(&mapping);
    return status;
}

void brt_safetensors_close(brt_safetensors *file)
{
    if (!file)
        return;
    json_decref(file->header);
    free(file->entries);
    free(file->by_name);
    free(file->path);
    brt_file_unmap(&file->mapping);
    free(file);
}

size_t brt_safetensors_count(const brt_safetensors *file)
{
    return file->count;
}

void brt_safetensors_at(const brt_safetensors *file, size_t index, brt_tensor_info *out)
{
    *out = file->entries[index].info;
}

bool brt_safetensors_find(const brt_safetensors *file, const char *name, brt_tensor_info *out)
{
    const entry wanted = {.info.name = name}, *key = &wanted;
    const entry *const *found = bsearch(&key, file->by_name, file->count, sizeof *file->by_name, by_name);
    if (found)
        *out = (*found)->info;
    return found != NULL;
}

const char *brt_safetensors_metadata(const brt_safetensors *file, const char *key)
{
    return json_string_value(json_object_get(json_object_get(file->header, metadata_key), key));
}

bool brt_safetensors_has_shape(const brt_tensor_info *tensor, size_t dims, const size_t *shape)
{
    bool same = tensor->dims == dims;
    for (size_t i = 0; same && i < dims; i++)
        same = tensor->shape[i] == shape[i];
    return same;
}

const char *brt_safetensors_path(const brt_safetensors *file)
{
    return file->path;
}

/* ---- writing ------------------------------------------------------------------------------------------------ */

/* A tensor's bytes; whatever the reader would refuse is refused. */
static brt_status check_source(const char *path, const json_t *header, const brt_tensor_source *tensor, size_t *bytes)
{
    const element_type *type = find_element_type(tensor->dtype);
    size_t count;
    if (json_object_get(header, tensor->name) || strcmp(tensor->name, metadata_key) == 0)
        return BRT_FAIL(BRT_ERROR_ARGUMENT, TENSOR "cannot be written: the name is taken", path, tensor->name);
    if (!type)
        return BRT_FAIL(BRT_ERROR_ARGUMENT, TENSOR "cannot be written: its dtype \"%s\" is unknown", path, tensor->name,
                        tensor->dtype);
    if (tensor->dims > most_dims)
        return BRT_FAIL(BRT_ERROR_ARGUMENT, TENSOR "cannot be written: it has %zu dimensions, at most %d are possible",
                        path, tensor->name, tensor->dims, most_dims);
    if (!measure(tensor->dims, tensor->shape, type->bytes, &count, bytes))
        return BRT_FAIL(BRT_ERROR_ARGUMENT, TENSOR "cannot be written: its size overflows", path, tensor->name);
    return BRT_OK;
}

/* NULL unless it is complete. */
static json_t *shape_to_json(const brt_tensor_source *tensor)
{
    json_t *shape = json_array();
    for (size_t i = 0; i < tensor->dims; i++)
        if (json_array_append_new(shape, json_integer((json_int_t)tensor->shape[i])) != 0) {
            json_decref(shape);
            return NULL;
        }
    return shape;
}

static brt_status describe_tensor(const char *path, json_t *header, const brt_tensor_source *tensor, size_t *offset)
{
    size_t bytes = 0, end;
    BRT_TRY(check_source(path, header, tensor, &bytes));
    if (!brt_add_ok(*offset, bytes, &end))
        return BRT_FAIL(BRT_ERROR_ARGUMENT, TENSOR "cannot be written: the file's size overflows", path, tensor->name);
    json_t *object = json_pack("{s:s, s:o, s:[I, I]}", "dtype", tensor->dtype, "shape", shape_to_json(tensor),
                               "data_offsets", (json_int_t)*offset, (json_int_t)end);
    if (!object)
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for the header of %s", path);
    if (json_object_set_new(header, tensor->name, object) != 0)
        return BRT_FAIL(BRT_ERROR_ARGUMENT, TENSOR "cannot be written: its name is not UTF-8", path, tensor->name);
    *offset = end;
    return BRT_OK;
}

static brt_status describe_metadata(const char *path, json_t *header, const char *const *metadata)
{
    if (!metadata || !metadata[0])
        return BRT_OK;
    json_t *object = json_object();
    if (!object || json_object_set_new(header, metadata_key, object) != 0)
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for the header of %s", path);
    for (size_t i = 0; metadata[i]; i += 2)
        if (json_object_set_new(object, metadata[i], json_string(metadata[i + 1])) != 0)
            return BRT_FAIL(BRT_ERROR_ARGUMENT, "cannot write %s: \"%.100s\" or its value is not UTF-8", path,
                            metadata[i]);
    return BRT_OK;
}

static brt_status fill_header(json_t *header, const char *path, const brt_tensor_source *tensors, size_t count,
                              const char *const *metadata)
{
    size_t offset = 0;
    BRT_TRY(describe_metadata(path, header, metadata));
    for (size_t i = 0; i < count; i++)
        BRT_TRY(describe_tensor(path, header, &tensors[i], &offset));
    return BRT_OK;
}

/* The header's text, to be freed. */
static brt_status make_header(char **out, const char *path, const brt_tensor_source *tensors, size_t count,
                              const char *const *metadata)
{
    *out = NULL;
    json_t *header = json_object();
    if (!header)
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for the header of %s", path);
    brt_status status = fill_header(header, path, tensors, count, metadata);
    if (status == BRT_OK)
        *out = json_dumps(header, JSON_COMPACT);
    json_decref(header);
    if (status == BRT_OK && !*out)
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for the header of %s", path);
    return status;
}

/* Spaces after the header bring the data to a multiple of 64 bytes. Gaps between tensors are not allowed, so the
 * tensors after the first lie where the sizes of those before put them. */
static brt_status write_header(brt_writer *writer, const char *header, const char *path)
{
    static const char spaces[] = "                                                                ";
    _Static_assert(sizeof spaces - 1 == data_alignment, "one space fewer than this may be needed");
    size_t length = strlen(header), past = (length_bytes + length) % data_alignment;
    size_t padding = past ? data_alignment - past : 0;
    uint64_t padded = length + padding;
    if (padded > most_header_bytes)
        return BRT_FAIL(BRT_ERROR_ARGUMENT, "cannot write %s: its header has %llu bytes; the format allows %d", path,
                        (unsigned long long)padded, most_header_bytes);
    BRT_TRY(brt_writer_write(writer, &padded, sizeof padded));
    BRT_TRY(brt_writer_write(writer, header, length));
    return brt_writer_write(writer, spaces, padding);
}

/* A few rows at a time, so that reading along their columns takes whole cache lines. */
static brt_status write_transposed(brt_writer *writer, const brt_tensor_source *tensor)
{
    enum { most_rows = 16 };
    size_t rows = tensor->shape[0], columns = tensor->shape[1], item = find_element_type(tensor->dtype)->bytes;
    const unsigned char *data = tensor->data; /* [columns, rows] */
    unsigned char *buffer = malloc(most_rows * columns * item);
    brt_status status = buffer ? BRT_OK : BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for writing \"%s\"", tensor->name);
    for (size_t first = 0; first < rows && status == BRT_OK; first += most_rows) {
        size_t count = brt_min_size(most_rows, rows - first);
        for (size_t column = 0; column < columns; column++)
            for (size_t row = 0; row < count; row++)
                memcpy(buffer + (row * columns + column) * item, data + (column * rows + first + row) * item, item);
        status = brt_writer_write(writer, buffer, count * columns * item);
    }
    free(buffer);
    return status;
}

static brt_status write_tensor(brt_writer *writer, const brt_tensor_source *tensor)
{
    size_t elements, bytes;
    if (tensor->transposed)
        return write_transposed(writer, tensor);
    measure(tensor->dims, tensor->shape, find_element_type(tensor->dtype)->bytes, &elements, &bytes);
    return brt_writer_write(writer, tensor->data, bytes);
}

static brt_status write_all(brt_writer *writer, const char *path, const char *header, const brt_tensor_source *tensors,
                            size_t count)
{
    BRT_TRY(write_header(writer, header, path));
    for (size_t i = 0; i < count; i++)
        BRT_TRY(write_tensor(writer, &tensors[i]));
    return BRT_OK;
}

brt_status brt_safetensors_write(const char *path, const brt_tensor_source *tensors, size_t count,
                                 const char *const *metadata)
{
    char *header;
    BRT_TRY(make_header(&header, path, tensors, count, metadata));
    brt_writer *writer;
    brt_status status = brt_writer_open(&writer, path);
    if (status == BRT_OK) {
        status = write_all(writer, path, header, tensors, count);
        if (status == BRT_OK)
            status = brt_writer_commit(writer);
        else
            brt_writer_abandon(writer);
    }
    free(header);
    return status;
}
