#include "tokens.h"

#include "decompress.h"

#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "tokens are little-endian and read in place");

/* ---- widths ------------------------------------------------------------------------------------------------- */

#define WIDTH(type)                                                                                    \
    static void read_##type(const unsigned char *data, size_t count, int32_t *out)                     \
    {                                                                                                  \
        for (size_t i = 0; i < count; i++) {                                                           \
            type value;                                                                                \
            memcpy(&value, data + i * sizeof value, sizeof value);                                     \
            out[i] = (int32_t)value;                                                                   \
        }                                                                                              \
    }                                                                                                  \
    /* The first token at or above `bound`; `count` if there is none. */                               \
    static uint64_t find_##type(const unsigned char *data, uint64_t count, uint32_t bound)             \
    {                                                                                                  \
        uint64_t i = 0;                                                                                \
        for (; i < count; i++) {                                                                       \
            type value;                                                                                \
            memcpy(&value, data + i * sizeof value, sizeof value);                                     \
            if (value >= bound)                                                                        \
                break;                                                                                 \
        }                                                                                              \
        return i;                                                                                      \
    }

WIDTH(uint8_t)
WIDTH(uint16_t)
WIDTH(uint32_t)

void brt_tokens_read(const brt_tokens *tokens, uint64_t offset, size_t count, int32_t *out)
{
    const unsigned char *data = tokens->data + offset * tokens->width;
    if (tokens->width == 1)
        read_uint8_t(data, count, out);
    else if (tokens->width == 2)
        read_uint16_t(data, count, out);
    else
        read_uint32_t(data, count, out);
}

brt_tokens brt_tokens_part(const brt_tokens *tokens, uint64_t offset, uint64_t count)
{
    return (brt_tokens){tokens->data + offset * tokens->width, tokens->width, count};
}

static uint64_t find_at_or_above(const brt_tokens *tokens, uint32_t bound)
{
    bool fits_any = tokens->width < sizeof bound && bound >> (8 * tokens->width) != 0;
    if (fits_any)
        return tokens->count;
    if (tokens->width == 1)
        return find_uint8_t(tokens->data, tokens->count, bound);
    if (tokens->width == 2)
        return find_uint16_t(tokens->data, tokens->count, bound);
    return find_uint32_t(tokens->data, tokens->count, bound);
}

brt_status brt_tokens_check(const brt_tokens *tokens, size_t bound, const char *path)
{
    static const uint32_t beyond_int32 = 1u << 31;
    uint32_t limit = bound == 0 || bound > beyond_int32 ? beyond_int32 : (uint32_t)bound;
    uint64_t offset = find_at_or_above(tokens, limit);
    if (offset == tokens->count)
        return BRT_OK;
    uint32_t value = 0;
    memcpy(&value, tokens->data + offset * tokens->width, tokens->width);
    return BRT_FAIL(BRT_ERROR_DATA, "%s: the token at offset %llu is %u; below %u was expected (num_tokens)", path,
                    (unsigned long long)offset, value, limit);
}

/* ---- formats ------------------------------------------------------------------------------------------------ */

static const struct {
    const char *name;
    size_t width; /* 0: as the name and the content tell */
} formats[] = {{"auto", 0}, {"bytes", 1}, {"uint16", 2}, {"uint32", 4}};

enum { format_count = sizeof formats / sizeof formats[0] };

static size_t find_format(const char *name)
{
    size_t i = 0;
    while (i < format_count && strcmp(formats[i].name, name) != 0)
        i++;
    return i;
}

bool brt_tokens_format_exists(const char *format)
{
    return find_format(format) < format_count;
}

static bool is_bin(const char *path)
{
    static const char ending[] = ".bin";
    size_t length = strlen(path), part = sizeof ending - 1;
    if (brt_compression_of(path) != BRT_COMPRESSION_NONE)
        length -= sizeof ".gz" - 1;
    return length >= part && memcmp(path + length - part, ending, part) == 0;
}

/* The files of llm.c begin with 256 int32: magic, version, number of tokens, zeros. Neither magic can open a file
 * without a header: as 16-bit tokens both lie beyond the vocabulary they would belong to. */
enum { header_bytes = 1024 };

typedef struct header_kind {
    uint32_t magic, version;
    size_t width;
} header_kind;

static const header_kind header_kinds[] = {
    {20240520, 1, 2}, /* GPT-2 */
    {20240801, 7, 4}, /* Llama 3 */
};

static uint32_t load_word(const unsigned char *data, size_t index)
{
    uint32_t word;
    memcpy(&word, data + index * sizeof word, sizeof word);
    return word;
}

static const header_kind *find_header(const unsigned char *data, size_t size)
{
    if (size < sizeof(uint32_t))
        return NULL;
    for (size_t i = 0; i < sizeof header_kinds / sizeof header_kinds[0]; i++)
        if (header_kinds[i].magic == load_word(data, 0))
            return &header_kinds[i];
    return NULL;
}

static brt_status check_header(const header_kind *kind, const unsigned char *data, size_t size, size_t width,
                               const char *path)
{
    if (size < header_bytes)
        return BRT_FAIL(BRT_ERROR_FORMAT, "%s has %zu bytes; its header of llm.c alone takes %d", path, size,
                        header_bytes);
    uint32_t version = load_word(data, 1);
    uint64_t count = load_word(data, 2), expected = header_bytes + count * kind->width;
    if (version != kind->version)
        return BRT_FAIL(BRT_ERROR_UNSUPPORTED, "%s has a header of llm.c of version %u; %u was expected", path, version,
                        kind->version);
    if (width != 0 && width != kind->width)
        return BRT_FAIL(BRT_ERROR_FORMAT, "%s holds tokens of %zu bytes by its header of llm.c, not uint%zu", path,
                        kind->width, 8 * width);
    if (size != expected)
        return BRT_FAIL(BRT_ERROR_FORMAT, "%s has %zu bytes; by its header of llm.c (%llu tokens) it must have %llu",
                        path, size, (unsigned long long)count, (unsigned long long)expected);
    return BRT_OK;
}

brt_status brt_tokens_find(brt_tokens *out, const unsigned char *data, size_t size, const char *format,
                           const char *path)
{
    size_t width = formats[find_format(format)].width;
    if (width == 0 && !is_bin(path))
        width = 1;
    const header_kind *kind = width != 1 ? find_header(data, size) : NULL;
    if (kind) {
        BRT_TRY(check_header(kind, data, size, width, path));
        width = kind->width;
        data += header_bytes;
        size -= header_bytes;
    } else if (width == 0) {
        width = 2;
    }
    if (size % width != 0)
        return BRT_FAIL(BRT_ERROR_FORMAT, "%s has %zu bytes; a multiple of the %zu of a token (uint%zu) was expected",
                        path, size, width, 8 * width);
    *out = (brt_tokens){data, width, size / width};
    return BRT_OK;
}
