#include "config.h"

#include "../base/file.h"
#include "../base/size.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef enum key_type { type_integer, type_number, type_boolean, type_integers, type_choice } key_type;

typedef struct key {
    brt_config_key public;
    key_type type;
    size_t offset;
    int64_t smallest;           /* of an integer */
    const char *const *choices; /* of a choice: names of the values 0, 1, ...; ends with NULL */
} key;

#define KEY(name, type, smallest, default_value, help)                                                 \
    {{#name, #type, default_value, help}, type_##type, offsetof(brt_config, name), smallest, NULL}
#define CHOICE(name, names, default_value, help)                                                       \
    {{#name, "choice", default_value, help}, type_choice, offsetof(brt_config, name), 0, names}

/* In the order of brt_position_encoding. */
static const char *const position_encodings[] = {"xpos", "rotary", "t5", "dynamic", "alibi", "none", "absolute",
                                                  "fourier", "nn", "orthogonal", NULL};
static const char *const state_cells[] = {"block_recurrent", "memformer", NULL};
static const char *const windows[] = {"block", "exact", "previous", NULL};
static const char *const arithmetics[] = {"reference", "paper", NULL};
static const char *const state_gates[] = {"fixed", "lstm", "full", "residual", NULL};
static const char *const state_updates[] = {"skip", "dual", "single", NULL};
static const char *const attention_scales[] = {"signed", "absolute", NULL};
static const char *const logit_divisors[] = {"vocabulary", "dim", NULL};
static const char *const routed_dtypes[] = {"f32", "bf16", "int8", NULL}; /* in the order of brt_routed_dtype */

/* In the order of brt_compression. */
static const char *const compressions[] = {"convolution", "dilated", "mean", "max", "most_used", NULL};

/* First the reference's, in the order of its constructor. */
static const key keys[] = {
    KEY(num_tokens, integer, 1, "", "size of the vocabulary; 256 for bytes"),
    KEY(dim, integer, 1, "", "width of the model"),
    KEY(depth, integer, 1, "", "number of layers"),
    KEY(dim_head, integer, 2, "64", "width of an attention head; even"),
    KEY(heads, integer, 1, "8", "query heads"),
    KEY(all_layers_qk_rmsnorm, boolean, 0, "false",
        "normalise queries and keys in every layer, not only recurrent ones"),
    KEY(ff_mult, number, 0, "4", "feed-forward width: int(dim * ff_mult * 2 / 3)"),
    KEY(max_seq_len, integer, 1, "1024", "tokens of one segment; a multiple of block_width"),
    KEY(block_width, integer, 1, "512", "tokens of a block, and of the memory of the block before"),
    KEY(recurrent_layers, integers, 0, "depth / 2", "layers, from 1, that write a state"),
    KEY(read_recurrent_layers, integers, 0, "recurrent_layers", "for each of them the layer, not later, that reads it"),
    KEY(num_state_vectors, integer, 0, "block_width", "vectors of a state"),
    KEY(ignore_index, integer, INT32_MIN, "-100", "targets with this value have no loss"),
    KEY(use_flash_attn, boolean, 0, "false", "kept for compatibility: attention is always tiled"),
    KEY(use_compressed_mem, boolean, 0, "false",
        "keep what leaves the memory of the block before, compressed: block_width / 2 entries"),
    KEY(compressed_mem_factor, integer, INT32_MIN, "4", "tokens of one entry; at most block_width; 1: no compression"),
    /* Beyond the reference; the default is what it does. */
    CHOICE(position_encoding, position_encodings, "xpos",
           "how attention to the window knows positions: xpos (rotary with length factors), rotary, t5, dynamic, "
           "alibi, none; the paper's arithmetic has t5, rotary, absolute, alibi, fourier, nn, orthogonal, none"),
    CHOICE(window, windows, "block",
           "keys that a token sees: block (memory and block), exact (block_width keys) or previous (those before its "
           "own)"),
    KEY(enhanced_recurrence, boolean, 0, "false",
        "a layer reads the memory of the layer above it, the last one that of the first"),
    KEY(qk_logit_scale, number, 0, "0",
        "logits of normalised queries and keys are multiplied by this; 0: by dim_head^-0.5, as the package does"),
    KEY(recurrent_qk_rmsnorm, boolean, 0, "true", "recurrent layers normalise their window's queries and keys, too"),
    CHOICE(state_cell, state_cells, "block_recurrent", "how a state becomes the next: block_recurrent or memformer"),
    KEY(state_gate_bias, number, 0, "0",
        "where the state's gates start: sigmoid of it is the share of the new value in a new model's state"),
    KEY(residual_gates, boolean, 0, "false",
        "layers add to the residual stream through gates like the state's (the package's abandoned experiment)"),
    KEY(kv_heads, integer, 1, "1", "heads of keys and values: 1 serves all heads, `heads` one each"),
    CHOICE(compression, compressions, "convolution",
           "how tokens become an entry: convolution or dilated (both learned), mean, max or most_used (by attention)"),
    KEY(routed_layers, integers, 0, "none", "layers, from 1, that also look up what has left the window"),
    KEY(routed_capacity, integer, 1, "250000", "tokens that a routed memory keeps"),
    CHOICE(routed_dtype, routed_dtypes, "bf16", "how it keeps keys and values: f32, bf16, int8"),
    KEY(routes, integer, 1, "4",
        "routes: each chooses for an equal part of the heads; in the paper's arithmetic kv_heads"),
    KEY(routed_tokens, integer, 1, "1024", "tokens that each route chooses"),
    KEY(route_every, integer, 0, "0",
        "tokens after which routes are made anew, from the last token before; 0: once a block, from the states alone"),
    KEY(random_routes, boolean, 0, "false", "for comparison: tokens are drawn, not chosen"),
    KEY(conditional_ff_layers, integers, 0, "none",
        "layers, from 1, whose feed-forward is for chosen tokens only; all have a light one"),
    KEY(conditional_ff_tokens, integer, 1, "block_width / 16",
        "tokens of a block that are chosen, on average; by default rounded up"),
    KEY(light_ff_mult, number, 0, "0.5", "light feed-forward width: int(dim * light_ff_mult * 2 / 3)"),
    CHOICE(arithmetic, arithmetics, "reference",
           "reference (the PyTorch package's) or paper (that of Hutchins et al. 2022, which has the arguments below)"),
    CHOICE(state_gate, state_gates, "fixed", "what lets a new state in: fixed, lstm, full or residual"),
    CHOICE(state_update, state_updates, "skip",
           "what is made of it: skip (no feed-forward), dual (two gates) or single"),
    KEY(feedback, boolean, 0, "false", "every layer reads the state of the last recurrent layer"),
    KEY(cosine_attention, boolean, 0, "true", "queries and keys of length 1, and a learned scale of each head"),
    CHOICE(attention_scale, attention_scales, "signed",
           "that scale as it is (signed, 2022) or its size (absolute, 2025)"),
    CHOICE(logit_divisor, logit_divisors, "vocabulary",
           "logits are divided by the root of the vocabulary (2022) or of dim (2025)"),
    KEY(alibi_bound, number, 0, "0", "least bias of alibi; 0: learned"),
    KEY(position_terms, integer, 2, "7", "curves of the position encoding orthogonal"),
    KEY(position_end, number, 0, "64", "the distance at which its last curve rises"),
};
#undef KEY
#undef CHOICE

enum { key_count = sizeof keys / sizeof keys[0] };
_Static_assert(key_count <= 64, "brt_config.given has a bit for each key");

const brt_config_key *brt_config_key_at(size_t i)
{
    return i < key_count ? &keys[i].public : NULL;
}

static const key *find_key(const char *name)
{
    for (size_t i = 0; i < key_count; i++)
        if (strcmp(keys[i].public.name, name) == 0)
            return &keys[i];
    return NULL;
}

static void *field(brt_config *config, const key *k)
{
    return (char *)config + k->offset;
}

static const void *const_field(const brt_config *config, const key *k)
{
    return (const char *)config + k->offset;
}

bool brt_config_is_given(const brt_config *config, const char *name)
{
    return config->given >> (find_key(name) - keys) & 1;
}

brt_status brt_config_create(brt_config **out)
{
    brt_config *config = calloc(1, sizeof *config);
    if (!config)
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for a configuration");
    config->dim_head = 64;
    config->heads = 8;
    config->ff_mult = 4;
    config->max_seq_len = 1024;
    config->block_width = 512;
    config->ignore_index = -100;
    config->compressed_mem_factor = 4;
    config->kv_heads = 1;
    config->recurrent_qk_rmsnorm = true;
    config->routed_capacity = 250000;
    config->routed_dtype = BRT_ROUTED_BF16;
    config->routes = 4;
    config->routed_tokens = 1024;
    config->light_ff_mult = 0.5;
    config->cosine_attention = true;
    config->position_terms = 7;
    config->position_end = 64;
    *out = config;
    return BRT_OK;
}

void brt_config_close(brt_config *config)
{
    free(config);
}

void brt_free(void *memory)
{
    free(memory);
}

/* ---- setting ----------------------------------------------------------------------------------------- */

static brt_status wrong_type(const key *k, const char *what)
{
    static const char *const expected[] = {"an integer", "a number", "true or false", "a list of integers",
                                           "a name in quotes"};
    return BRT_FAIL(BRT_ERROR_CONFIG, "%s: \"%s\" must be %s", what, k->public.name, expected[k->type]);
}

static brt_status set_integer(int64_t *to, const key *k, const json_t *value, const char *what)
{
    if (!json_is_integer(value))
        return wrong_type(k, what);
    int64_t number = json_integer_value(value);
    if (number < k->smallest || number > INT32_MAX)
        return BRT_FAIL(BRT_ERROR_CONFIG, "%s: \"%s\" is %lld; it must lie between %lld and %d", what, k->public.name,
                        (long long)number, (long long)k->smallest, INT32_MAX);
    *to = number;
    return BRT_OK;
}

static brt_status set_choice(int64_t *to, const key *k, const json_t *value, const char *what)
{
    char expected[160] = "";
    for (size_t i = 0; k->choices[i]; i++) {
        if (json_is_string(value) && strcmp(json_string_value(value), k->choices[i]) == 0) {
            *to = (int64_t)i;
            return BRT_OK;
        }
        size_t length = strlen(expected);
        snprintf(expected + length, sizeof expected - length, "%s\"%s\"", i ? ", " : "", k->choices[i]);
    }
    return BRT_FAIL(BRT_ERROR_CONFIG, "%s: \"%s\" must be one of %s", what, k->public.name, expected);
}

static brt_status set_list(brt_layer_list *to, const key *k, const json_t *value, const char *what)
{
    if (!json_is_array(value))
        return wrong_type(k, what);
    if (json_array_size(value) > BRT_MAX_DEPTH)
        return BRT_FAIL(BRT_ERROR_CONFIG, "%s: \"%s\" has %zu entries; at most %d are supported", what, k->public.name,
                        json_array_size(value), BRT_MAX_DEPTH);
    brt_layer_list list = {0};
    for (; list.count < json_array_size(value); list.count++) {
        const json_t *item = json_array_get(value, list.count);
        if (!json_is_integer(item))
            return wrong_type(k, what);
        list.layer[list.count] = json_integer_value(item);
    }
    *to = list;
    return BRT_OK;
}

static brt_status set_number(double *to, const key *k, const json_t *value, const char *what)
{
    if (!json_is_number(value))
        return wrong_type(k, what);
    *to = json_number_value(value);
    return BRT_OK;
}

static brt_status set_boolean(bool *to, const key *k, const json_t *value, const char *what)
{
    if (!json_is_boolean(value))
        return wrong_type(k, what);
    *to = json_is_true(value);
    return BRT_OK;
}

/* Arguments whose default depends on others: Python's None, null here, stands for it. */
static bool takes_null(const key *k)
{
    return k->type == type_integers || k->offset == offsetof(brt_config, num_state_vectors);
}

static brt_status set_value(brt_config *config, const key *k, const json_t *value, const char *what)
{
    void *to = field(config, k);
    uint64_t bit = UINT64_C(1) << (k - keys);
    if (json_is_null(value) && takes_null(k)) {
        config->given &= ~bit;
        return BRT_OK;
    }
    switch (k->type) {
    case type_integer:
        BRT_TRY(set_integer(to, k, value, what));
        break;
    case type_number:
        BRT_TRY(set_number(to, k, value, what));
        break;
    case type_boolean:
        BRT_TRY(set_boolean(to, k, value, what));
        break;
    case type_integers:
        BRT_TRY(set_list(to, k, value, what));
        break;
    case type_choice:
        BRT_TRY(set_choice(to, k, value, what));
        break;
    }
    config->given |= bit;
    return BRT_OK;
}

brt_status brt_config_from_json(brt_config *config, const json_t *object, const char *what)
{
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)object, name, value)
    {
        const key *k = find_key(name);
        if (!k)
            return BRT_FAIL(BRT_ERROR_CONFIG, "%s: \"%.100s\" is not an argument of the model", what, name);
        BRT_TRY(set_value(config, k, value, what));
    }
    return BRT_OK;
}

brt_status brt_config_set(brt_config *config, const char *name, const char *text)
{
    const key *k = find_key(name);
    if (!k)
        return BRT_FAIL(BRT_ERROR_ARGUMENT, "\"%s\" is not an argument of the model", name);
    bool bare_list = k->type == type_integers && text[0] != '[' && strcmp(text, "null") != 0;
    bool bare_name = k->type == type_choice && text[0] != '"';
    size_t size = strlen(text) + 3;
    char *json = malloc(size);
    if (!json)
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for the argument \"%s\"", name);
    snprintf(json, size, bare_list ? "[%s]" : bare_name ? "\"%s\"" : "%s", text);
    json_t *value = json_loads(json, JSON_DECODE_ANY, NULL);
    free(json);
    if (!value)
        return wrong_type(k, "model argument");
    brt_status status = set_value(config, k, value, "model argument");
    json_decref(value);
    return status;
}

static bool is_json_file(const char *path)
{
    size_t length = strlen(path);
    return length > 5 && strcmp(path + length - 5, ".json") == 0;
}

static brt_status load_file(brt_config *config, const char *path)
{
    json_t *object;
    BRT_TRY(brt_json_load(&object, path));
    brt_status status = brt_config_from_json(config, object, path);
    json_decref(object);
    return status;
}

brt_status brt_config_load(brt_config *config, const char *path)
{
    if (is_json_file(path))
        return load_file(config, path);
    char *inside = brt_path_join(path, "config.json");
    if (!inside)
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for the path of %s", path);
    brt_status status = load_file(config, inside);
    free(inside);
    return status;
}

/* ---- presets ------------------------------------------------------------------------------------------- */

static const struct {
    const char *name, *json;
} presets[] = {
    /* The logit scale with which both learned most (docs/memory.md). */
    {"tiny", "{\"num_tokens\": 256, \"dim\": 128, \"depth\": 4, \"dim_head\": 32, \"heads\": 4, \"max_seq_len\": 512,"
             " \"block_width\": 64, \"num_state_vectors\": 32, \"qk_logit_scale\": 8}"},
    {"small", "{\"num_tokens\": 256, \"dim\": 256, \"depth\": 6, \"dim_head\": 64, \"heads\": 4, \"max_seq_len\": 1024,"
              " \"block_width\": 128, \"num_state_vectors\": 64, \"recurrent_layers\": [4], \"qk_logit_scale\": 8}"},
    /* The reference's train.py. */
    {"reference", "{\"num_tokens\": 256, \"dim\": 512, \"depth\": 6, \"dim_head\": 64, \"heads\": 8,"
                  " \"max_seq_len\": 1024, \"block_width\": 512, \"num_state_vectors\": 512,"
                  " \"recurrent_layers\": [4], \"use_flash_attn\": true}"},
    /* Rec:fixed:skip of Hutchins et al. 2022, small, and as in its size of 150 million parameters. */
    {"paper-tiny", "{\"arithmetic\": \"paper\", \"num_tokens\": 256, \"dim\": 128, \"depth\": 4, \"dim_head\": 32,"
                   " \"heads\": 4, \"ff_mult\": 4, \"max_seq_len\": 512, \"block_width\": 64,"
                   " \"num_state_vectors\": 64}"},
    {"paper-150m", "{\"arithmetic\": \"paper\", \"num_tokens\": 256, \"dim\": 1024, \"depth\": 12, \"dim_head\": 128,"
                   " \"heads\": 8, \"ff_mult\": 4, \"max_seq_len\": 4096, \"block_width\": 512,"
                   " \"num_state_vectors\": 512}"},
};

brt_status brt_config_preset(brt_config *config, const char *name)
{
    for (size_t i = 0; i < sizeof presets / sizeof presets[0]; i++) {
        if (strcmp(presets[i].name, name) != 0)
            continue;
        json_t *object;
        BRT_TRY(brt_json_parse(&object, presets[i].json, strlen(presets[i].json), name));
        brt_status status = brt_config_from_json(config, object, name);
        json_decref(object);
        return status;
    }
    return BRT_FAIL(BRT_ERROR_ARGUMENT, "there is no preset \"%s\"; the presets are tiny, small, reference, "
                    "paper-tiny and paper-150m", name);
}

/* ---- reading back ----------------------------------------------------------------------------------------- */

static json_t *list_to_json(const brt_layer_list *list)
{
    json_t *array = json_array();
    for (size_t i = 0; array && i < list->count; i++)
        json_array_append_new(array, json_integer(list->layer[i]));
    return array;
}

static json_t *number_to_json(double number)
{
    return number == floor(number) && fabs(number) < 1e15 ? json_integer((json_int_t)number) : json_real(number);
}

static json_t *value_to_json(const brt_config *config, const key *k)
{
    const void *from = const_field(config, k);
    switch (k->type) {
    case type_integer:
        return json_integer(*(const int64_t *)from);
    case type_number:
        return number_to_json(*(const double *)from);
    case type_boolean:
        return json_boolean(*(const bool *)from);
    case type_integers:
        return list_to_json(from);
    case type_choice:
        return json_string(k->choices[*(const int64_t *)from]);
    }
    return NULL;
}

json_t *brt_config_to_json(const brt_config *config)
{
    json_t *object = json_object();
    for (size_t i = 0; object && i < key_count; i++)
        if (json_object_set_new(object, keys[i].public.name, value_to_json(config, &keys[i])) != 0) {
            json_decref(object);
            return NULL;
        }
    return object;
}

brt_status brt_config_json(const brt_config *config, char **out)
{
    json_t *object = brt_config_to_json(config);
    *out = object ? json_dumps(object, JSON_INDENT(2) | JSON_REAL_PRECISION(17)) : NULL;
    json_decref(object);
    return *out ? BRT_OK : BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for the configuration as JSON");
}

brt_status brt_config_save(const brt_config *config, const char *dir)
{
    char *path = brt_path_join(dir, "config.json");
    json_t *object = brt_config_to_json(config);
    brt_status status = path && object ? brt_json_save(object, path)
                                       : BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for the configuration in %s", dir);
    json_decref(object);
    free(path);
    return status;
}

int64_t brt_config_get(const brt_config *config, const char *name)
{
    const key *k = find_key(name);
    if (!k)
        return -1;
    const void *from = const_field(config, k);
    switch (k->type) {
    case type_integer:
    case type_choice:
        return *(const int64_t *)from;
    case type_number:
        return (int64_t)*(const double *)from;
    case type_boolean:
        return *(const bool *)from;
    case type_integers:
        return (int64_t)((const brt_layer_list *)from)->count;
    }
    return -1;
}
